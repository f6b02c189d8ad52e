"""Autoregressive emissions: densities by SciPy, the M-step by NumPy and against perturbations, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import autoregressive, matrices, windows_of
from scipy import stats

import steerax as sx
from steerax.models.emissions.base import Prior

E, D, P, L = sx.emissions, 2, 2, 2
STRUCTURES = ("full", "diagonal", "tied", "spherical")


def case(structure="full", seed=0, length=300):
    """An emission, the windows of a series of it, and weights that do not know the states."""
    rng = np.random.default_rng(seed)
    emission = autoregressive(rng, D, L, P, structure)
    z = np.asarray(emission.sample(jax.random.key(seed), jnp.asarray(rng.integers(0, D, length))))
    weights = rng.dirichlet(np.ones(D), length)
    return emission, windows_of(z, L), weights


@pytest.mark.slow
def test_densities_and_cumulative_probabilities_are_those_of_scipy_given_the_past():
    emission, read, _ = case()
    read[7, :P], read[8, 0], read[9, P] = np.nan, np.nan, np.nan
    mean = np.asarray(emission.intercept) + np.einsum(
        "dlpq,nlq->ndp", np.asarray(emission.coefficients), read[:, P:].reshape(-1, L, P)
    )
    found, below = emission.log_likelihoods(jnp.asarray(read)), emission.cumulative(jnp.asarray(read))
    for n in range(len(read)):
        for x in range(D):
            S: Any = np.asarray(emission.covariance[x])
            known = np.isfinite(read[n]).all()
            exact = stats.multivariate_normal.logpdf(read[n, :P], mean[n, x], S) if known else np.nan if n == 8 else 0.0
            np.testing.assert_allclose(found[n, x], exact, rtol=1e-11, atol=1e-13)
            if n >= L and known:
                exact = stats.norm.cdf(read[n, :P], mean[n, x], np.sqrt(np.diag(S)))
                np.testing.assert_allclose(below[n, x], exact, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(emission.means_given(jnp.asarray(read[L:, P:])), mean[L:], rtol=1e-12)
    assert np.isnan(below[0]).all()  # not known: no number


def test_samples_leave_over_white_noise():
    emission, _, _ = case()
    states = jnp.asarray(np.random.default_rng(1).integers(0, D, 20_000))
    z = np.asarray(emission.sample(jax.random.key(3), states))
    read = windows_of(z, L)[L:]
    e = read[:, :P] - np.asarray(emission.means_given(jnp.asarray(read[:, P:])))[np.arange(len(read)), states[L:]]
    for x in range(D):
        own = e[np.asarray(states[L:]) == x]
        S = np.asarray(emission.covariance[x])
        np.testing.assert_allclose(own.mean(0), 0, atol=5 * np.sqrt(np.diag(S).max() / len(own)))
        np.testing.assert_allclose(np.cov(own.T), S, atol=5 * np.abs(S).max() * np.sqrt(2 / len(own)))
    whole = e / np.sqrt(e.var(0))
    assert np.abs((whole[1:] * whole[:-1]).mean(0)).max() < 5 / np.sqrt(len(e))
    several = emission.sample(jax.random.key(0), jnp.zeros((5, 3), int))
    assert several.shape == (5, 3, P)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_without_a_prior_the_m_step_is_weighted_least_squares(structure):
    emission, read, weights = case(structure)
    none = Prior.of(read[:, :P], D, 0.0, 0.0, np.float64)
    new = emission.maximised(emission.statistics(jnp.asarray(weights), jnp.asarray(read)), none)
    u, z = np.c_[np.ones(len(read) - L), read[L:, P:]], read[L:, :P]
    scatter = []
    for x in range(D):
        root = np.sqrt(weights[L:, x])[:, None]
        found = np.linalg.lstsq(root * u, root * z, rcond=None)[0]
        np.testing.assert_allclose(new.intercept[x], found[0], rtol=1e-8, atol=1e-9)
        B = found[1:].reshape(L, P, P).swapaxes(1, 2)
        np.testing.assert_allclose(new.coefficients[x], B, rtol=1e-8, atol=1e-9)
        e = root * (z - u @ found)
        scatter.append(e.T @ e)
    total = weights[L:].sum(0)
    S, pooled = np.array(scatter) / total[:, None, None], np.sum(scatter, 0) / total.sum()
    S = {
        "full": S,
        "diagonal": S * np.eye(P),
        "tied": np.repeat(pooled[None], D, 0),
        "spherical": np.trace(S, axis1=1, axis2=2)[:, None, None] / P * np.eye(P),
    }[structure]
    np.testing.assert_allclose(new.covariance, S, rtol=1e-9, atol=1e-11)


@jax.jit
def objective(emission, weights, z, prior):
    """What the M-step maximises."""
    return (weights * emission.log_densities(z)).sum() + emission.log_prior(prior)


def nudged(emission, rng, size):
    """The emission with its parameters moved a little, within its structure."""
    factor = np.eye(P) + size * rng.normal(size=(D, P, P))
    factor = np.repeat(factor[:1], D, 0) if emission.structure == "tied" else factor
    if emission.structure in ("diagonal", "spherical"):
        factor = factor * np.eye(P)
    if emission.structure == "spherical":
        factor = factor[:, :1, :1] * np.eye(P)
    S = factor @ np.asarray(emission.covariance) @ factor.swapaxes(1, 2)
    moved = (np.asarray(a) + size * rng.normal(size=a.shape) for a in (emission.intercept, emission.coefficients))
    return E.Autoregressive(*moved, S, emission.structure)


@pytest.mark.parametrize("shrinkage", [0.0, 2.0])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_one_m_step_is_where_no_nudge_helps(structure, shrinkage):
    emission, read, weights = case(structure, 3)
    given = jnp.asarray(weights), jnp.asarray(read), Prior.of(read[:, :P], D, shrinkage, 0.0, np.float64)
    start = nudged(emission, np.random.default_rng(1), 0.2)
    best = start.maximised(start.statistics(*given[:2]), given[2])
    value, rng = float(objective(best, *given)), np.random.default_rng(0)
    assert value > float(objective(start, *given))
    for size in (1e-4, 1e-3, 1e-2):
        nudges = [float(objective(nudged(best, rng, size), *given)) for _ in range(10)]
        assert max(nudges) <= value + 1e-9 * abs(value)
        assert size < 1e-3 or min(nudges) < value - 1e-9 * abs(value)  # a nudge is felt


def test_a_state_without_weight_keeps_its_distribution_or_gets_the_prior():
    emission, read, _ = case()
    weights = jnp.stack([jnp.ones(len(read)), jnp.zeros(len(read))], 1)
    statistics = emission.statistics(weights, jnp.asarray(read))
    after = emission.maximised(statistics, Prior.of(read[:, :P], D, 0.0, 0.0, np.float64))
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(emission), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    prior = Prior.of(read[:, :P], D, 1.0, 0.0, np.float64)
    after = emission.maximised(statistics, prior)
    np.testing.assert_allclose(after.coefficients[1], 0, atol=1e-12)
    np.testing.assert_allclose(after.covariance[1], np.diag(prior.spread), rtol=1e-9, atol=1e-12)


def test_fewer_observations_than_parameters_leave_no_collapse():
    emission, read, _ = case(length=4)
    weights = jnp.ones((4, D)) / D
    prior = Prior.of(read[:, :P], D, 1.0, 0.0, np.float64)
    after = emission.maximised(emission.statistics(weights, jnp.asarray(read)), prior)
    least = np.linalg.eigvalsh(after.covariance).min()
    assert least > np.asarray(prior.spread).min() / 4
    bare = emission.maximised(
        emission.statistics(weights, jnp.asarray(read)), Prior.of(read[:, :P], D, 0.0, 0.0, np.float64)
    )
    assert np.isfinite(bare.coefficients).all()


def test_statistics_of_two_halves_add_up():
    emission, read, weights = case(length=60)
    w, z = jnp.asarray(weights), jnp.asarray(read)
    added = jax.tree.map(jnp.add, emission.statistics(w[:25], z[:25]), emission.statistics(w[25:], z[25:]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), emission.statistics(w, z), added
    )


def test_a_level_far_away_is_no_harm():
    emission, read, weights = case()
    far = read + 1e5
    prior = Prior.of(far[:, :P], D, 1.0, 0.0, np.float64)
    near = emission.maximised(emission.statistics(jnp.asarray(weights), jnp.asarray(read)), prior)
    there = emission
    for _ in range(3):
        there = there.maximised(there.statistics(jnp.asarray(weights), jnp.asarray(far)), prior)
    np.testing.assert_allclose(there.coefficients, near.coefficients, atol=1e-5)
    np.testing.assert_allclose(there.covariance, near.covariance, rtol=1e-5, atol=1e-5)


def test_saved_and_loaded_whole_and_states_in_another_order(tmp_path):
    emission, read, _ = case("tied")
    model = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), emission, channels=["a", "b"])
    sx.save(model, tmp_path / "model")
    again = sx.load(tmp_path / "model")
    assert jax.tree.structure(again) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, again, model)
    turned = emission.permuted(np.array([1, 0])).log_likelihoods(jnp.asarray(read))
    np.testing.assert_allclose(turned, emission.log_likelihoods(jnp.asarray(read))[:, ::-1], rtol=1e-12)
    assert emission.n_parameters == D * P + D * L * P * P + 3


S1 = np.ones((1, 1, 1))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: E.Autoregressive([0.0], [[[[0.5]]]], S1), "2 axes"),
        (lambda: E.Autoregressive([[0.0]], [[[0.5]]], S1), "4 axes"),
        (lambda: E.Autoregressive([[0.0]], np.zeros((1, 0, 1, 1)), S1), "non-empty"),
        (lambda: E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 2)), S1), "need \\[1 L 1 1\\]"),
        (lambda: E.Autoregressive([[0.0]], np.full((1, 1, 1, 1), np.nan), S1), "not finite"),
        (lambda: E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 1)), -S1), "positive definite"),
        (lambda: E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 1)), S1, "round"), "structure='round'"),
        (lambda: E.Autoregressive.kind(lags=0), "lags"),
        (lambda: E.Autoregressive.kind(structure="round"), "structure='round'"),
        (lambda: E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 1)), S1).means, "means_given"),
        (lambda: E.Product([E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 1)), S1)]), "cannot read"),
        (lambda: E.Mixture([[1.0]], E.Autoregressive([[0.0]], np.zeros((1, 1, 1, 1)), S1)), "cannot read"),
        (lambda: E.Mixture.kind(2, E.Autoregressive.kind()), "cannot read"),
        (lambda: E.Product.kind((E.Autoregressive.kind(), 1)), "cannot read"),
    ],
)
def test_rejects_parameters_that_are_no_autoregressions(build, words):
    with pytest.raises(sx.SteeraxError, match=words):
        build()


def test_other_emissions_say_the_same_after_any_past():
    emission = E.Gaussian(np.arange(4.0).reshape(2, 2), matrices(np.random.default_rng(0), 2, 2))
    assert emission.lags == 0
    np.testing.assert_array_equal(emission.means_given(jnp.zeros((3, 0))), np.repeat(emission.means[None], 3, 0))


def test_statistics_about_other_coefficients_become_those_about_these():
    rng = np.random.default_rng(0)
    make = lambda: E.Autoregressive(rng.normal(size=(2, 2)), 0.3 * rng.normal(size=(2, 2, 2, 2)), [np.eye(2)] * 2)
    before, now = make(), make()
    z, weights = jnp.asarray(rng.normal(size=(30, 6))), jnp.asarray(rng.random((30, 2)))
    found = now.translated(before.statistics(weights, z), before)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), found, now.statistics(weights, z)
    )
    again = before.with_free(now.free)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), again, now)
