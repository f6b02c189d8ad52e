"""Filter, smoother, likeliest states, scores, streams and forecasts of conditionally Markov models, against all paths of states."""

import itertools

import conditional_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx

SLOW = pytest.mark.slow  # each compiles functions of its own shapes
CASES = [
    pytest.param(3, 2, 4, True, 0, 0.0, marks=SLOW),
    pytest.param(2, 3, 2, False, 0, 0.4, marks=SLOW),
    (3, 3, 2, True, 2, 0.3),
]


def drawn(model, T, rng, gaps=0):
    z = np.array(sx.sample(model, int(rng.integers(1000)), T)[1])
    z[rng.choice(T, gaps, replace=False)] = -1
    return z


@pytest.mark.slow
@pytest.mark.parametrize(("d", "V", "m", "attention", "lags", "zeros"), CASES)
def test_every_verb_is_the_sum_over_all_paths_of_states(d, V, m, attention, lags, zeros):
    rng = np.random.default_rng(d)
    for gaps in (0, 2):
        model = oracles.lagged(rng, d, V, m, attention, lags, zeros)
        z = drawn(model, 6, rng)
        z[[1, 4][:gaps]] = -1
        steps = oracles.steps_by_hand(model, z)
        beliefs, following, log_likelihood, smoothed, path = oracles.by_paths(np.asarray(model.initial), *steps, z)
        if not np.isfinite(log_likelihood):
            continue  # the gap made a later token impossible
        found = sx.filter(model, z)
        np.testing.assert_allclose(found.predicted, beliefs, atol=1e-13)
        np.testing.assert_allclose(found.next_all(), following, atol=1e-13)
        np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(sx.smooth(model, z).smoothed, smoothed, atol=1e-13)
        np.testing.assert_array_equal(sx.most_likely_states(model, z), path)
        np.testing.assert_allclose(found.kernels, np.array(steps[0], float), atol=1e-15)
        assert found.result == sx.RESULTS.successful


def test_filtered_distributions_are_given_the_token_itself_too():
    rng = np.random.default_rng(3)
    model = oracles.lagged(rng, 3, 2, 3)
    z = drawn(model, 5, rng, 1)
    K, C = oracles.steps_by_hand(model, z)
    for t in range(5):
        still = [np.eye(3) if s == t else K[s] for s in range(t + 1)]  # the state that emits, after its token
        beliefs = oracles.by_paths(np.asarray(model.initial), still, C[: t + 2], z[: t + 1])[0]
        np.testing.assert_allclose(sx.filter(model, z).filtered[t], beliefs[-1], atol=1e-13)


@pytest.mark.slow
def test_a_batch_is_each_sequence_alone_and_a_stream_is_the_filter():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 3, 3, 3, True, 2)
    z = drawn(model, 12, rng, 2)
    data = sx.Sequences.from_arrays([z, z[:5]])
    together, scores = sx.filter(model, data), sx.score(model, data)
    for i, part in enumerate((z, z[:5])):
        alone = sx.filter(model, part)
        np.testing.assert_allclose(together.predicted[i, : len(part) + 1], alone.predicted, atol=1e-14)
        np.testing.assert_allclose(together.next()[i], alone.next(), atol=1e-14)
        np.testing.assert_allclose(scores.log_likelihoods[i, : len(part)], alone.log_likelihoods, atol=1e-14)
        np.testing.assert_allclose(together.lag_weights[i, : len(part)], model.lag_weights(part), atol=1e-15)
        np.testing.assert_array_equal(
            sx.most_likely_states(model, data)[i, : len(part)], sx.most_likely_states(model, part)
        )
    alone = sx.filter(model, z)
    state, states = sx.start(model), sx.start(model, 2)
    for t, token in enumerate(z):
        state, prediction = sx.step(model, state, int(token))
        states, _ = sx.step(model, states, np.array([token, token]))
        np.testing.assert_allclose(prediction.next, alone.next(t + 1), atol=1e-14)
        np.testing.assert_allclose(state.predicted, alone.predicted[t + 1], atol=1e-14)
    np.testing.assert_allclose(state.log_likelihood, alone.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(states.predicted[1], alone.predicted[-1], atol=1e-14)
    np.testing.assert_array_equal(state.recent, z[-3:])


def test_a_stream_comes_back_from_a_folder(tmp_path):
    model = oracles.lagged(np.random.default_rng(0), 2, 2, 3)
    state, _ = sx.step(model, sx.start(model), 1)
    sx.save(state, tmp_path / "state")
    for one, other in zip(sx.load(tmp_path / "state"), state, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_inside_jit_vmap_and_grad_the_numbers_are_the_same():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 2, 3)
    z = jnp.asarray([drawn(model, 8, rng) for _ in range(3)])
    loss = lambda model, z: sx.filter(model, z).log_likelihood
    alone = [sx.filter(model, one).log_likelihood for one in np.asarray(z)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss, (None, 0)))(model, z), alone, rtol=1e-14)
    slope = jax.grad(loss)(model, z[0])
    along = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), slope)
    at = lambda e: float(loss(jax.tree.map(lambda a, b: a + e * b, model, along), z[0]))
    expected = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose((at(1e-6) - at(-1e-6)) / 2e-6, expected, rtol=1e-6)


