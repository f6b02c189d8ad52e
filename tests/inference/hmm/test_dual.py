"""Layers of the dual filter against the textbook backward passes and the forward filter."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from layer_twin import layer_by_associative_scan

import steerax as sx
from steerax.inference.hmm.kernels.layers import gains, layer


def example(seed=0, d=4, V=5, T=12, zeros=0.3, missing=True):
    rng = np.random.default_rng(seed)
    mu, A, C = oracles.sparse_hmm(rng, d, V, zeros)
    z = oracles.draw(rng, mu, A, C, T)
    if missing:
        z[[2, 7]] = -1
    return sx.HiddenMarkovModel(mu, A, C), z


def test_a_layer_is_the_backward_pass_of_every_query():
    hmm, z = example(zeros=0.0)
    mu, A, C = map(np.asarray, hmm.arrays)
    pi = np.asarray(sx.filter(hmm, z).states)
    rho = 0.95 * pi + 0.05 / 4  # near enough to the filter for the output to stay in the simplex
    prior, u = oracles.backward_controls(rho, mu, A, C, z, np.eye(4))
    out = prior - u.sum(1)
    assert (out >= 0).all()
    np.testing.assert_allclose(layer(jnp.asarray(rho), *hmm.arrays, z), out, atol=1e-14)
    pair = layer(jnp.stack([rho, pi], 1), *hmm.arrays, jnp.stack([z, z], 1))
    np.testing.assert_allclose(pair, np.stack([out, pi], 1), atol=1e-14)
    np.testing.assert_allclose(layer_by_associative_scan(jnp.asarray(rho), *hmm.arrays, z), out, atol=1e-13)


def cut_layer(rho, mu, A, C, z):
    """One token after the other, with the cut, in the letters of the module."""
    p, out = mu, [mu]
    for t, token in enumerate(z):
        Cz = np.ones(len(mu)) if token < 0 else C[:, token]
        seen, unseen = rho[t] * Cz, rho[t] * (1 - Cz)
        change = 0 if unseen.sum() == 0 else seen / seen.sum() - unseen / unseen.sum()
        p = np.maximum((p + (1 - Cz) @ p * change) @ A, 0)
        p = p / p.sum()
        out.append(p)
    return np.stack(out)


@pytest.mark.parametrize("d", [4, 12])
def test_far_from_the_filter_negative_parts_are_cut_at_each_token(d):
    hmm, z = example(6, d=d, zeros=0.0)
    mu, A, C = map(np.asarray, hmm.arrays)
    hmm = sx.HiddenMarkovModel(mu, 0.1 * A + 0.9 * np.eye(d), C)
    z = np.tile(z, 700)  # a mass that is not restored overflows
    far = np.random.default_rng(1).dirichlet(np.full(d, 0.2), size=len(z) + 1)
    wanted = cut_layer(far, *map(np.asarray, hmm.arrays), z)
    found = layer(jnp.asarray(far), *hmm.arrays, z)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    pair = layer(jnp.stack([far, far], 1), *hmm.arrays, jnp.stack([z, z], 1))
    np.testing.assert_allclose(pair, np.stack([wanted, wanted], 1), atol=1e-12)


def test_the_filter_is_the_fixed_point_verified_by_one_layer():
    hmm, z = example(1)
    s = sx.dual_filter(hmm, z)
    np.testing.assert_allclose(s.predicted, sx.filter(hmm, z).predicted, atol=1e-14)
    assert s.layers == 1
    assert s.result == sx.RESULTS.successful
    assert s.residuals[-1] < 1e-14


@pytest.mark.parametrize(("initial", "at_most"), [("prior", 12), ("uniform", 13), ("stationary", 13), ("random", 13)])
def test_layers_are_exact_after_as_many_as_there_are_tokens(initial, at_most):
    hmm, z = example(2)
    pi = sx.filter(hmm, z).predicted
    if initial == "random":
        initial = np.random.default_rng(0).dirichlet(np.ones(4), size=13)
    s = sx.dual_filter(hmm, z, layers=at_most, initial=initial)
    np.testing.assert_allclose(s.predicted, pi, atol=1e-13)
    free = sx.dual_filter(hmm, z, initial=initial)
    assert free.result == sx.RESULTS.successful
    assert free.layers <= at_most + 1
    np.testing.assert_allclose(free.predicted, pi, atol=1e-13)


@pytest.mark.parametrize("T", [40, 130])
def test_laws_that_are_exact_change_no_more_not_even_by_rounding(T):
    """With this seed the initial law changes in its last digits when it is normalised once more."""
    rng = np.random.default_rng(9)
    mu, A, C = oracles.sparse_hmm(rng, 24, 30, 0.7)
    z = oracles.draw(rng, mu, A, C, T)
    hmm = sx.HiddenMarkovModel(mu, A, C)
    history = np.asarray(sx.dual_filter(hmm, z, layers=T, keep=True).history)
    for n, laws in enumerate(history):
        np.testing.assert_array_equal(laws[: n + 1], history[-1, : n + 1])
    np.testing.assert_allclose(history[-1], sx.filter(hmm, z).predicted, atol=1e-13)


def test_each_layer_makes_at_least_one_more_law_exact():
    hmm, z = example(3, missing=False)
    pi = sx.filter(hmm, z).predicted
    s = sx.dual_filter(hmm, z, layers=12, keep=True)
    assert s.history.shape == (13, 13, 4)
    for n, laws in enumerate(s.history):
        np.testing.assert_allclose(laws[: n + 1], pi[: n + 1], atol=1e-13)
    np.testing.assert_array_equal(s.history[-1], s.predicted)
    np.testing.assert_allclose(s.residuals, jnp.abs(jnp.diff(s.history, axis=0)).sum(-1).max(-1), atol=1e-15)


def test_a_sticky_informative_chain_needs_many_layers_though_its_filter_forgets_fast():
    hmm = sx.HiddenMarkovModel([0.5, 0.5], [[0.99, 0.01], [0.01, 0.99]], [[0.9, 0.1], [0.1, 0.9]])
    z = hmm.sample(jax.random.key(1), 100)[1]
    sticky = sx.dual_filter(hmm, z, initial="prior").layers
    random = sx.models.random_hmm(jax.random.key(3), 2, 2)
    quick = sx.dual_filter(random, random.sample(jax.random.key(1), 100)[1], initial="prior").layers
    assert sticky > 60 > 30 > quick


def test_a_cap_on_layers_is_reported():
    hmm, z = example(4)
    s = sx.dual_filter(hmm, z, initial="uniform", max_layers=2)
    assert s.layers == 2
    assert s.result == sx.RESULTS.max_steps_reached
    assert s.residuals[-1] > 1e-6


def test_a_batch_is_each_sequence_alone():
    hmm, z = example(5)
    data = sx.Sequences.from_arrays([z, z[:8]])
    s = sx.dual_filter(hmm, data, layers=3, keep=True)
    assert s.history.shape == (4, 2, 13, 4)
    for i, part in enumerate(data):
        alone = sx.dual_filter(hmm, part, layers=3, keep=True)
        np.testing.assert_allclose(s.predicted[i, : len(part) + 1], alone.predicted, atol=1e-13)
        np.testing.assert_allclose(s.history[:, i, : len(part) + 1], alone.history, atol=1e-13)
    np.testing.assert_allclose(sx.dual_filter(hmm, data).predicted, sx.filter(hmm, data).predicted, atol=1e-14)


@pytest.mark.parametrize("q", [1e-3, 1e-9, 1e-15])
def test_the_gain_keeps_its_accuracy_for_rare_tokens(q):
    rho = np.array([0.2, 0.5, 0.3])
    C = np.array([[2 * q, 1 - 2 * q], [q, 1 - q], [0.5 * q, 1 - 0.5 * q]])
    k = np.asarray(gains(jnp.asarray([rho, rho]), jnp.asarray(C), jnp.array([0])))[0]
    posterior = rho * C[:, 0] / (rho @ C[:, 0])
    np.testing.assert_allclose(rho + 2 * (rho @ (1 - C[:, 0])) * k, posterior, rtol=4e-15)
    assert abs(k.sum()) < 1e-16


def test_gains_at_their_limits():
    C = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])
    rho = jnp.array([[1.0, 0, 0], [1.0, 0, 0], [0.5, 0.25, 0.25], [1.0, 0, 0]])
    delta = 2 * gains(rho, C, jnp.array([0, 1, -1]))
    np.testing.assert_allclose(delta[0], 0)  # certain
    np.testing.assert_allclose(delta[1], [-1, 0.5, 0.5])  # impossible under the input: no preference among emitters
    np.testing.assert_allclose(delta[2], 0)  # missing


def test_an_impossible_token_is_stepped_over_on_request():
    hmm = sx.models.two_cycle()
    z = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    with pytest.raises(sx.ImpossibleTokenError):
        sx.dual_filter(hmm, z)
    s = sx.dual_filter(hmm, z, initial="uniform", on_impossible="skip")
    pi = sx.filter(hmm, z, on_impossible="skip").predicted
    np.testing.assert_allclose(s.predicted, pi, atol=1e-14)


def test_dual_filter_rejects_options_that_cannot_work():
    hmm, z = example()
    with pytest.raises(sx.DataError, match="shape"):
        sx.dual_filter(hmm, z, initial=np.ones((3, 4)))
    with pytest.raises(sx.ConfigurationError, match="initial='warm'"):
        sx.dual_filter(hmm, z, initial="warm")
    with pytest.raises(sx.ConfigurationError, match="layers is -1"):
        sx.dual_filter(hmm, z, layers=-1)
    with pytest.raises(sx.ConfigurationError, match="keep"):
        sx.dual_filter(hmm, z, keep=True)


def test_gains_of_a_batch_are_those_of_its_sequences():
    rng = np.random.default_rng(0)
    states, C = rng.dirichlet(np.ones(3), (6, 4)), rng.dirichlet(np.ones(5), 3)
    z = rng.integers(-1, 5, (5, 4))
    together = gains(jnp.asarray(states), jnp.asarray(C), jnp.asarray(z))
    for b in range(4):
        np.testing.assert_allclose(
            together[:, b], gains(jnp.asarray(states[:, b]), jnp.asarray(C), jnp.asarray(z[:, b]))
        )


def test_gains_without_a_posterior_are_what_the_docstring_says():
    """A token that no state emits moves nothing; one that only states of no mass emit puts them in its place."""
    C = jnp.asarray([[0.5, 0.5, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0], [0.1, 0.3, 0.6, 0.0], [0.3, 0.5, 0.2, 0.0]])
    rho = jnp.asarray([[0.25, 0.75, 0.0, 0.0]] * 4)
    none, only_others, certain = gains(rho, C, jnp.asarray([3, 2, -1]))
    np.testing.assert_array_equal(none, np.zeros(4))
    np.testing.assert_array_equal(certain, np.zeros(4))
    np.testing.assert_allclose(only_others, (np.array([0, 0, 0.75, 0.25]) - [0.25, 0.75, 0, 0]) / 2)


@pytest.mark.slow
def test_layers_have_their_slope_also_where_prior_and_filter_predict_the_token_alike():
    """Two bits that do not move, each shown by its own tokens: what is seen of one says nothing of the other, so that the two
    masses of a layer are equal although the distributions are not."""
    rows = np.array([[0.4, 0.1, 0.3, 0.2], [0.4, 0.1, 0.2, 0.3], [0.1, 0.4, 0.3, 0.2], [0.1, 0.4, 0.2, 0.3]])
    tokens, bump = np.array([0, 2, 1, 3]), np.array([[1.0, -1, 0, 0], [0, 0, 1, -1], [0, 1, 0, -1], [1, 0, -1, 0]])
    weights = np.random.default_rng(0).normal(size=(5, 4))

    def value(step):
        hmm = sx.HiddenMarkovModel(jnp.full(4, 0.25), jnp.eye(4), jnp.asarray(rows) + step * jnp.asarray(bump))
        return jnp.sum(weights * sx.dual_filter(hmm, tokens, layers=2, initial="prior").predicted)

    value = jax.jit(value)
    slope = float(jax.jit(jax.grad(value))(0.0))
    assert slope == pytest.approx(float(value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6)
