"""Hidden Markov models of numbers: every verb against the joint densities of all paths, and against the verbs of tokens."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import NAMES, WIDE, Enumerated, random_emission, with_gaps
from path_oracles import random_arrays

import steerax as sx
from steerax.models.transitions import OrderKTransition

E, D, T = sx.emissions, 3, 4


def random_case(name, seed, spread):
    """A model with zeros and tiny entries in its chain, a series with gaps, and its log-densities by SciPy."""
    rng = np.random.default_rng(seed)
    mu, A, _ = (a[0] for a in random_arrays(rng, 1, D, 2, np.float64))
    emission, density = random_emission(name, rng, D, spread)
    z = np.array(emission.sample(jax.random.key(seed), jnp.asarray(rng.integers(0, D, T))))
    z = with_gaps(rng, z)
    return sx.HiddenMarkovModel(mu, A, emission), z, np.array([[density(x, row) for x in range(D)] for row in z])


def check_all(model, z, log_l):
    """Every verb against the enumeration of paths."""
    exact = Enumerated(model.initial, model.transition, log_l, steps=2)
    f = sx.filter(model, z)
    close = lambda a, b, tol=1e-11: np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), tol, tol)
    close(f.log_likelihood, exact.log_mass(T))
    close(np.cumsum(f.log_likelihoods), [exact.log_mass(t + 1) for t in range(T)])
    close(f.predicted, [exact.state(t, t) for t in range(T + 1)])
    close(f.filtered, [exact.state(t, t + 1) for t in range(T)])
    close(sx.smooth(model, z).smoothed, [exact.state(t, T) for t in range(T)])
    path = np.asarray(sx.most_likely_states(model, z))
    on = (exact.paths[:, :T] == path).all(1)
    value = np.log(np.exp(exact.prefix[on, T] - exact.prefix[on, T].max()).sum()) + exact.prefix[on, T].max()
    close(value, exact.log_best(), 1e-9)
    close(sx.forecast(model, z, 3).states, [exact.state(T + j, T) for j in range(3)])
    close(sx.dual_filter(model, z).predicted, f.predicted)
    close(sx.dual_filter(model, z, scheme="doubling").predicted, f.predicted)
    close(sx.dual_filter(model, z, layers=T).predicted, f.predicted, 1e-8)
    told = sx.explain(model, z, "all", "state", method="control")
    close(told.prior + told.weights.sum(1), f.predicted)
    for q in range(T + 1):
        A = np.linalg.matrix_power(np.asarray(model.transition), 1)
        for s in range(q):
            change = exact.state(s, s + 1) - exact.state(s, s)
            close(told.weights[q, s], change @ np.linalg.matrix_power(A, q - s).astype(WIDE))
    state = sx.start(model)
    for t in range(T):
        state, said = sx.step(model, state, z[t])
        close(said.log_likelihood, f.log_likelihoods[t])
        close(state.predicted, f.predicted[t + 1])


FEW = ("full", "poisson")  # the others take longer to compile


@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_verb_agrees_with_all_paths(name):
    for seed in range(6):
        check_all(*random_case(name, seed, spread=2.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", *(pytest.param(n, marks=pytest.mark.slow) for n in ("student", "poisson"))])
def test_every_verb_agrees_where_densities_underflow(name):
    """States a hundred standard deviations apart: likelihoods of e^-5000 beside one."""
    for seed in range(6):
        check_all(*random_case(name, 100 + seed, spread=100.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_verb_agrees_with_all_paths_of_many_models(name):
    for seed in range(40):
        check_all(*random_case(name, 1000 + seed, spread=[0.1, 2.0, 300.0][seed % 3]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_class_that_seems_ruled_out_returns_when_later_observations_decide_for_it(dtype):
    model = sx.HiddenMarkovModel(
        np.array([0.5, 0.5], dtype),
        np.eye(2, dtype=dtype),
        E.Gaussian(np.array([[0.0], [1]], dtype), np.ones((2, 1, 1), dtype)),
    )
    z = np.r_[np.zeros(3000), np.full(3001, 1.0), np.full(300, 1.0)].astype(dtype)
    log_l = -((z[:, None].astype(WIDE) - np.array([0, 1])) ** 2) / 2 - np.log(2 * WIDE(np.pi)) / 2
    total = log_l.sum(0)
    exact = np.logaddexp(*total) + np.log(WIDE(0.5))
    f = sx.filter(model, z)
    np.testing.assert_allclose(f.log_likelihood, float(exact), rtol=1e-4 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(f.predicted[-1], [0, 1], atol=1e-6)
    np.testing.assert_allclose(sx.smooth(model, z).smoothed[1000], [0, 1], atol=1e-6)
    one = z[:1] * 0 + 60  # a single observation that is e^-1770 under one state
    both = np.r_[one, -one]
    f = sx.filter(model, both)
    expected = (-((both[:, None] - np.array([0, 1.0])) ** 2) / 2).sum(0)
    np.testing.assert_allclose(f.predicted[-1], np.exp(expected - np.logaddexp(*expected)), rtol=1e-3)


def test_a_product_of_one_channel_of_symbols_is_the_model_of_tokens():
    rng = np.random.default_rng(0)
    mu, A, C = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(4), 3)
    tokens, numbers = (sx.HiddenMarkovModel(mu, A, e) for e in (C, E.Product([E.Categorical(C)])))
    z = np.array(sx.sample(tokens, 0, 200)[1])
    z[::17] = -1
    series = np.where(z < 0, np.nan, z)[:, None]
    one, other = sx.filter(tokens, z), sx.filter(numbers, series)
    np.testing.assert_allclose(other.predicted, one.predicted, rtol=1e-12)
    np.testing.assert_allclose(other.log_likelihoods, one.log_likelihoods, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(sx.most_likely_states(numbers, series), sx.most_likely_states(tokens, z))
    fits = (sx.fit(m, d, max_iterations=5, tolerance=0.0, progress=False) for m, d in ((tokens, z), (numbers, series)))
    first, second = (fit.log_likelihoods for fit in fits)
    np.testing.assert_allclose(first, second, rtol=1e-12)


@pytest.mark.slow
def test_several_series_of_unlike_lengths_are_each_by_itself():
    model, *_ = random_case("full", 3, 2.0)
    rng = np.random.default_rng(0)
    parts = [with_gaps(rng, np.array(sx.sample(model, i, n)[1])) for i, n in enumerate((7, 2, 5))]
    data = sx.Sequences.from_arrays(parts)
    f, s, e = sx.filter(model, data), sx.smooth(model, data), sx.explain(model, data)
    ahead, dual = sx.forecast(model, data, 2), sx.dual_filter(model, data)
    scores = sx.score(model, data)
    for i, z in enumerate(parts):
        own, n = sx.filter(model, z), len(z)
        np.testing.assert_allclose(f.predicted[i, : n + 1], own.predicted, rtol=1e-12)
        np.testing.assert_allclose(f.log_likelihood[i], own.log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(f.next().mean[i], own.next().mean, rtol=1e-12)
        np.testing.assert_allclose(s.smoothed[i, :n], sx.smooth(model, z).smoothed, rtol=1e-12)
        np.testing.assert_allclose(dual.predicted[i, : n + 1], own.predicted, rtol=1e-12)
        np.testing.assert_allclose(e.weights[i, 0, :n], sx.explain(model, z).weights[0], atol=1e-13)
        np.testing.assert_allclose(ahead.states[i], sx.forecast(model, z, 2).states, rtol=1e-12)
        np.testing.assert_array_equal(sx.most_likely_states(model, data)[i, :n], sx.most_likely_states(model, z))
        np.testing.assert_allclose(scores.log_likelihoods[i, :n], own.log_likelihoods, rtol=1e-12)


@pytest.mark.slow
def test_tuples_of_states_emit_what_the_newest_one_does():
    rng = np.random.default_rng(0)
    tensor = rng.dirichlet(np.ones(2), (2, 2))
    small = E.Gaussian([[0.0], [2.0]], [[[1.0]], [[0.5]]])
    wide = E.Gaussian([[0.0], [2.0]] * 2, [[[1.0]], [[0.5]]] * 2)
    dense = OrderKTransition(jnp.asarray(tensor)).dense()
    mu = rng.dirichlet(np.ones(4))
    ordered = sx.HiddenMarkovModel(mu, OrderKTransition(jnp.asarray(tensor)), small)
    plain = sx.HiddenMarkovModel(mu, dense, wide)
    z = np.asarray(sx.sample(ordered, 0, 40)[1])
    np.testing.assert_allclose(sx.filter(ordered, z).predicted, sx.filter(plain, z).predicted, rtol=1e-12)
    np.testing.assert_allclose(sx.smooth(ordered, z).smoothed, sx.smooth(plain, z).smoothed, rtol=1e-12)
    np.testing.assert_allclose(sx.forecast(ordered, z, 3).mean, sx.forecast(plain, z, 3).mean, rtol=1e-12)
    np.testing.assert_allclose(sx.explain(ordered, z).weights, sx.explain(plain, z).weights, atol=1e-13)
    fit = sx.fit(sx.HMM(2, emission="gaussian", order=2), z, restarts=1, max_iterations=20, progress=False)
    assert np.diff(fit.objective).min() > -1e-9
    assert fit.model.n_states == 4
    assert fit.model.emission.n_states == 2


@pytest.mark.slow
def test_traced_and_differentiated():
    model, z, _ = random_case("full", 0, 2.0)
    value = lambda model, z: sx.filter(model, z).log_likelihood
    np.testing.assert_allclose(jax.jit(value)(model, jnp.asarray(z)), value(model, z), rtol=1e-12)
    two = jnp.stack([jnp.asarray(z), jnp.asarray(z[::-1])])
    np.testing.assert_allclose(
        jax.vmap(lambda z: value(model, z))(two), [value(model, z), value(model, z[::-1])], rtol=1e-12
    )
    slope = jax.grad(
        lambda m: value(
            sx.HiddenMarkovModel(model.initial, model.transition, E.Gaussian(m, model.emission.covariance)), z
        )
    )(model.emission.mean)
    for x, c in np.ndindex(D, 2):
        step = np.zeros((D, 2))
        step[x, c] = 1e-6
        ends = (
            value(
                sx.HiddenMarkovModel(
                    model.initial,
                    model.transition,
                    E.Gaussian(model.emission.mean + s * step, model.emission.covariance),
                ),
                z,
            )
            for s in (1, -1)
        )
        assert slope[x, c] == pytest.approx(np.subtract(*ends) / 2e-6, rel=1e-5, abs=1e-7)
    impossible = sx.HiddenMarkovModel([1.0], [[1.0]], E.Poisson([[0.0]]))
    assert jax.jit(value)(impossible, jnp.asarray([[0.0], [1.0]])) == -jnp.inf


@pytest.mark.slow
def test_explanations_by_deletion_and_shapley_are_their_definitions():
    model, z, _ = random_case("full", 1, 2.0)
    names = ("integrated", "control", "news", "deletion", "shapley")
    told = {m: sx.explain(model, z, method=m) for m in names}
    predicted = lambda kept: np.asarray(sx.filter(model, np.where(kept[:, None], z, np.nan)).next().mean)
    whole, sets = predicted(np.ones(T, bool)), list(itertools.product([False, True], repeat=T))
    value = {s: predicted(np.array(s)) for s in sets}
    for t in range(T):
        without = tuple(i != t for i in range(T))
        np.testing.assert_allclose(told["deletion"].weights[0, t], whole - value[without], atol=1e-12)
        share = 0.0
        for s in sets:
            if not s[t]:
                n = sum(s)
                weight = math.factorial(n) * math.factorial(T - n - 1) / math.factorial(T)
                share = share + weight * (value[tuple(v or i == t for i, v in enumerate(s))] - value[s])
        np.testing.assert_allclose(told["shapley"].weights[0, t], share, atol=1e-12)
    np.testing.assert_allclose(told["news"].weights, told["control"].weights, atol=1e-12)
    for m in names:
        np.testing.assert_allclose(told[m].prediction[0], whole, atol=1e-12)
        rest = 1e-12 if m != "deletion" else np.inf
        assert np.abs(told[m].remainder).max() <= rest
    apart = sx.explain(model, z, contrast=(1, 0), method="news")
    np.testing.assert_allclose(apart.prediction[0, 0], whole[1] - whole[0], atol=1e-12)
    with pytest.raises(sx.DataError, match="none of the channels"):
        sx.explain(model, z, contrast=("a", "b"))


@pytest.mark.slow
def test_intervals_of_forecasts_hold_what_they_promise():
    emission = E.Product([E.StudentT([[0.0], [3.0]], [[[1.0]], [[0.2]]], [3.0, 9.0]), E.Poisson([[1.0], [9.0]])])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], emission)
    _, zs = sx.sample(model, 0, 30, number=2000)
    past = sx.Sequences.from_arrays(list(np.asarray(zs)[:, :25]))
    ahead, coverage = sx.forecast(model, past, 5), 0.8
    low, high = np.moveaxis(np.asarray(ahead.interval(coverage)), -1, 0)
    held = ((np.asarray(zs)[:, 25:] >= low) & (np.asarray(zs)[:, 25:] <= high)).mean(0)
    error = 4 * np.sqrt(0.8 * 0.2 / 2000)
    np.testing.assert_allclose(held[:, 0], coverage, atol=error)
    assert (held[:, 1] >= coverage - error).all()  # whole numbers: at least
    assert (high[..., 1] == np.floor(high[..., 1])).all()
    at = ahead.distribution.quantile(0.37)
    np.testing.assert_allclose(ahead.distribution.cumulative(at)[..., 0], 0.37, rtol=1e-9)
    with pytest.raises(sx.ConfigurationError):
        ahead.interval(1.5)


def test_p_values_are_rarely_small():
    model, *_ = random_case("product", 5, 2.0)
    model = sx.HiddenMarkovModel(np.full(D, 1 / D), np.full((D, D), 1 / D), model.emission)
    _, zs = sx.sample(model, 3, 1, number=4000)
    state = sx.start(model, 4000)
    _, said = sx.step(model, state, np.asarray(zs)[:, 0])
    for a in (0.01, 0.1, 0.5):
        assert (said.p_value <= a).mean() <= a + 4 * np.sqrt(a * (1 - a) / 4000)
    assert (said.p_value <= 0.1).mean() > 0.01
    _, said = sx.step(model, sx.start(model), np.full(model.n_channels, np.nan))
    assert said.p_value == 1
    assert said.log_likelihood == 0


IMPOSSIBLE = sx.HiddenMarkovModel([1.0], [[1.0]], E.Poisson([[0.0]]))
GAUSSIAN = sx.HiddenMarkovModel([1.0], [[1.0]], E.Gaussian([[0.0]], [[[1.0]]]), channels=["price"])

CODES = np.array([0, 1])
TOKENS = sx.Sequences.from_arrays([CODES])


def test_an_impossible_observation_is_named_or_stepped_over():
    data = sx.Sequences.from_arrays([[0.0, 0.0], [0.0, 2.0, 0.0]])
    with pytest.raises(sx.ImpossibleTokenError, match="Observation 2 at position 1 of sequence 1"):
        sx.filter(IMPOSSIBLE, data)
    with pytest.raises(sx.ImpossibleTokenError, match="Observation 2"):
        sx.most_likely_states(IMPOSSIBLE, data)
    with pytest.raises(sx.ImpossibleTokenError, match="Observation 2 at position 0"):
        sx.step(IMPOSSIBLE, sx.start(IMPOSSIBLE), 2.0)
    f = sx.filter(IMPOSSIBLE, data, on_impossible="skip")
    assert f.log_likelihood[1] == -np.inf
    assert f.log_likelihoods[1, 2] == 0
    assert f.result == sx.RESULTS.impossible_token
    scores = sx.score(IMPOSSIBLE, data, on_impossible="skip")
    assert scores.log_likelihoods[1, 1] == -np.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.filter(IMPOSSIBLE, [0.5]), "0.5 in channel 0 at position 0 is not among whole numbers"),
        (lambda: sx.filter(IMPOSSIBLE, [-1]), "not among whole numbers"),
        (lambda: sx.filter(GAUSSIAN, [[0.0, 1.0]]), "numbers \\[T 1\\]"),
        (lambda: sx.filter(GAUSSIAN, np.zeros((0, 1))), "T at least 1"),
        (lambda: sx.filter(GAUSSIAN, [np.inf]), "infinite"),
        (lambda: sx.filter(GAUSSIAN, ["a", "b"]), "symbols such as"),
        (lambda: sx.filter(GAUSSIAN, sx.Sequences.from_arrays([[0.0]], columns=["volume"])), "channels volume"),
        (lambda: sx.filter(GAUSSIAN, sx.Sequences.from_arrays([np.array([0, 1])])), "tokens|integers|observations"),
        (lambda: sx.filter(GAUSSIAN, [0.0], on_impossible="hide"), "on_impossible"),
        (
            lambda: sx.explain(sx.HiddenMarkovModel([1.0], [[1.0]], E.StudentT([[0.0]], [[[1.0]]], [0.5])), [0.0]),
            "does not exist",
        ),
        (lambda: sx.optimal_control(GAUSSIAN, 2, np.eye(1)), "emits numbers"),
        (lambda: sx.explain_norms(GAUSSIAN, CODES), "emits numbers"),
        (lambda: sx.next_token_predictor(GAUSSIAN, 2), "emits numbers"),
        (lambda: sx.DualFilterNetwork.of(GAUSSIAN, 2), "emits numbers"),
        (lambda: sx.compare_predictors({"a": GAUSSIAN}, TOKENS), "emits numbers"),
        (lambda: sx.beliefs.wiener(GAUSSIAN), "emits numbers"),
        (lambda: sx.beliefs.mixed_states(GAUSSIAN), "emits numbers"),
        (lambda: sx.fit_by_gradient(GAUSSIAN, TOKENS, 2), "tokens"),
        (lambda: sx.fit_online(GAUSSIAN, [TOKENS]), "tokens"),
        (lambda: sx.most_likely_states(sx.GeneralisedHMM([1.0], [[[1.0]]]), [0]), "states"),
    ],
)
def test_rejects_what_does_not_fit(call, words):
    with pytest.raises(sx.SteeraxError, match=words):
        call()
