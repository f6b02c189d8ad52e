"""The optimal control of processes whose next state and token depend on all their past, on d states (the Markovian projection)."""

import conditional_oracles as oracles
import numpy as np
import pytest

import steerax as sx

SHAPES = [(2, 2, 4, 0.0), (3, 2, 4, 0.0), (2, 3, 4, 0.5), (3, 3, 3, 0.4)]


def problem(d, V, T, zeros, seed=0):
    rng = np.random.default_rng(seed)
    laws, model = oracles.enumerated(*oracles.law_of_full_memory(rng, d, V, T, zeros), V, T)
    return laws, model, rng.normal(size=d), rng


def squared_error(law, F, estimates):
    """E|F(X_T) - S_T|² of the process itself, from the distribution of X_T with every string."""
    return np.sum(law * (F - estimates[:, None]) ** 2)


@pytest.mark.parametrize(("d", "V", "T", "zeros"), SHAPES)
def test_the_cost_is_the_error_of_the_process_for_every_control(d, V, T, zeros):
    for seed in range(4):
        laws, model, F, rng = problem(d, V, T, zeros, seed)
        controls = [rng.normal(size=(V**t, V - 1)) for t in range(T)]
        tree = sx.optimal_control(model, T, F, controls)
        np.testing.assert_allclose(tree.cost, squared_error(laws[-1], F, tree.estimates[-1]), rtol=1e-12)
        np.testing.assert_allclose(tree.cost, tree.mse, rtol=1e-12)


@pytest.mark.parametrize(("d", "V", "T", "zeros"), SHAPES)
def test_the_smallest_cost_is_the_variance_that_the_tokens_leave_and_the_estimate_is_the_posterior_mean(d, V, T, zeros):
    for seed in range(4):
        laws, model, F, _ = problem(d, V, T, zeros, seed)
        tree = sx.optimal_control(model, T, F)
        mass = laws[-1].sum(1)
        possible = mass > 0
        posterior = laws[-1][possible] / mass[possible, None]
        left = mass[possible] @ (posterior @ F**2 - (posterior @ F) ** 2)
        np.testing.assert_allclose(tree.cost, left, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(tree.estimates[-1][possible], posterior @ F, atol=1e-12)
        for t in range(T + 1):
            mass = laws[t].sum(1)
            possible = mass > 0
            posterior = laws[t][possible] / mass[possible, None]
            np.testing.assert_allclose(tree.probabilities[t], mass, atol=1e-14)
            np.testing.assert_allclose(tree.filters[t][possible], posterior, atol=1e-13)
            pairing = np.sum(posterior * tree.states[t][possible], axis=1)  # π_t(Y_t) = S_t
            np.testing.assert_allclose(pairing, tree.estimates[t][possible], atol=1e-12)


@pytest.mark.parametrize(("d", "V", "T", "zeros"), SHAPES[:2])
def test_filter_layers_and_explanation_on_a_string_are_those_of_the_process(d, V, T, zeros):
    laws, model, _, rng = problem(d, V, T, zeros)
    z = rng.integers(0, V, T).astype(np.int32)
    number = lambda t: int(np.ravel_multi_index(tuple(z[:t]), (V,) * t)) if t else 0
    exact = np.array([laws[t][number(t)] / laws[t][number(t)].sum() for t in range(T + 1)])
    np.testing.assert_allclose(sx.filter(model, z).predicted, exact, atol=1e-13)
    np.testing.assert_allclose(sx.filter(model, z).log_likelihood, np.log(laws[T][number(T)].sum()), rtol=1e-12)
    np.testing.assert_allclose(sx.dual_filter(model, z, T).predicted, exact, atol=1e-12)
    e = sx.explain(model, z, "all", "state")
    np.testing.assert_allclose(e.prior + e.weights.sum(1), exact, atol=1e-12)


@pytest.mark.slow
def test_the_control_of_a_lagged_model_estimates_its_filter_on_every_possible_string():
    rng = np.random.default_rng(0)
    for zeros in (0.0, 0.4):
        model, F = oracles.lagged(rng, 3, 2, 3, True, 0, zeros), rng.normal(size=3)
        tree = sx.optimal_control(model, 5, F)
        for n in np.flatnonzero(tree.probabilities[-1] > 0):
            z = np.array(np.unravel_index(n, (2,) * 5), np.int32)
            np.testing.assert_allclose(tree.estimates[-1][n], sx.filter(model, z).predicted[-1] @ F, atol=1e-11)
        np.testing.assert_allclose(tree.cost, tree.mse, rtol=1e-12)
        np.testing.assert_allclose(tree.probabilities[-1].sum(), 1, rtol=1e-13)


def test_optimal_control_of_a_conditional_model_rejects_what_does_not_fit():
    model = oracles.lagged(np.random.default_rng(0), 2, 2, 2)
    with pytest.raises(sx.DataError, match="target has shape"):
        sx.optimal_control(model, 2, np.ones(3))
    with pytest.raises(sx.ConfigurationError, match="shorter length"):
        sx.optimal_control(model, 40, np.ones(2))
