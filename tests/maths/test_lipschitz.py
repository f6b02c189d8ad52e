"""Lipschitz constants: what is proven stays apart from what is measured."""

import numpy as np
import pytest

from steerax import ConfigurationError
from steerax.maths.lipschitz import Certified, Estimated, attention_lipschitz, propagate


def attention(x, A, V, residual):
    s = x @ A @ x.T
    w = np.exp(s - s.max(-1, keepdims=True))
    return (w / w.sum(-1, keepdims=True)) @ x @ V.T + residual * x


@pytest.mark.parametrize("residual", [False, True])
def test_attention_bound_holds_and_is_not_vacuous(residual):
    rng = np.random.default_rng(0)
    ratio = 0.0
    for _ in range(300):
        n, D, R = rng.integers(2, 7), 2, 1.5
        A, V = rng.normal(size=(2, D, D))
        x = rng.normal(size=(n, D))
        x *= R * rng.uniform(0, 1, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
        y = x + 1e-6 * rng.normal(size=x.shape)
        y /= np.maximum(1, np.linalg.norm(y, axis=1, keepdims=True) / R)
        moved = np.linalg.norm(attention(x, A, V, residual) - attention(y, A, V, residual), axis=1).max()
        bound = attention_lipschitz(R, np.linalg.norm(A, 2), np.linalg.norm(V, 2), residual)
        ratio = max(ratio, moved / np.linalg.norm(x - y, axis=1).max() / bound.value)
    assert 0.1 < ratio <= 1


def test_one_dimensional_attention_comes_close_to_the_bound():
    """Two tokens at ±R with a query near zero: the mean moves by R² per unit of score slope."""
    R, a, eps = 1.0, 20.0, 1e-7
    x = np.array([[0.0], [R], [-R]])
    move = np.array([[eps], [0.0], [0.0]])
    slope = abs(attention(x + move, np.array([[a]]), np.eye(1), 0) - attention(x, np.array([[a]]), np.eye(1), 0))[0, 0]
    assert slope / eps == pytest.approx(2 / 3 * a + 1 / 3, rel=1e-4)  # variance of the tokens, and the moved one itself
    assert slope / eps <= attention_lipschitz(R, a, 1.0, residual=False).value


def test_one_estimated_term_makes_the_whole_estimated():
    sure, guess = Certified(2.0, "proof"), Estimated.largest([1.0, 3.0], "two pairs")
    assert isinstance(sure + sure, Certified)
    assert isinstance(2.0 * sure + 1.0, Certified)
    assert isinstance(sure * guess, Estimated)
    assert (sure * guess).value == 6.0
    assert not isinstance(propagate(0.0, [(sure, 0.1), (sure, guess)]), Certified)


def test_propagation_is_the_recursion():
    e, layers = 0.5, [(2.0, 0.1), (3.0, 0.2), (0.5, 0.0)]
    for L, c in layers:
        e = L * e + c
    assert propagate(0.5, layers).value == pytest.approx(e)


def test_rejects_negative_and_infinite_numbers():
    with pytest.raises(ConfigurationError, match="radius"):
        attention_lipschitz(-1.0, 1.0, 1.0)
    with pytest.raises(ConfigurationError, match="finite"):
        Certified(float("inf"), "nothing")
    with pytest.raises(ConfigurationError, match="at least one"):
        Estimated.largest([], "nothing")
