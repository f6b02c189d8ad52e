"""Entropies: closed forms, sums over all strings, and simulation."""

import itertools

import jax
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.maths import beliefs as cloud
from steerax.models import conditional_entropy, entropy_rate


def test_the_entropy_rate_of_two_cycles_is_the_choice_per_mean_length():
    p = 0.3
    hmm = sx.models.two_cycle(8, 4, p)
    rate = entropy_rate(hmm)
    assert rate.exact
    choice = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(rate.mean, choice / (p * 8 + (1 - p) * 5), rtol=1e-12)


def test_conditional_entropies_sum_to_the_entropy_of_all_strings():
    rng = np.random.default_rng(0)
    mu, A, C = oracles.sparse_hmm(rng, 3, 3, 0.3)
    T = 6
    q = np.array([oracles.loop_filter(mu, A, C, z)[1] for z in _possible(mu, A, C, T)]).prod(1)
    result = conditional_entropy(sx.HiddenMarkovModel(mu, A, C), T)
    assert result.exact
    np.testing.assert_allclose(result.per_token.sum(), -(q * np.log(q)).sum(), rtol=1e-12)
    np.testing.assert_allclose(q.sum(), 1, rtol=1e-12)


def test_simulation_agrees_with_the_exact_sum_within_its_standard_error():
    hmm = sx.models.mess3()
    exact = conditional_entropy(hmm, 6)
    simulated = conditional_entropy(hmm, 6, max_beliefs=1, samples=2000)
    assert exact.exact
    assert not simulated.exact
    assert 0 < simulated.standard_error < 0.01
    assert abs(simulated.mean - exact.mean) < 4 * simulated.standard_error
    rate = entropy_rate(hmm, samples=64, length=512)
    assert rate.mean < exact.per_token[-1] + 4 * rate.standard_error


def test_merging_keeps_the_mean_belief_and_the_weight():
    rng = np.random.default_rng(1)
    points = np.repeat(rng.dirichlet(np.ones(3), size=4), 3, axis=0) + 1e-13 * rng.random((12, 3))
    weights = rng.random(12)
    merged, total = cloud.merge(points, weights, 1e-9)
    assert len(merged) == 4
    np.testing.assert_allclose(total.sum(), weights.sum())
    np.testing.assert_allclose(total @ merged, weights @ points, atol=1e-12)


@pytest.mark.parametrize("hazard", [1e-6, 1e-9, 1e-11, 1e-13, 1e-16, 1e-300])
def test_a_rate_is_called_exact_only_where_it_is(hazard):
    # a fair coin that falls silent for ever after a very long time: the rate is 0
    silent = sx.HiddenMarkovModel([1.0, 0.0], [[1 - hazard, hazard], [0.0, 1.0]], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    # two coins of different bias, exchanged once in a very long time
    biased = sx.HiddenMarkovModel([1.0, 0.0], [[1 - hazard, hazard], [0.0, 1.0]], [[0.5, 0.5], [0.9, 0.1]])
    right = [0.0, -0.9 * np.log(0.9) - 0.1 * np.log(0.1)]
    for hmm, rate in zip((silent, biased), right, strict=True):
        found = entropy_rate(hmm, samples=8, length=64)
        assert not found.exact or abs(found.mean - rate) < 1e-9


def test_entropy_rejects_an_empty_sequence():
    with pytest.raises(sx.ConfigurationError, match="length is 0"):
        conditional_entropy(sx.models.casino(), 0)


def _possible(mu, A, C, T):
    for z in itertools.product(range(C.shape[1]), repeat=T):
        p = mu
        for token in z:
            p = (p * C[:, token]) @ A
        if p.sum() > 0:
            yield z


def test_the_key_is_used():
    a = conditional_entropy(sx.models.mess3(), 12, key=jax.random.key(1), samples=100, max_beliefs=1)
    b = conditional_entropy(sx.models.mess3(), 12, key=jax.random.key(2), samples=100, max_beliefs=1)
    assert a.mean != b.mean
