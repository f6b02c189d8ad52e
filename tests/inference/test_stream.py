"""Streams: the same numbers as the filter of the whole sequence, one observation at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import chi2, kstest

import steerax as sx
from steerax.inference.hmm import stream as hmm_stream

RNG = np.random.default_rng(0)
LINEAR = sx.LinearGaussianModel(
    [0.1, -0.2],
    np.diag([0.5, 0.3]),
    0.4 * RNG.normal(size=(2, 2, 2)),
    RNG.normal(size=(3, 2)),
    np.diag([0.3, 0.1]),
    np.diag([0.2, 0.1, 0.4]),
    [1.0, 0.0, -1.0],
)
MODELS = {
    "chain": sx.models.random_hmm(0, 4, 3),
    "left-right": sx.models.left_right(3, 4),
    "order two": sx.models.random_order_k(0, 3, 4, 2),
    "edges": sx.models.rrxor(),
    "quantum": sx.models.tom_quantum(),
    "linear": LINEAR,
    "one channel": sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.1]], [[0.1]]),
}
TOKENS = ("chain", "left-right", "order two", "edges", "quantum")


def data_of(name, length=60, seed=1):
    """A sequence with gaps."""
    model = MODELS[name]
    z = np.array(sx.sample(model, seed, length)[1])
    if name in TOKENS:
        z[[5, 6, 30]] = -1
    else:
        z[7], z[20, 0], z[21, -1] = np.nan, np.nan, np.nan
    return z


def along(model, z, state=None, **options):
    """States (the first one too) and predictions of every observation, stacked."""
    states, predictions = [sx.start(model) if state is None else state], []
    for one in z:
        state, prediction = sx.step(model, states[-1], one, **options)
        states.append(state)
        predictions.append(prediction)
    stack = lambda *parts: jnp.stack(parts)
    return jax.tree.map(stack, *states), jax.tree.map(stack, *predictions)


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_is_the_filter(name):
    model, z = MODELS[name], data_of(name)
    states, said = along(model, z)
    whole = sx.filter(model, z)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, states.predicted, whole.predicted)
    close(said.log_likelihood, whole.log_likelihoods)
    close(said.surprise, -whole.log_likelihoods)
    close(states.log_likelihood, np.concatenate([[0], np.cumsum(whole.log_likelihoods)]))
    every = whole.next_all()
    jax.tree.map(lambda a, b: close(a, b[1:]), said.next, every)
    assert states.time.tolist() == list(range(len(z) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "edges", "left-right"])
def test_single_precision(name):
    model = jax.tree.map(lambda a: a.astype(jnp.float32), MODELS[name])
    z = data_of(name)
    states, _ = along(model, z)
    assert states.mantissa.dtype == jnp.float32
    np.testing.assert_allclose(states.predicted, sx.filter(MODELS[name], z).predicted, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "edges", "linear"])
def test_single_precision_inside_scan(name):
    model = jax.tree.map(lambda a: a.astype(jnp.float32), MODELS[name])
    z = data_of(name)
    last, said = jax.lax.scan(lambda s, one: sx.step(model, s, one), sx.start(model), jnp.asarray(z))
    assert {a.dtype for a in jax.tree.leaves((last, said)) if a.dtype.kind == "f"} == {jnp.dtype("float32")}
    np.testing.assert_allclose(said.log_likelihood, sx.filter(MODELS[name], z).log_likelihoods, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["operators", "chain"])
def test_no_mass_underflows_for_good(kind):
    """Two coins of which one is tossed for ever: evidence that has turned against one of them can turn again."""
    if kind == "chain":
        model = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.9, 0.1], [0.1, 0.9]])
    else:
        model = sx.models.mixture([sx.models.coin(0.1), sx.models.coin(0.9)])
    z = np.repeat([0, 1, 0], [700, 1200, 100])
    odds = np.cumsum(np.where(z == 0, np.log(9), -np.log(9)))

    def scan(state, token):
        state, prediction = sx.step(model, state, token)
        return state, (state.predicted, prediction.log_likelihood)

    _, (beliefs, log_q) = jax.lax.scan(scan, sx.start(model), jnp.asarray(z))
    with_odds = np.asarray(beliefs)[:, 0] if kind == "chain" or beliefs[0, 0] > 0.5 else 1 - np.asarray(beliefs)[:, 0]
    np.testing.assert_allclose(with_odds, expit(odds), atol=1e-9)
    np.testing.assert_allclose(log_q.sum(), sx.filter(model, z).log_likelihood, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["chain", "linear", *(pytest.param(n, marks=pytest.mark.slow) for n in ("quantum", "one channel"))]
)
def test_several_streams_are_each_alone(name):
    model = MODELS[name]
    data = [np.array(sx.sample(model, seed, 6)[1]) for seed in range(3)]
    alone = [along(model, z) for z in data]
    state = sx.start(model, 3)
    mapped = jax.vmap(lambda s, z: sx.step(model, s, z))
    same = sx.start(model, 3)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    for t in range(6):
        now = np.stack([z[t] for z in data])
        state, said = sx.step(model, state, now)
        same, also = mapped(same, jnp.asarray(now))
        wanted = jax.tree.map(lambda *rows, t=t: np.stack([row[t] for row in rows]), *(said for _, said in alone))
        jax.tree.map(close, said, wanted)
        jax.tree.map(close, also, wanted)
    np.testing.assert_allclose(state.log_likelihood, [a[0].log_likelihood[-1] for a in alone], rtol=1e-11)


@pytest.mark.parametrize("name", ["chain", "quantum", "one channel"])
def test_a_state_that_was_saved_goes_on(name, tmp_path):
    model, z = MODELS[name], data_of(name)
    states, _ = along(model, z[:40])
    last = jax.tree.map(lambda a: a[-1], states)
    sx.save(last, tmp_path / "state")
    again, _ = along(model, z[40:], sx.load(tmp_path / "state"))
    whole, _ = along(model, z)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[-1], b[-1]), again, whole)


def test_a_step_is_compiled_once():
    model = sx.models.random_hmm(3, 5, 7)
    state, _ = sx.step(model, sx.start(model), 0)
    before = hmm_stream._step._cache_size()
    for token in (1, 2, -1, np.int64(4), jnp.asarray(3)):
        state, _ = sx.step(model, state, token)
    assert hmm_stream._step._cache_size() == before


def test_p_values_of_tokens_are_sums_of_what_is_as_rare():
    model = sx.HiddenMarkovModel([1.0], [[1.0]], [[0.5, 0.2, 0.2, 0.1]])
    state = sx.start(model)
    wanted = {0: 1.0, 1: 0.5, 2: 0.5, 3: 0.1, -1: 1.0}
    for token, p in wanted.items():
        assert float(sx.step(model, state, token)[1].p_value) == pytest.approx(p, abs=1e-14)


@pytest.mark.slow
def test_p_values_of_a_series_are_uniform_under_its_model_and_those_of_the_innovation():
    z = np.array(sx.sample(LINEAR, 5, 400)[1])
    z[3, 1] = np.nan
    _, said = along(LINEAR, z)
    assert kstest(said.p_value[np.r_[0:3, 4:400]], "uniform").pvalue > 1e-3
    every = sx.filter(LINEAR, z).next_all()
    for t, kept in ((0, [0, 1, 2]), (3, [0, 2]), (50, [0, 1, 2])):
        e = (z[t] - np.asarray(every.mean[t]))[kept]
        distance = e @ np.linalg.solve(np.asarray(every.covariance[t])[np.ix_(kept, kept)], e)
        assert float(said.p_value[t]) == pytest.approx(chi2.sf(distance, len(kept)), rel=1e-8)


def test_an_outlier_is_found():
    z = np.array(sx.sample(LINEAR, 6, 50)[1])
    z[30] += 12
    _, said = along(LINEAR, z)
    assert int(jnp.argmin(said.p_value)) == 30
    assert float(said.p_value[30]) < 1e-6


@pytest.mark.slow
def test_gradients_pass_through_a_step():
    model = MODELS["chain"]

    def loss(model):
        state, first = sx.step(model, sx.start(model), 1)
        return first.log_likelihood + sx.step(model, state, 2)[1].log_likelihood

    slope = eqx.filter_grad(loss)(model)
    wanted = eqx.filter_grad(lambda m: sx.filter(m, jnp.asarray([1, 2])).log_likelihood)(model)
    np.testing.assert_allclose(slope.emission, wanted.emission, rtol=1e-9)
    np.testing.assert_allclose(slope.transition, wanted.transition, rtol=1e-9, atol=1e-12)


SURE = sx.HiddenMarkovModel([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], np.eye(2))


def test_an_impossible_token_leaves_the_state_that_was_given():
    state, _ = sx.step(SURE, sx.start(SURE), 0)
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.step(SURE, state, 0)
    assert (error.value.sequence, error.value.position, error.value.token) == (0, 1, 0)
    after, said = sx.step(SURE, state, 0, on_impossible="skip")
    assert said.log_likelihood == -np.inf
    assert said.result == sx.RESULTS.impossible_token
    assert float(said.p_value) == 0
    np.testing.assert_array_equal(after.predicted, [1, 0])  # as if nothing had been seen
    _, said = sx.step(SURE, state, 1)
    assert float(said.log_likelihood) == 0
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.step(SURE, sx.start(SURE, 3), [0, 0, 1])
    assert error.value.sequence == 2


def test_a_series_without_any_noise_breaks_down_by_name():
    model = sx.LinearGaussianModel([0.0], [[0.0]], [[[1.0]]], [[1.0]], [[0.0]], [[0.0]])
    assert sx.step(model, sx.start(model), 1.0)[1].result == sx.RESULTS.breakdown
    assert sx.filter(model, [1.0]).result == sx.RESULTS.breakdown
    assert sx.step(LINEAR, sx.start(LINEAR), np.zeros(3))[1].result == sx.RESULTS.successful


def test_symbols_are_tokens_of_a_model_with_a_vocabulary():
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], np.eye(2), sx.Vocabulary(("no", "yes")))
    for symbol, code in (("yes", 1), ("no", 0)):
        first, second = (sx.step(model, sx.start(model), token)[0] for token in (symbol, code))
        np.testing.assert_array_equal(first.predicted, second.predicted)
    both, _ = sx.step(model, sx.start(model, 2), ["no", "yes"])
    np.testing.assert_allclose(both.predicted, [[0.9, 0.1], [0.1, 0.9]])
    with pytest.raises(sx.DataError, match="maybe"):
        sx.step(model, sx.start(model), "maybe")


@pytest.mark.parametrize(
    ("name", "number", "observation", "said"),
    [
        ("chain", None, 3, "Token 3 .* codes are 0 … 2"),
        ("chain", None, np.int64(-2), "Token -2 "),
        ("quantum", None, 1.0, "integer codes"),
        ("chain", None, [0, 1], "one token a stream"),
        ("chain", 3, [0, 1], "each of 3 streams; got 2"),
        ("chain", 2, [0, 7], "Token 7 at position 1"),
        ("chain", None, "a", "nothing says their codes"),
        ("linear", None, 1.0, r"numbers \[T 3\]"),
        ("linear", None, [1.0, np.inf, 0.0], "infinite"),
        ("linear", None, ["a", "b", "c"], "symbols such as 'a'"),
        ("linear", 2, np.zeros(3), r"numbers \[T 3\]"),
        ("linear", 2, np.zeros((3, 3)), "each of 2 streams; got 3"),
    ],
)
def test_what_is_no_observation_is_one_sentence(name, number, observation, said):
    model = MODELS[name]
    with pytest.raises(sx.DataError, match=said) as error:
        sx.step(model, sx.start(model, number), observation)
    assert "\n" not in str(error.value)


def test_none_is_missing():
    for name, missing in (("chain", None), ("one channel", None), ("linear", [0.5, None, 1.0])):
        model = MODELS[name]
        after, said = sx.step(model, sx.start(model), missing)
        known = {"chain": -1, "one channel": np.nan, "linear": [0.5, np.nan, 1.0]}[name]
        jax.tree.map(np.testing.assert_array_equal, (after, said), sx.step(model, sx.start(model), known))
    both, _ = sx.step(MODELS["chain"], sx.start(MODELS["chain"], 2), [None, 1])
    one, _ = sx.step(MODELS["chain"], sx.start(MODELS["chain"]), 1)
    np.testing.assert_allclose(both.predicted[1], one.predicted)


ONE = [np.ones(1), np.ones((1, 1))]
REMEMBER = {
    "two lags": sx.LaggedHMM([1.0], np.ones((2, 3, 1, 1)), np.full((1, 3), 1 / 3), [0.5, 0.5]),
    "three lags": sx.LaggedHMM([1.0], np.ones((3, 3, 1, 1)), np.full((1, 3), 1 / 3), np.full(3, 1 / 3)),
    "autoregressive": sx.HiddenMarkovModel(*ONE, sx.emissions.Autoregressive([[0.0]], [[[[0.5]], [[0.1]]]], [[[1.0]]])),
    "no memory": sx.HiddenMarkovModel(*ONE, np.full((1, 3), 1 / 3)),
    "order one": sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.1]], [[0.1]]),
    "order two": sx.LinearGaussianModel([0.0], [[1.0]], [[[0.5]], [[0.2]]], [[1.0]], [[0.1]], [[0.1]]),
}


@pytest.mark.parametrize("name", REMEMBER)
def test_rejects_the_state_of_a_model_of_as_many_states_that_remembers_something_else(name):
    for other in set(REMEMBER) - {name}:
        with pytest.raises(sx.ConfigurationError, match=r"a state of this model"):
            sx.step(REMEMBER[name], sx.start(REMEMBER[other]), 0)
    with pytest.raises(sx.ConfigurationError, match=r"a state of this model"):
        sx.step(REMEMBER[name], sx.start(REMEMBER["two lags" if "two" not in name else "three lags"], 2), [0, 0])


class Alternating(sx.AbstractConditionalHMM):
    """A model that says it reads no token."""

    initial: jax.Array
    emission: jax.Array

    def kernels(self, tokens):
        return jnp.broadcast_to(jnp.array([[0.2, 0.8], [0.7, 0.3]]), (len(tokens), 2, 2))

    @property
    def memory(self):
        return 0


def test_a_model_without_memory_is_a_stream_too():
    model = Alternating(jnp.array([0.3, 0.7]), jnp.array([[0.9, 0.1], [0.4, 0.6]]))
    z = [0, 1, -1, 1]
    states, said = along(model, z)
    whole = sx.filter(model, np.array(z))
    np.testing.assert_allclose(states.predicted, whole.predicted, atol=1e-14)
    np.testing.assert_allclose(said.next, whole.next_all()[1:], atol=1e-14)
    ahead = sx.forecast(model, np.array(z), 2, samples=8)
    np.testing.assert_allclose(ahead.probabilities[0], whole.next(), atol=1e-14)


def test_rejects_other_models_states_and_options():
    for name, other in (("chain", "linear"), ("linear", "chain"), ("quantum", "chain"), ("one channel", "linear")):
        with pytest.raises(sx.ConfigurationError, match="a state of this model"):
            sx.step(MODELS[name], sx.start(MODELS[other]), 0)
    with pytest.raises(sx.ConfigurationError, match="a state of this model"):
        sx.step(MODELS["chain"], None, 0)
    with pytest.raises(sx.ConfigurationError, match="start takes"):
        sx.start(np.eye(2))
    with pytest.raises(sx.ConfigurationError, match="number"):
        sx.start(MODELS["chain"], 0)
    with pytest.raises(sx.ConfigurationError, match="on_impossible"):
        sx.step(MODELS["chain"], sx.start(MODELS["chain"]), 0, on_impossible="ignore")
    with pytest.raises(sx.ConfigurationError, match="no option"):
        sx.step(LINEAR, sx.start(LINEAR), np.zeros(3), on_impossible="skip")
