"""Layers that double the window: each is the exact belief given the last tokens, and never worse on average."""

import itertools
import math

import conditional_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import steerax as sx

MODELS = {
    "chain": sx.models.random_hmm(0, 4, 3),
    "sticky": sx.HiddenMarkovModel([0.5, 0.5], [[0.99, 0.01], [0.01, 0.99]], [[0.9, 0.1], [0.1, 0.9]]),
    "two-cycle": sx.models.two_cycle(),
    "order two": sx.models.random_order_k(0, 2, 3, 2),
    "edges": sx.models.rrxor(),
    "quantum": sx.models.tom_quantum(),
}
COINS = np.array([[0.9, 0.1], [0.1, 0.9]])
ROOMS = MODELS | {"lags": oracles.lagged(np.random.default_rng(0), 3, 3, 2, True, 1, 0.2)}


def coins(room, initial, C=COINS, A=None):
    """Two states that stay what they are (or move by `A`), of which one was tossed, in each room for tokens."""
    A = np.eye(2) if A is None else np.array(A)
    if room == "chain":
        return sx.HiddenMarkovModel(initial, A, C)
    if room == "operators":
        return sx.GeneralisedHMM(
            initial, np.stack([np.diag(column) @ A for column in np.array(C).T]), evaluation=[1.0, 1.0]
        )
    return sx.LaggedHMM(initial, np.tile(A, (2, np.shape(C)[1], 1, 1)), C, [0.5, 0.5])


def tokens_of(model, length, seed=1, gaps=(4, 11)):
    z = np.array(sx.sample(model, seed, length)[1])
    z[[g for g in gaps if g < length]] = -1
    return z


def given_the_last(model, z, width):
    """The belief at each time when only the last `width` tokens are known, by the filter."""
    nothing = np.full(len(z), -1)
    prior = sx.filter(model, nothing).predicted
    rows = [prior[0]]
    for t in range(1, len(z) + 1):
        first = max(0, t - width)
        rows.append(sx.filter(model.started(prior[first]), z[first:t]).predicted[-1])
    return np.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "length"),
    [
        pytest.param(name, n, marks=() if (name, n) in (("chain", 1), ("quantum", 16)) else pytest.mark.slow)
        for name in MODELS
        for n in (1, 13, 16)
    ],
)  # fmt: skip
def test_a_layer_knows_the_last_tokens_and_the_last_layer_all(name, length):
    model = MODELS[name]
    z = tokens_of(model, length)
    found = sx.dual_filter(model, z, scheme="doubling", keep=True)
    needed = math.ceil(math.log2(length))
    assert (found.layers, found.result) == (needed, sx.RESULTS.successful)
    assert found.history.shape == (needed + 1, length + 1, found.predicted.shape[-1])
    np.testing.assert_allclose(found.predicted, sx.filter(model, z).predicted, atol=1e-12)
    for layer in range(needed + 1):
        np.testing.assert_allclose(found.history[layer], given_the_last(model, z, 2**layer), atol=1e-12)
    changes = np.abs(np.diff(found.history, axis=0)).sum(-1).max(-1)
    np.testing.assert_allclose(found.residuals, changes, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "sticky", "edges", "quantum"])
def test_no_layer_is_worse_on_average_over_all_strings(name):
    model = MODELS[name].started("stationary")
    V, T = model.n_tokens, 8 if MODELS[name].n_tokens == 2 else 5
    divergence = np.zeros(math.ceil(math.log2(T)) + 1)
    for z in itertools.product(range(V), repeat=T):
        run = sx.filter(model, np.array(z), on_impossible="skip")
        p = np.exp(float(run.log_likelihood))
        if p == 0:
            continue
        found = sx.dual_filter(model, np.array(z), scheme="doubling", keep=True)
        exact = np.asarray(run.next())
        for layer, belief in enumerate(found.history):
            q = np.asarray(sx.filter(model.started(belief[-1]), np.zeros(0, int)).next())
            seen = exact > 1e-12
            divergence[layer] += p * (exact[seen] * np.log(exact[seen] / q[seen])).sum()
    assert (np.diff(divergence) <= 1e-13).all()
    assert divergence[0] > 1e-5
    assert abs(divergence[-1]) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "lags", pytest.param("quantum", marks=pytest.mark.slow)])
