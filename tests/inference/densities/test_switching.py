"""Switching autoregressions: every verb against all paths, statsmodels and moments, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import Enumerated, autoregressive, log_densities_after
from scipy import stats

import steerax as sx
from steerax.inference.densities.kernels.em import em_step
from steerax.inference.hmm.kernels.em import Pseudocounts
from steerax.models.emissions.base import Prior
from steerax.models.transitions import OrderKTransition

E, D, T = sx.emissions, 2, 6


def random_case(seed, lags=1, p=2, length=T, structure="full"):
    rng = np.random.default_rng(seed)
    emission = autoregressive(rng, D, lags, p, structure)
    model = sx.HiddenMarkovModel(rng.dirichlet(np.ones(D)), rng.dirichlet(np.ones(D), D), emission)
    return model, np.array(sx.sample(model, seed, length)[1])


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), tolerance, tolerance)


@pytest.mark.parametrize("gap", ["none", "first", "last"])
@pytest.mark.parametrize("lags", [1, 2])
def test_every_verb_agrees_with_all_paths(lags, gap):
    for seed in range(3):
        model, z = random_case(seed, lags)
        if gap != "none":
            z[{"first": 0, "last": -1}[gap]] = np.nan
        exact = Enumerated(model.initial, model.transition, log_densities_after(model.emission, z))
        f = sx.filter(model, z)
        assert_close(f.log_likelihood, exact.log_mass(T))
        assert_close(np.cumsum(f.log_likelihoods), [exact.log_mass(t + 1) for t in range(T)])
        assert_close(f.predicted, [exact.state(t, t) for t in range(T + 1)])
        assert_close(f.filtered, [exact.state(t, t + 1) for t in range(T)])
        assert_close(sx.smooth(model, z).smoothed, [exact.state(t, T) for t in range(T)])
        path = np.asarray(sx.most_likely_states(model, z))
        on = (exact.paths[:, :T] == path).all(1)
        assert_close(np.logaddexp.reduce(exact.prefix[on, T]), exact.log_best(), 1e-9)
        for options in ({}, {"scheme": "doubling"}, {"layers": T}):
            assert_close(sx.dual_filter(model, z, **options).predicted, f.predicted, 1e-8)
        told = sx.explain(model, z, "all", "state", method="control")
        assert_close(told.prior + told.weights.sum(1), f.predicted)
        for q, s in itertools.combinations_with_replacement(range(T), 2):
            move = np.linalg.matrix_power(np.asarray(model.transition), s + 1 - q)
            assert_close(told.weights[s + 1, q], (exact.state(q, q + 1) - exact.state(q, q)).astype(float) @ move)
        level = sx.explain(model, z, -1, np.array([[1.0], [3.0]]))  # integrated, an array
        assert_close(level.prior + level.weights.sum(1), f.predicted[-1:] @ np.array([[1.0], [3.0]]), 1e-6)


@pytest.mark.slow
def test_likelihoods_are_those_of_statsmodels():
    pytest.importorskip("statsmodels")
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    for lags in (1, 2):
        model, z = random_case(5, lags, 1, 200)
        given = np.stack([z[lags - 1 - lag : len(z) - 1 - lag, 0] for lag in range(lags)], 1)
        peer = MarkovRegression(z[lags:, 0], 2, exog=given, switching_variance=True)
        A, own = np.asarray(model.transition), model.emission
        B, c, S = (np.asarray(a) for a in (own.coefficients[..., 0, 0], own.intercept[:, 0], own.covariance[:, 0, 0]))
        values = {"p[0->0]": A[0, 0], "p[1->0]": A[1, 0]}
        for x in range(2):
            values |= {f"const[{x}]": c[x], f"sigma2[{x}]": S[x]}
            values |= {f"x{lag + 1}[{x}]": B[x, lag] for lag in range(lags)}
        model = model.started("stationary")  # as is where statsmodels starts
        found = peer.smooth(np.array([values[name] for name in peer.param_names]))
        mine = sx.filter(model, z)
        np.testing.assert_allclose(mine.log_likelihood, found.llf, rtol=1e-8)
        np.testing.assert_allclose(mine.filtered[lags:], found.filtered_marginal_probabilities, atol=1e-8)
        smoothed = sx.smooth(model, z).smoothed[lags:]
        np.testing.assert_allclose(smoothed, found.smoothed_marginal_probabilities, atol=1e-8)


@pytest.mark.slow
def test_the_next_observation_is_the_mixture_of_regressions_on_the_last_ones():
    model, z = random_case(1, 2)
    f, own = sx.filter(model, z), model.emission
    ahead = f.next()
    centres = np.asarray(own.intercept) + np.einsum("dlpq,lq->dp", np.asarray(own.coefficients), z[:-3:-1])
    w, S = np.asarray(f.predicted[-1]), np.asarray(own.covariance)
    mean = w @ centres
    assert_close(ahead.mean, mean)
    apart = centres - mean
    assert_close(ahead.covariance, np.einsum("d,dpq->pq", w, S + apart[:, :, None] * apart[:, None]))
    at = np.array([0.3, -0.2])
    density = sum(w[x] * stats.multivariate_normal.pdf(at, centres[x], S[x]) for x in range(D))
    assert_close(ahead.log_density(jnp.asarray(at)), np.log(density))
    below = sum(w[x] * stats.norm.cdf(at, centres[x], np.sqrt(np.diag(S[x]))) for x in range(D))
    assert_close(ahead.cumulative(jnp.asarray(at)), below, 1e-9)
    ends = ahead.interval(0.8)
    assert_close(ahead.cumulative(ends[:, 1]) - ahead.cumulative(ends[:, 0]), [0.8, 0.8], 1e-9)
    scores = [f.next(t).log_density(jnp.asarray(z[t])) for t in range(T)]
    assert_close(scores, f.log_likelihoods)
    assert np.isnan(f.next(1).mean).all()  # two lags, one observation
    assert np.isnan(f.next(1).quantile(0.5)).all()
    assert f.next(1).p_value(jnp.asarray(z[1])) == 1
    first = sx.forecast(model, z, 1, samples=3)
    assert_close(first.mean[0], mean)
    assert_close(first.covariance[0], ahead.covariance)
    assert_close(first.interval(0.8)[0], ends, 1e-9)
    assert_close(first.standard_error, np.zeros((1, 2)))


@pytest.mark.slow
def test_forecasts_beyond_one_step_have_the_moments_of_all_futures():
    model, z = random_case(2, 1, 1)
    w, A, own = np.asarray(sx.filter(model, z).predicted[-1]), np.asarray(model.transition), model.emission
    c, B, S = (np.asarray(a).ravel() for a in (own.intercept, own.coefficients, own.covariance))
    ahead = sx.forecast(model, z, 4, samples=1000, key=3)
    assert ahead.method == "simulated"
    for step in range(4):
        first, second = 0.0, 0.0
        for path in itertools.product(range(D), repeat=step + 1):
            chance, mean, variance = w[path[0]], z[-1, 0], 0.0
            for n, x in enumerate(path):
                chance *= A[path[n - 1], x] if n else 1
                mean, variance = c[x] + B[x] * mean, B[x] ** 2 * variance + S[x]
            first, second = first + chance * mean, second + chance * (variance + mean**2)
        error = float(ahead.standard_error[step, 0])
        assert abs(float(ahead.mean[step, 0]) - first) <= 5 * error + 1e-10
        assert (error == 0) == (step == 0)
        np.testing.assert_allclose(ahead.covariance[step, 0, 0], second - first**2, rtol=0.1)
        assert_close(ahead.states[step], w @ np.linalg.matrix_power(A, step))
    low, high = np.asarray(ahead.interval(0.9)[:, 0]).T
    assert_close(ahead.distribution.cumulative(jnp.asarray(high)[:, None])[:, 0], np.full(4, 0.95), 1e-9)
    assert (low < high).all()
    at = jnp.asarray(ahead.mean)
    slope = (ahead.distribution.cumulative(at + 1e-5) - ahead.distribution.cumulative(at - 1e-5))[:, 0] / 2e-5
    np.testing.assert_allclose(np.log(slope), ahead.distribution.log_density(at), atol=1e-6)
    again = sx.forecast(model, z, 4, samples=1000, key=3)
    np.testing.assert_array_equal(again.mean, ahead.mean)


@pytest.mark.slow
def test_one_state_forecasts_as_the_closed_form():
    own = E.Autoregressive([[1.0]], [[[[0.8]]]], [[[0.5]]])
    model = sx.HiddenMarkovModel([1.0], [[1.0]], own)
    ahead = sx.forecast(model, [0.0, 3.0], 5, samples=4000)
    mean, variance = 3.0, 0.0
    for step in range(5):
        mean, variance = 1 + 0.8 * mean, 0.64 * variance + 0.5
        low, high = stats.norm.interval(0.9, mean, np.sqrt(variance))
        np.testing.assert_allclose(ahead.interval(0.9)[step, 0], [low, high], atol=0.06 * np.sqrt(variance))


@pytest.mark.slow
def test_several_series_of_unlike_lengths_are_each_by_itself():
    model, _ = random_case(3, 2)
    parts = [np.array(sx.sample(model, i, n)[1]) for i, n in enumerate((7, 4))]
    parts[1][0] = np.nan
    data = sx.Sequences.from_arrays(parts)
    f, s, e = sx.filter(model, data), sx.smooth(model, data), sx.explain(model, data, target="state")
    ahead, dual, scores = sx.forecast(model, data, 2), sx.dual_filter(model, data), sx.score(model, data)
    for i, z in enumerate(parts):
        own, n = sx.filter(model, z), len(z)
        assert_close(f.predicted[i, : n + 1], own.predicted)
        assert_close(f.log_likelihood[i], own.log_likelihood)
        assert_close(f.next().mean[i], own.next().mean)
        assert_close(s.smoothed[i, :n], sx.smooth(model, z).smoothed)
        assert_close(dual.predicted[i, : n + 1], own.predicted)
        assert_close(e.weights[i, 0, :n], sx.explain(model, z, target="state").weights[0])
        assert_close(ahead.mean[i, 0], own.next().mean)
        np.testing.assert_array_equal(sx.most_likely_states(model, data)[i, :n], sx.most_likely_states(model, z))
        assert_close(scores.log_likelihoods[i, :n], own.log_likelihoods)
    assert scores.scored.sum() == (7 - 2) + (3 - 2)


@pytest.mark.slow
def test_a_stream_remembers_as_many_observations_as_it_reads(tmp_path):
    model, z = random_case(4, 2)
    f, state = sx.filter(model, z), sx.start(model)
    for t in range(T):
        state, said = sx.step(model, state, z[t])
        assert_close(said.log_likelihood, f.log_likelihoods[t])
        assert_close(state.predicted, f.predicted[t + 1])
        if t > 0:
            assert_close(said.next.mean, f.next(t + 1).mean)
        if t == 2:
            sx.save(state, tmp_path / "state")
            state = sx.load(tmp_path / "state")
    assert_close(said.p_value, f.next(T - 1).p_value(jnp.asarray(z[-1])))
    both = sx.start(model, 2)
    for t in range(T):
        both, said = sx.step(model, both, np.stack([z[t], z[t] if t > 2 else np.full(2, np.nan)]))
    assert_close(both.predicted[0], f.predicted[-1])
    assert_close(both.predicted[1], sx.filter(model, np.where(np.arange(T)[:, None] > 2, z, np.nan)).predicted[-1])
    traced = jax.jit(lambda s, z: sx.step(model, s, z)[0].predicted)(sx.start(model), jnp.asarray(z[0]))
    assert_close(traced, f.predicted[1])


@pytest.mark.slow
def test_tuples_of_states_emit_what_the_newest_one_does():
    rng = np.random.default_rng(0)
    tensor = jnp.asarray(rng.dirichlet(np.ones(2), (2, 2)))
    small = autoregressive(rng, 2, 1, 1)
    wide = small.permuted(np.array([0, 1, 0, 1]))
    mu = rng.dirichlet(np.ones(4))
    ordered = sx.HiddenMarkovModel(mu, OrderKTransition(tensor), small)
    plain = sx.HiddenMarkovModel(mu, OrderKTransition(tensor).dense(), wide)
    z = np.asarray(sx.sample(ordered, 0, 40)[1])
    assert_close(sx.filter(ordered, z).predicted, sx.filter(plain, z).predicted)
    one, other = (sx.forecast(m, z, 3, samples=3000) for m in (ordered, plain))
    assert_close(one.states, other.states)
    assert (np.abs(one.mean - other.mean) <= 5 * (one.standard_error + other.standard_error) + 1e-10).all()


@pytest.mark.slow
def test_traced_and_differentiated():
    model, z = random_case(0)
    value = lambda model, z: sx.filter(model, z).log_likelihood
    assert_close(jax.jit(value)(model, jnp.asarray(z)), value(model, z))
    slope = jax.grad(lambda m: value(m, jnp.asarray(z)))(model).emission.coefficients
    own, step = model.emission, np.zeros((D, 1, 2, 2))
    step[1, 0, 0, 1] = 1e-6
    moved = lambda B: sx.HiddenMarkovModel(
        model.initial, model.transition, E.Autoregressive(own.intercept, B, own.covariance)
    )
    up, down = (value(moved(own.coefficients + sign * step), z) for sign in (1, -1))
    np.testing.assert_allclose(slope[1, 0, 0, 1], (up - down) / 2e-6, rtol=1e-5)
    with pytest.raises(Exception, match="cannot read a gap"):
        jax.jit(value)(model, jnp.asarray(z).at[2].set(np.nan)).block_until_ready()


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 1), (0, 0)])
def test_one_iteration_is_the_m_step_of_weights_over_all_paths(sizes):
    for seed in range(3):
        model, _ = random_case(seed)
        lengths = np.array([T, 3])
        z = np.full((T, 2, 2), np.nan)
        for b, n in enumerate(lengths):
            z[:n, b] = sx.sample(model, 10 + b, int(n))[1]
        z[0, 0] = np.nan
        prior = Prior.of(z.reshape(-1, 2), D, 1.0, 0.0, np.float64)
        found = em_step(
            *model.parameters, jnp.asarray(z), jnp.asarray(lengths), Pseudocounts(0.5, 0.25, 0.0), prior, *sizes
        )
        weights, read, total = [], [], 0.0
        for b, n in enumerate(lengths):
            own = z[:n, b]
            exact = Enumerated(model.initial, model.transition, log_densities_after(model.emission, own))
            weights += [exact.state(t, n) for t in range(n)]
            read += list(np.concatenate([own, np.r_[np.full((1, 2), np.nan), own[:-1]]], 1))
            total += exact.log_mass(n)
        np.testing.assert_allclose(found.counts.log_likelihood, float(total), rtol=1e-12)
        statistics = model.emission.statistics(jnp.asarray(np.array(weights, float)), jnp.asarray(np.array(read)))
        new = model.emission.maximised(statistics, prior)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), found.arrays[2], new)


REGIMES = sx.HiddenMarkovModel(
    [0.5, 0.5],
    [[0.97, 0.03], [0.05, 0.95]],
    E.Autoregressive([[0.0], [1.0]], [[[[0.9]]], [[[-0.5]]]], [[[0.2]], [[1.0]]]),
)


@pytest.mark.slow
def test_a_fit_rises_and_recovers_the_regressions_of_the_regimes():
    data = [np.asarray(sx.sample(REGIMES, seed, 600)[1]) for seed in range(3)]
    fit = sx.fit(sx.HMM(2, emission="autoregressive"), data, restarts=2, progress=False)
    assert fit.result == sx.RESULTS.successful
    assert np.diff(fit.objective).min() > -1e-8 * abs(fit.objective[0])
    true = sx.filter(REGIMES, sx.Sequences.from_arrays(data)).log_likelihood.sum()
    assert fit.log_likelihood > true - 1
    order = np.argsort(-np.asarray(fit.model.emission.coefficients).ravel())
    own = fit.model.emission.permuted(order)
    np.testing.assert_allclose(own.coefficients.ravel(), [0.9, -0.5], atol=0.1)
    np.testing.assert_allclose(own.intercept.ravel(), [0, 1], atol=0.15)
    np.testing.assert_allclose(own.covariance.ravel(), [0.2, 1.0], rtol=0.15)
    assert fit.n_parameters == 1 + 2 + 6


@pytest.mark.slow
def test_regimes_of_equal_spread_are_told_by_their_dynamics():
    """Same mean and variance in both states: nothing but the sign of the coefficient tells them apart."""
    own = E.Autoregressive([[0.0], [0.0]], [[[[0.8]]], [[[-0.8]]]], [[[1.0]], [[1.0]]])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.98, 0.02], [0.02, 0.98]], own)
    states, z = sx.sample(model, 0, 1500)
    fit = sx.fit(sx.HMM(2, emission="autoregressive"), np.asarray(z), restarts=2, progress=False)
    np.testing.assert_allclose(np.sort(fit.model.emission.coefficients.ravel()), [-0.8, 0.8], atol=0.1)
    rising = int(np.argmax(fit.model.emission.coefficients.ravel()))
    assert (np.asarray(sx.most_likely_states(fit.model, np.asarray(z)) == rising) == (states == 0)).mean() > 0.9


@pytest.mark.slow
def test_selection_prefers_lags_where_there_are_some():
    data = [np.asarray(sx.sample(REGIMES, seed, 300)[1]) for seed in range(3)]
    kinds = [sx.HMM(2, emission=e) for e in ("gaussian", "autoregressive")]
    chosen = sx.select(kinds, data[:2], "held_out", data[2:], restarts=2, max_iterations=40, progress=False)
    assert chosen.best.kind.emission == "autoregressive"


@pytest.mark.slow
def test_two_lags_of_two_channels_and_a_stop(tmp_path):
    _, z = random_case(7, 2, 2, 300)
    kind = sx.HMM(2, emission=E.Autoregressive.kind(lags=2, structure="diagonal"))
    options = {"restarts": 2, "screening": 3, "max_iterations": 12, "tolerance": 0.0, "progress": False}
    whole = sx.fit(kind, z, **options)
    assert whole.model.emission.lags == 2
    assert whole.model.emission.structure == "diagonal"
    assert np.diff(whole.objective).min() > -1e-8 * abs(whole.objective[0])
    stop = lambda n, value, model: "stop" if n == 2 else None
    sx.fit(kind, z, **options, run_folder=tmp_path / "run", on_iteration=stop)
    again = sx.fit(kind, z, **options, run_folder=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(again.log_likelihoods, whole.log_likelihoods)


@pytest.mark.slow
def test_no_state_collapses_on_a_few_observations():
    z = np.r_[np.random.default_rng(0).normal(size=30), [50.0, 50.0]]
    fit = sx.fit(sx.HMM(3, emission="autoregressive"), z, progress=False)
    assert float(fit.model.emission.covariance.min()) > 1e-3
    assert np.isfinite(fit.log_likelihood)
    flat = sx.fit(sx.HMM(2, emission="autoregressive"), np.repeat(1.0, 20), progress=False)
    assert np.isfinite(flat.log_likelihood)


@pytest.mark.slow
def test_single_precision():
    model, z = random_case(0, 1, 1, 200)
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32), model)
    f, g = sx.filter(narrow, z), sx.filter(model, z)
    assert f.predicted.dtype == np.float32
    np.testing.assert_allclose(f.log_likelihood, g.log_likelihood, rtol=1e-4)
    np.testing.assert_allclose(f.predicted, g.predicted, atol=1e-4)
    fits = (sx.fit(m, z, max_iterations=10, tolerance=0.0, progress=False).log_likelihood for m in (narrow, model))
    np.testing.assert_allclose(*fits, rtol=1e-4)
    assert sx.forecast(narrow, z, 2, samples=8).mean.dtype == np.float32


MODEL, Z = random_case(0, 2)


def cut(*places):
    z = Z.copy()
    z[places] = np.nan
    return z


def begun():
    return sx.step(MODEL, sx.start(MODEL), Z[0])[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.filter(MODEL, cut(3)), "gap, as the one at position 3; fill"),
        (lambda: sx.filter(MODEL, cut(3, 1)), "position 3"),
        (lambda: sx.filter(MODEL, cut(0, 1)), "position 0"),
        (lambda: sx.filter(MODEL, cut(-1, 0)), "position 5"),
        (lambda: sx.filter(MODEL, sx.Sequences.from_arrays([Z, cut(2)])), "position 2 of sequence 1"),
        (lambda: sx.smooth(MODEL, cut(3)), "cannot read a gap"),
        (lambda: sx.most_likely_states(MODEL, cut(3)), "cannot read a gap"),
        (lambda: sx.fit(MODEL, cut(3), progress=False), "cannot read a gap"),
        (lambda: sx.fit(sx.HMM(2, emission="autoregressive"), cut(3), progress=False), "cannot read a gap"),
        (lambda: sx.fit(sx.HMM(2, emission="autoregressive"), Z[:1], progress=False), "longer than"),
        (lambda: sx.forecast(MODEL, Z[:1], 2), "some are missing"),
        (lambda: sx.forecast(MODEL, cut(-1), 2), "some are missing"),
        (lambda: sx.forecast(MODEL, Z, 2, samples=0), "samples"),
        (lambda: sx.explain(MODEL, Z), "depends on the observations before"),
        (lambda: sx.explain(MODEL, Z, contrast=(0, 1)), "depends on the observations before"),
        (lambda: sx.align_states(MODEL, MODEL), "align_states compares"),
        (lambda: sx.step(MODEL, begun(), np.full(2, np.nan)), "once it has begun"),
        (lambda: sx.step(MODEL, sx.start(MODEL), [0.0, np.nan]), "once it has begun"),
        (lambda: sx.step(MODEL, sx.start(random_case(0, 1)[0]), Z[0]), "a state of this model"),
        (lambda: sx.step(MODEL, (), Z[0]), "a state of this model"),
    ],
)
def test_rejects_what_it_cannot_read(call, words):
    with pytest.raises(sx.SteeraxError, match=words):
        call()
