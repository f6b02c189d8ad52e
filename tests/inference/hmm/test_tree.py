"""The optimal control problem on the tree: duality for every control, optimality, and what the optimum estimates."""

import jax
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.maths.encoding import token_vectors

SHAPES = [(3, 2, 4, 0.0), (3, 3, 4, 0.0), (3, 3, 4, 0.4), (4, 4, 3, 0.5)]


def problem(d, V, T, zeros, seed=0):
    rng = np.random.default_rng(seed)
    return sx.HiddenMarkovModel(*oracles.sparse_hmm(rng, d, V, zeros)), rng.normal(size=d), rng


@pytest.mark.parametrize(("d", "V", "T", "zeros"), SHAPES)
def test_cost_is_the_mean_squared_error_of_every_control(d, V, T, zeros):
    hmm, F, rng = problem(d, V, T, zeros)
    best = sx.optimal_control(hmm, T, F)
    np.testing.assert_allclose(best.cost, best.mse, rtol=1e-12)
    other = sx.optimal_control(hmm, T, F, [rng.normal(size=u.shape) for u in best.controls])
    np.testing.assert_allclose(other.cost, other.mse, rtol=1e-12)
    assert other.cost > best.cost


@pytest.mark.parametrize(("d", "V", "T", "zeros"), SHAPES)
def test_the_optimal_estimate_is_the_filter_on_every_possible_string(d, V, T, zeros):
    hmm, F, _ = problem(d, V, T, zeros)
    tree = sx.optimal_control(hmm, T, F)
    for t in range(T + 1):
        possible = tree.probabilities[t] > 1e-14
        pairing = np.sum(tree.filters[t] * tree.states[t], axis=1)
        np.testing.assert_allclose(tree.estimates[t][possible], pairing[possible], atol=1e-11)
    possible = tree.probabilities[-1] > 1e-14
    np.testing.assert_allclose(tree.estimates[-1][possible], (tree.filters[-1] @ F)[possible], atol=1e-11)
    np.testing.assert_allclose(sum(tree.probabilities[-1]), 1, atol=1e-14)
    string = int(np.argmax(tree.probabilities[-1]))
    z = np.array(np.unravel_index(string, (V,) * T), dtype=np.int32)
    np.testing.assert_allclose(tree.filters[-1][string], sx.filter(hmm, z).predicted[-1], atol=1e-13)


@pytest.mark.parametrize("rare", [1e-6, 1e-10, 1e-14, 1e-30, 1e-100, 1e-300])
def test_rare_tokens_and_states_leave_the_estimate_exact(rare):
    # on every possible string, however rare; the filter by a loop in extended precision
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mu, A, C = oracles.sparse_hmm(rng, 3, 3, 0.2)
        mu, A, C = (np.where(rng.random(a.shape) < 0.3, rare * (a > 0), a) for a in (mu, A, C))
        mu, A, C = (a / a.sum(-1, keepdims=True) for a in (mu, A, C))
        if not all(np.isfinite(a).all() for a in (mu, A, C)):
            continue
        tree = sx.optimal_control(sx.HiddenMarkovModel(mu, A, C), 4, F := rng.normal(size=3))
        for string in range(81):
            belief, probability = mu.astype(np.longdouble), np.longdouble(1)
            for token in np.unravel_index(string, (3,) * 4):
                joint = belief * C[:, token]
                probability *= joint.sum()
                belief = joint @ A / joint.sum() if joint.sum() > 0 else belief
            if probability > 0:
                assert abs(tree.estimates[-1][string] - belief @ F) < 1e-12
        np.testing.assert_allclose(tree.cost, tree.mse, rtol=1e-9, atol=1e-15)


def test_the_control_is_the_papers_formula():
    hmm, F, _ = problem(3, 3, 3, 0.0)
    tree = sx.optimal_control(hmm, 3, F)
    _, _, C = map(np.asarray, hmm.arrays)
    E = token_vectors(3)
    c = C @ E
    R = np.einsum("xz,zi,zj->xij", C, E, E) - np.einsum("xi,xj->xij", c, c)
    for t in range(3):
        w = tree.states[t] - tree.controls[t] @ c.T
        for rho, slope, w_n, u in zip(tree.filters[t], tree.slopes[t], w, tree.controls[t], strict=True):
            centred = c - rho @ c
            M = np.einsum("x,xij->ij", rho, R) + np.einsum("x,xi,xj->ij", rho, centred, centred)
            b = np.einsum("x,x,xi->i", rho, w_n, centred) + np.einsum("x,xij,xj->i", rho, R, slope)
            np.testing.assert_allclose(u, -np.linalg.solve(M, b), atol=1e-11)


def test_the_smallest_error_is_the_variance_that_the_filter_leaves():
    hmm, F, _ = problem(3, 3, 4, 0.4)
    tree = sx.optimal_control(hmm, 4, F)
    pi = tree.filters[-1]
    left = tree.probabilities[-1] @ (pi @ F**2 - (pi @ F) ** 2)
    np.testing.assert_allclose(tree.cost, left, rtol=1e-12)


def test_the_backward_equation_holds_for_every_next_token():
    hmm, F, rng = problem(3, 3, 3, 0.0)
    _, A, C = map(np.asarray, hmm.arrays)
    E = token_vectors(3)
    controls = [rng.normal(size=(3**t, 2)) for t in range(3)]
    tree = sx.optimal_control(hmm, 3, F, controls)
    for t in range(3):
        after = tree.states[t + 1].reshape(3**t, 3, 3)
        for z in range(3):
            total = controls[t][:, None] + tree.slopes[t]
            right = after[:, z] @ A.T + np.einsum("xi,nxi->nx", C @ E, total) - tree.slopes[t] @ E[z]
            np.testing.assert_allclose(tree.states[t], right, atol=1e-13)


def test_without_impossible_tokens_the_control_is_the_representation():
    hmm, _, _ = problem(3, 3, 4, 0.0)
    tree = sx.optimal_control(hmm, 4, np.asarray(hmm.emission)[:, 1])
    z = hmm.sample(jax.random.key(0), 4)[1]
    u = sx.represent(sx.next_token_predictor(hmm, 1), z, 3, "uniform", weights=True)
    for t in range(4):
        string = int(np.ravel_multi_index(tuple(np.asarray(z[:t])), (3,) * t)) if t else 0
        np.testing.assert_allclose(tree.controls[t][string], -u.weights[t], atol=1e-9)
        np.testing.assert_allclose(tree.estimates[t][string], u.values[t], atol=1e-9)


def test_optimal_control_rejects_trees_targets_and_controls_that_do_not_fit():
    hmm, F, _ = problem(3, 3, 4, 0.0)
    with pytest.raises(sx.ConfigurationError, match="shorter length"):
        sx.optimal_control(hmm, 40, F)
    with pytest.raises(sx.DataError, match="target has shape"):
        sx.optimal_control(hmm, 2, np.ones(2))
    with pytest.raises(sx.DataError, match="one array per time"):
        sx.optimal_control(hmm, 2, F, [np.zeros((1, 2))])