@SLOW
def test_no_mass_underflows_for_good():
    # states 0 and 1 never change; only the last token tells that it was state 1, whose share had fallen to 1e-400
    stay = np.tile(np.eye(2), (2, 3, 1, 1))
    model = sx.LaggedHMM([0.5, 0.5], stay, [[1 - 1e-4, 1e-4, 0.0], [1e-4, 1 - 2e-4, 1e-4]], [0.5, 0.5])
    z = np.array([0] * 100 + [2])
    found = sx.filter(model, z)
    np.testing.assert_allclose(found.predicted[-1], [0, 1], atol=1e-14)
    np.testing.assert_allclose(found.log_likelihood, np.log(0.5) + 101 * np.log(1e-4), rtol=1e-12)
    np.testing.assert_allclose(sx.smooth(model, z).smoothed, np.tile([0.0, 1.0], (101, 1)), atol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda z: sx.filter(model, z).predicted)(z)[-1], [0, 1], atol=1e-14)
    np.testing.assert_allclose(sx.dual_filter(model, z).predicted[-1], [0, 1], atol=1e-14)
    state = sx.start(model)
    for token in z:
        state, _ = sx.step(model, state, int(token))
    np.testing.assert_allclose(state.predicted, [0, 1], atol=1e-14)


def test_an_impossible_token_is_named_or_stepped_over():
    model = sx.LaggedHMM([1.0, 0.0], np.tile(np.eye(2), (1, 2, 1, 1)), np.eye(2), [1.0])
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.filter(model, sx.Sequences.from_arrays([[0, 0], [0, 1]]))
    assert (error.value.sequence, error.value.position, error.value.token) == (1, 1, 1)
    found = sx.filter(model, [0, 1, 0], on_impossible="skip")
    assert found.log_likelihood == -np.inf
    assert found.result == sx.RESULTS.impossible_token
    np.testing.assert_array_equal(found.tokens, [0, -1, 0])
    np.testing.assert_allclose(found.predicted, [[1, 0]] * 4)
    with pytest.raises(sx.ImpossibleTokenError):
        sx.step(model, sx.start(model), 1)
    with pytest.raises(sx.ImpossibleTokenError):
        sx.most_likely_states(model, np.array([0, 1]))
    assert sx.score(model, [[0, 1, 0]], on_impossible="skip").cross_entropy == np.inf


@SLOW
def test_the_first_forecast_is_exact_and_the_others_within_their_errors():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 2, 3)
    z = drawn(model, 4, rng)
    ahead = sx.forecast(model, z, 3, samples=4096)
    assert ahead.method == "simulated"
    np.testing.assert_allclose(ahead.probabilities[0], sx.filter(model, z).next(), atol=1e-14)
    base = sx.filter(model, z).log_likelihood
    for n in (1, 2):
        exact = np.zeros(2)
        for more in itertools.product(range(2), repeat=n + 1):
            exact[more[-1]] += np.exp(sx.filter(model, np.append(z, more)).log_likelihood - base)
        assert (np.abs(ahead.probabilities[n] - exact) < 4.5 * ahead.standard_error[n]).all()
        assert ahead.standard_error[n].max() < 0.01
    both = sx.forecast(model, sx.Sequences.from_arrays([z, z[:2]]), 2)
    np.testing.assert_allclose(both.probabilities[1, 0], sx.filter(model, z[:2]).next(), atol=1e-14)
    np.testing.assert_array_equal(ahead.interval(0.9).shape, (3, 2))


@SLOW
def test_a_representation_adds_up():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 2, 2)
    z = drawn(model, 4, rng)
    u = sx.represent(sx.next_token_predictor(model, 1), z, 2, weights=True)
    np.testing.assert_allclose(u.values[-1], sx.filter(model, z).next()[1], atol=1e-13)
    np.testing.assert_allclose(u.values[0] + u.contributions.sum(), u.values[-1], atol=1e-13)


def test_verbs_reject_what_they_cannot_do():
    rng = np.random.default_rng(0)
    _, process = oracles.enumerated(*oracles.law_of_full_memory(rng, 2, 2, 2), 2, 2)
    with pytest.raises(sx.ConfigurationError, match="reads all of them"):
        sx.start(process)
    with pytest.raises(sx.ConfigurationError, match="has no weights of lags"):
        _ = sx.filter(process, [0, 1]).lag_weights
    model = oracles.lagged(rng, 2, 2, 2)
    with pytest.raises(sx.DataError, match="not a code"):
        sx.filter(model, [0, 2])
    with pytest.raises(sx.ConfigurationError, match="no option 'depth'"):
        sx.filter(model, [0, 1], depth=3)
    with pytest.raises(sx.ConfigurationError, match="on_impossible"):
        sx.filter(model, [0, 1], on_impossible="ignore")
    own = sx.next_token_predictor(model, 0), np.array([0, 1]), 2
    with pytest.raises(sx.ConfigurationError, match=r"support takes .* not a LaggedHMM"):
        sx.represent(*own, sx.support(model))
    with pytest.raises(sx.ConfigurationError, match="state of this model"):
        sx.step(model, sx.start(sx.models.mess3()), 0)
