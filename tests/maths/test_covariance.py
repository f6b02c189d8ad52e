"""Roots of covariances: what they keep beside large rows, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steerax.maths.covariance import (
    cholesky,
    pseudo_inverse,
    solve,
    solve_root,
    solve_upper,
    square_root,
    symmetric,
    triangular,
)


def test_a_small_row_survives_beside_a_large_one():
    # the conditional variance of x with prior variance 1e15 given x + noise of variance 1 is 1 - 1e-15
    for rows in ([[1.0, 0.0], [10**7.5, 10**7.5]], [[10**7.5, 10**7.5], [1.0, 0.0]]):
        assert float(triangular(jnp.asarray(rows))[1, 1] ** 2) == pytest.approx(1.0, abs=1e-14)


CASES = {
    "regular": lambda a: a,
    "fewer rows than columns": lambda a: a[:2],
    "a repeated last column": lambda a: a.at[:, 2].set(a[:, 0] - 2 * a[:, 1]),
    "zero last columns": lambda a: a.at[:, 1:].set(0.0),
}


@pytest.mark.parametrize("shape", CASES.values(), ids=CASES)
def test_the_derivative_is_that_of_the_covariance(shape):
    rng = np.random.default_rng(0)
    a, change = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(5, 3)))
    R, slope = jax.jvp(lambda h: triangular(shape(a + h * change)), (0.0,), (1.0,))
    rows, move = jax.jvp(lambda h: shape(a + h * change), (0.0,), (1.0,))
    np.testing.assert_allclose(R.T @ R, rows.T @ rows, atol=1e-13)
    np.testing.assert_allclose(R.T @ slope + slope.T @ R, rows.T @ move + move.T @ rows, atol=1e-12)
    np.testing.assert_allclose(np.tril(slope, -1), 0, atol=1e-12)


def test_a_derivative_that_would_be_wrong_is_not_a_number():
    # an empty column before one that only one row fills: the row of the root that varies has no pivot
    rows = lambda a: jnp.zeros((3, 2)).at[0, 1].set(a)
    np.testing.assert_allclose(triangular(rows(2.0)).T @ triangular(rows(2.0)), [[0, 0], [0, 4]])
    assert np.isnan(jax.jacfwd(lambda a: triangular(rows(a)))(2.0)).any()


def test_a_root_is_solved_in_the_least_squares_sense_with_its_derivative():
    L = jnp.asarray([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    B = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
    np.testing.assert_allclose(solve_root(L, B), np.linalg.pinv(L) @ B, atol=1e-14)
    move = jnp.asarray([[0.3, -0.2, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    slope = jax.jvp(lambda L: solve_root(L, B), (L,), (move,))[1]
    ahead, behind = (np.linalg.pinv(np.asarray(L + h * move)) @ B for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, atol=1e-8)


def _covariance(n, seed=0, small=1e-3):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T / n + small * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_factors_and_triangular_systems(n):
    S, B = _covariance(n), np.random.default_rng(1).normal(size=(n, 3))
    L = cholesky(jnp.asarray(S))
    np.testing.assert_allclose(L, np.linalg.cholesky(S).T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(solve_upper(L, jnp.asarray(B)), np.linalg.solve(np.asarray(L), B), rtol=1e-7)
    np.testing.assert_allclose(
        solve_upper(L, jnp.asarray(B), transposed=True), np.linalg.solve(np.asarray(L).T, B), rtol=1e-7
    )
    assert not np.isfinite(np.asarray(cholesky(jnp.asarray(S - 10 * np.eye(n))))).all()


def test_the_square_root_and_its_derivative():
    S, change = _covariance(4), _covariance(4, 1)
    change = change - 0.3 * np.eye(4)
    root, slope = jax.jvp(square_root, (jnp.asarray(S),), (jnp.asarray(change),))
    np.testing.assert_allclose(root @ root, S, rtol=1e-12)
    h = 1e-6
    numeric = (square_root(jnp.asarray(S + h * change)) - square_root(jnp.asarray(S - h * change))) / (2 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)
    skew = np.array([[1.0, 3.0], [1.0, 2.0]])
    np.testing.assert_array_equal(symmetric(jnp.asarray(skew)), [[1, 2], [2, 2]])


def test_pseudo_inverses_of_singular_and_ill_scaled_matrices():
    for scales in ([1.0, 1.0, 1.0], [1e-6, 1.0, 1e5], [1e-8, 1e3, 0.0]):
        a = np.array([[1.0, 0.0, 0.3], [0.5, 1.0, 0.2], [1.5, 1.0, 0.5]]) * np.array(scales)[:, None]
        S = a @ a.T  # of rank two
        inverse = np.asarray(pseudo_inverse(jnp.asarray(S)))
        np.testing.assert_allclose(S @ inverse @ S, S, rtol=1e-6, atol=1e-12 * np.abs(S).max())


@pytest.mark.parametrize("n", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("complex_", [False, True])
def test_general_systems_with_pivots(n, complex_):
    rng = np.random.default_rng(n)
    normal = lambda *shape: rng.normal(size=shape) + complex_ * 1j * rng.normal(size=shape)
    A, B = normal(40, n, n), normal(40, n, 3)
    A[:, 0, 0] = 0 if n > 1 else A[:, 0, 0]  # the first pivot has to be looked for
    np.testing.assert_allclose(solve(jnp.asarray(A), jnp.asarray(B)), np.linalg.solve(A, B), rtol=1e-8, atol=1e-10)


def test_units_of_states_play_no_part_in_the_rank_of_a_root():
    units, B = np.array([1e-9, 1e6, 0.0]), np.random.default_rng(2).normal(size=(3, 2))
    found = solve_root(jnp.asarray(np.diag(units)), jnp.asarray(B))
    np.testing.assert_allclose(found, np.array([1e9, 1e-6, 0.0])[:, None] * B, rtol=1e-12)
