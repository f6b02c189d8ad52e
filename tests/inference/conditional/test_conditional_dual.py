"""Layers and explanations of conditionally Markov models, against the backward pass written out, and the plain chain."""

import conditional_oracles as oracles
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import steerax as sx

CASES = [(3, 2, 4, True, 0, 0.0), (2, 3, 2, False, 0, 0.3), (3, 3, 2, True, 2, 0.2)]


def problem(d, V, m, attention, lags, zeros, T=8, gaps=1):
    rng = np.random.default_rng(d + V)
    model = oracles.lagged(rng, d, V, m, attention, lags, zeros)
    z = np.array(sx.sample(model, 0, T)[1])
    z[2 : 2 + gaps] = -1
    return model, z


def backward_pass(model, z, T, F):
    """Prior and terms of the answer at time T, one step after the other, with the operators of every token."""
    pi, d, V = np.asarray(sx.filter(model, z).predicted), model.n_states, model.n_tokens
    y, terms = np.asarray(F, float), np.zeros((T, F.shape[1]))
    for s in reversed(range(T)):
        each = []
        for v in range(V):
            K, C = oracles.steps_by_hand(model, np.where(np.arange(len(z)) == s, v, z))
            each.append(np.asarray(C[s][:, v, None] * K[s], float))
        if z[s] < 0:
            y = np.asarray(oracles.steps_by_hand(model, z)[0][s], float) @ y
            continue
        seen, other = each[z[s]], sum(M for v, M in enumerate(each) if v != z[s])
        plus, minus = pi[s] @ seen, pi[s] @ np.asarray(other)
        k = np.zeros(d) if minus.sum() < 1e-13 else (plus / plus.sum() - minus / minus.sum()) / 2
        terms[s] = k @ y
        y = (seen + other) @ y - np.outer(2 * seen.sum(1) - 1, terms[s])
    return np.asarray(model.initial) @ y, terms


SELECTED = [pytest.param(CASES[0], marks=pytest.mark.slow), pytest.param(CASES[1], marks=pytest.mark.slow), CASES[2]]


@pytest.mark.parametrize("case", SELECTED)
def test_as_many_layers_as_tokens_are_the_filter_from_any_start(case):
    model, z = problem(*case)
    exact = sx.filter(model, z).predicted
    for initial, layers in (("prior", 8), ("uniform", 9), (np.full((9, case[0]), 1 / case[0]), 9)):
        found = sx.dual_filter(model, z, layers, initial)
        np.testing.assert_allclose(found.predicted, exact, atol=1e-12)
    early = sx.dual_filter(model, z, 3, keep=True)
    np.testing.assert_allclose(early.predicted[:4], exact[:4], atol=1e-13)  # causal: exact up to the number of layers
    assert early.history.shape == (4, 9, case[0])
    assert np.abs(early.history[0] - exact).max() > 1e-3
    verified = sx.dual_filter(model, z)
    assert verified.result == sx.RESULTS.successful
    assert verified.layers == 1
    np.testing.assert_allclose(sx.dual_filter(model, z, scheme="doubling").predicted, exact, atol=1e-13)
    data = sx.Sequences.from_arrays([z, z[:5]])
    both = sx.dual_filter(model, data, 8)
    np.testing.assert_allclose(both.predicted[1, :6], exact[:6], atol=1e-12)
    np.testing.assert_allclose(sx.dual_filter(model, data, scheme="doubling").predicted[0], exact, atol=1e-13)


@pytest.mark.parametrize("case", SELECTED)
def test_terms_are_those_of_the_backward_pass_and_add_up(case):
    model, z = problem(*case)
    filtered = sx.filter(model, z)
    state, following = sx.explain(model, z, "all", "state"), sx.explain(model, z, "all")
    np.testing.assert_allclose(state.prior + state.weights.sum(1), filtered.predicted, atol=1e-12)
    np.testing.assert_allclose(following.prior + following.weights.sum(1), filtered.next_all(), atol=1e-12)
    np.testing.assert_allclose(following.norms, np.abs(following.weights).sum(-1))
    assert following.result == sx.RESULTS.successful
    for T in (3, 8):
        prior, terms = backward_pass(model, z, T, np.eye(case[0]))
        np.testing.assert_allclose(state.prior[T], prior, atol=1e-12)
        np.testing.assert_allclose(state.weights[T, :T], terms, atol=1e-12)
        np.testing.assert_array_equal(state.weights[T, T:], 0)
        C = np.asarray(model.emissions(z)[T])
        np.testing.assert_allclose(following.weights[T, :T], terms @ C, atol=1e-12)
    np.testing.assert_array_equal(state.weights[:, 2], 0)  # the missing token
    contrast = sx.explain(model, z, "all", contrast=(0, 1))
    np.testing.assert_allclose(
        contrast.weights[..., 0], following.weights[..., 0] - following.weights[..., 1], atol=1e-12
    )
    np.testing.assert_allclose(following.remainder, 0, atol=1e-12)
    one = sx.explain(model, z, [3], np.eye(case[0])[:, :1])
    np.testing.assert_allclose(one.weights[0], state.weights[3][:, :1], atol=1e-12)
    data = sx.Sequences.from_arrays([z, z[:5]])
    both = sx.explain(model, data)
    np.testing.assert_allclose(both.weights[1, 0, :5], following.weights[5, :5], atol=1e-12)