def test_a_batch_is_each_sequence_alone_and_traced_is_eager(name):
    model = ROOMS[name]
    data = sx.Sequences.from_arrays([tokens_of(model, n, seed) for seed, n in enumerate((9, 14, 5))])
    found = sx.dual_filter(model, data, 2, scheme="doubling", keep=True)
    assert found.result == sx.RESULTS.max_steps_reached
    for i, z in enumerate(data):
        alone = sx.dual_filter(model, z, 2, scheme="doubling", keep=True)
        np.testing.assert_allclose(found.predicted[i, : len(z) + 1], alone.predicted, atol=1e-13)
    z = jnp.asarray(data[1])
    eager = sx.dual_filter(model, z, scheme="doubling").predicted
    np.testing.assert_allclose(jax.jit(lambda z: sx.dual_filter(model, z, scheme="doubling").predicted)(z), eager, atol=1e-13)  # fmt: skip
    np.testing.assert_allclose(eager, sx.filter(model, z).predicted, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("room", ["chain", pytest.param("operators", marks=pytest.mark.slow), "lags"])
def test_a_window_may_lose_what_the_filter_does_not(room):
    """The filter knows the state from the start; a window is read from both, and its halves rule out one each."""
    z = np.repeat([0, 1, 0], [700, 1200, 100])
    model = coins(room, [1.0, 0.0])
    assert not sx.filter(model, z).lost_mass
    found = sx.dual_filter(model, z, scheme="doubling", keep=True)
    np.testing.assert_allclose(found.history, np.broadcast_to([1.0, 0.0], found.history.shape), atol=1e-12)
    traced = jax.jit(lambda z: sx.dual_filter(model, z, scheme="doubling").predicted)(jnp.asarray(z))
    np.testing.assert_allclose(traced[-1], [1, 0], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("room", [pytest.param("chain", marks=pytest.mark.slow), "lags"])
@pytest.mark.parametrize("options", [{"scheme": "doubling"}, {"layers": 3}])
def test_a_product_of_a_rare_token_and_a_rare_move_is_not_lost(room, options):
    """An entry of 1e-400, which only the scaled recursions hold, and the last token decides for."""
    C, A = [[1 - 1e-200, 1e-200, 0.0], [0.0, 0.5, 0.5]], [[1 - 1e-200, 1e-200], [0.0, 1.0]]
    model, z = coins(room, [1.0, 0.0], C, A), np.array([1, 2, 1])
    exact = np.array([[1, 0], [1, 1e-200], [0, 1], [0, 1]])
    np.testing.assert_allclose(sx.dual_filter(model, z, **options).predicted, exact, rtol=1e-12)
    jitted = jax.jit(lambda z: sx.dual_filter(model, z, **options).predicted)
    np.testing.assert_allclose(jitted(jnp.asarray(z)), exact, rtol=1e-12)


@pytest.mark.slow
def test_states_that_are_left_for_good_stay_finite():
    """The probability of the first state falls below every number before a window opens that only this state explains."""
    model = sx.HiddenMarkovModel([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [[0.9, 0.1], [0.1, 0.9]])
    z = np.r_[np.full(1500, -1), np.zeros(40, int)]
    found = sx.dual_filter(model, z, scheme="doubling", keep=True)
    assert np.isfinite(found.history).all()
    np.testing.assert_allclose(found.predicted, sx.filter(model, z).predicted, atol=1e-12)
    only_first = sx.HiddenMarkovModel([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    found = sx.dual_filter(only_first, np.r_[np.full(1500, -1), 0], scheme="doubling", keep=True)
    assert np.isfinite(found.history).all()
    np.testing.assert_allclose(found.history[:, -1], np.broadcast_to([0.5, 0.5], (len(found.history), 2)), atol=1e-12)


def test_layers_beyond_the_last_change_nothing():
    model = MODELS["chain"]
    z = tokens_of(model, 13)
    found = sx.dual_filter(model, z, 40, scheme="doubling")
    assert (found.layers, found.residuals.shape, found.result) == (40, (40,), sx.RESULTS.successful)
    np.testing.assert_array_equal(found.residuals[4:], 0)
    np.testing.assert_allclose(found.predicted, sx.filter(model, z).predicted, atol=1e-13)


def divergences(model, layers, **options):
    """Mean divergence of the prediction after each layer from the filter's, over strings."""
    data = sx.sample_sequences(model, 3, 40, 64)
    found = sx.dual_filter(model, data, layers, keep=True, **options)
    C = np.asarray(model.emission)
    exact = np.asarray(sx.filter(model, data).predicted) @ C
    return [(exact * np.log(exact / (np.asarray(b) @ C))).sum(-1).mean() for b in found.history]


@pytest.mark.slow
def test_from_the_third_layer_on_doubling_is_nearer_and_the_other_scheme_can_turn_back():
    """What docs/hidden-markov.md says."""
    processes = {
        "forgets": sx.models.mess3(0.15, 0.6),
        "mess3": sx.models.mess3(),
        "sticky": MODELS["sticky"],
        "random": sx.models.random_hmm(1, 6, 4),
        "casino": sx.models.casino().started("stationary"),
    }
    for name, model in processes.items():
        dual, doubling = (divergences(model, 6, **o) for o in ({"initial": "prior"}, {"scheme": "doubling"}))
        assert all(a < b for a, b in zip(doubling[3:], dual[3:], strict=True)), name
        assert (max(np.diff(dual)) > 0) == (name in ("mess3", "sticky")), name


@pytest.mark.slow
@pytest.mark.parametrize("room", ["chain", "operators", "lags"])
def test_no_mass_underflows_for_good(room):
    model = coins(room, [0.5, 0.5])
    z = np.repeat([0, 1, 0], [500, 900, 100])
    odds = np.cumsum(np.where(z == 0, np.log(9), -np.log(9)))
    found = sx.dual_filter(model, z, scheme="doubling")
    np.testing.assert_allclose(found.predicted[1:, 0], expit(odds), atol=1e-9)


def test_single_precision():
    model = MODELS["chain"]
    narrow = sx.HiddenMarkovModel(*(np.asarray(a, np.float32) for a in model.arrays))
    found = sx.dual_filter(narrow, tokens_of(model, 40), scheme="doubling")
    assert found.predicted.dtype == jnp.float32
    np.testing.assert_allclose(found.predicted, sx.filter(model, tokens_of(model, 40)).predicted, atol=2e-6)


def test_gradients_are_those_of_the_filter_after_all_layers():
    z = tokens_of(MODELS["chain"], 6)

    def value(C, verb):
        model = sx.HiddenMarkovModel(MODELS["chain"].initial, MODELS["chain"].transition, C)
        return (verb(model, z).predicted[-1] ** 2).sum()

    C = MODELS["chain"].emission
    slopes = [jax.grad(value)(C, verb) for verb in (sx.filter, lambda m, z: sx.dual_filter(m, z, scheme="doubling"))]
    np.testing.assert_allclose(*slopes, atol=1e-12)


def test_layers_start_from_the_wiener_belief():
    """An array as the start: 13 times nearer than the prior on a process that forgets, and the filter after all layers."""
    model = sx.models.mess3(0.15, 0.6)
    z = np.array(sx.sample(model, 0, 24)[1])
    start = sx.beliefs.wiener(model, 24).belief(z[None])[0]
    exact = sx.filter(model, z).predicted
    errors = [np.abs(sx.dual_filter(model, z, 1, s).predicted - exact).max() for s in (start, "prior")]
    assert errors[0] < errors[1] / 3
    np.testing.assert_allclose(sx.dual_filter(model, z, 24, start).predicted, exact, atol=1e-12)


@pytest.mark.parametrize("option", [{"initial": "prior"}, {"tolerance": 1e-3}, {"max_layers": 3}])
def test_rejects_options_of_the_other_scheme(option):
    with pytest.raises(sx.ConfigurationError, match=f"doubling.* no {next(iter(option))}"):
        sx.dual_filter(MODELS["chain"], [0, 1], scheme="doubling", **option)


def test_rejects_an_unknown_scheme():
    with pytest.raises(sx.ConfigurationError, match="'dual', 'doubling'"):
        sx.dual_filter(MODELS["quantum"], [0, 1], scheme="halving")