class ChainInDisguise(sx.AbstractConditionalHMM):
    """The plain chain as a user's model: three lines."""

    initial: Float[Array, " d"]
    emission: Float[Array, "d V"]
    transition: Float[Array, "d d"]

    def kernels(self, tokens):
        return jnp.broadcast_to(self.transition, (len(tokens), *self.transition.shape))

    @property
    def reads_newest(self):
        return False


@pytest.mark.slow
def test_a_chain_written_as_a_conditional_model_has_the_numbers_of_the_chain():
    hmm = sx.models.random_hmm(0, 4, 3)
    other = ChainInDisguise(hmm.initial, hmm.emission, hmm.transition)
    z = np.array(sx.sample(hmm, 0, 12)[1])
    z[5] = -1
    np.testing.assert_allclose(sx.filter(hmm, z).predicted, sx.filter(other, z).predicted, atol=1e-14)
    np.testing.assert_allclose(sx.smooth(hmm, z).smoothed, sx.smooth(other, z).smoothed, atol=1e-14)
    np.testing.assert_array_equal(sx.most_likely_states(hmm, z), sx.most_likely_states(other, z))
    for layers in (1, 3):
        one, two = (sx.dual_filter(m, z, layers) for m in (hmm, other))
        np.testing.assert_allclose(one.predicted, two.predicted, atol=1e-13)
    for target in ("next", "state"):
        one, two = (sx.explain(m, z, "all", target, "control") for m in (hmm, other))
        np.testing.assert_allclose(one.weights, two.weights, atol=1e-12)
        np.testing.assert_allclose(one.prior, two.prior, atol=1e-12)
    one, two = (sx.dual_filter(m, z, scheme="doubling", keep=True) for m in (hmm, other))
    np.testing.assert_allclose(one.history, two.history, atol=1e-13)
    one, two = (sx.optimal_control(m, 4, np.arange(4.0)) for m in (hmm, other))
    for name in ("controls", "states", "slopes", "estimates", "filters", "probabilities"):
        for a, b in zip(getattr(one, name), getattr(two, name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose([one.cost, one.mse], [two.cost, two.mse], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["next", "state", "contrast"])
@pytest.mark.parametrize("lags", [0, 2])
def test_weights_and_norms_have_the_type_that_was_asked_for(target, lags):
    model = oracles.lagged(np.random.default_rng(0), 2, 2, 2, True, lags)
    given = {"contrast": (0, 1)} if target == "contrast" else {"target": target}
    z = np.array([0, 1, 1])
    whole = sx.explain(model, z, "all", **given)
    half = sx.explain(model, z, "all", dtype=jnp.float32, **given)
    assert (half.weights.dtype, half.norms.dtype, half.prior.dtype) == (jnp.float32, jnp.float32, jnp.float64)
    assert whole.weights.dtype == jnp.float64
    np.testing.assert_allclose(half.weights, whole.weights, atol=1e-6)
    assert half.columns == whole.columns


def test_layers_and_explanations_reject_options_that_do_not_fit():
    model, z = problem(*CASES[0])
    with pytest.raises(sx.ConfigurationError, match="stationary"):
        sx.dual_filter(model, z, 2, "stationary")
    with pytest.raises(sx.ConfigurationError, match="doubling"):
        sx.dual_filter(model, z, scheme="doubling", initial="prior")
    with pytest.raises(sx.DataError, match="target has shape"):
        sx.explain(model, z, -1, np.eye(2))
    with pytest.raises(sx.ConfigurationError, match="between"):
        sx.explain(model, z, 99)
    with pytest.raises(sx.ConfigurationError, match="method='control'"):
        sx.explain(model, z, method="news")
