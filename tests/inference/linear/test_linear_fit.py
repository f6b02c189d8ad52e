"""Learning against the dense likelihood and its slopes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import joint_distribution, log_likelihood, random_model, spectral_radius

import steerax as sx
from steerax.inference.linear.kernels.coordinates import Coordinates, stable_taps
from steerax.inference.linear.kernels.em import Data, expectation, maximisation
from steerax.inference.linear.kernels.quasi_newton import likelihood_and_score


def test_a_fit_goes_on_from_a_model():
    z = np.cumsum(np.random.default_rng(0).normal(size=80))
    first = sx.fit(sx.LinearGaussian(1, start="free"), z, method="em", max_iterations=3)
    further = sx.fit(first.model, z, method="em", max_iterations=3)
    assert further.log_likelihoods[0] == pytest.approx(first.log_likelihood)
    assert further.log_likelihood > first.log_likelihood
    assert "AIC" in first.summary()


def test_each_step_of_em_raises_the_likelihood_and_stays_at_a_fixed_point_of_the_gradient(gappy):
    model, z = gappy
    z = jnp.asarray(z)
    data = Data(jnp.nan_to_num(z)[None], jnp.isfinite(z)[None], jnp.ones((1, 18), bool), jnp.zeros((1, 18, 0)))
    e_step, m_step = jax.jit(expectation), jax.jit(maximisation)
    values = []
    for _ in range(6):
        statistics, value = e_step(model, data, jnp.zeros((2, 0)))
        values.append(float(value))
        model, _ = m_step(model, statistics, 1.0)
    np.testing.assert_allclose(values[0], log_likelihood(gappy[0], np.asarray(z)), rtol=1e-12)
    assert np.diff(values).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "coordinates",
    [Coordinates(), Coordinates(True, "stationary"), Coordinates(start="diffuse")],
)
def test_the_score_is_the_slope_of_the_dense_likelihood(coordinates, gappy):
    # along random directions of all coordinates, gaps and inputs included; central differences err by 1e-9, and the
    # dense likelihood of a diffuse start by 1e-9 more
    model, z = gappy
    rng = np.random.default_rng(0)
    w = rng.normal(size=(18, 1))
    data = Data(jnp.nan_to_num(z)[None], jnp.isfinite(z)[None], jnp.ones((1, 18), bool), jnp.asarray(w)[None])
    theta = coordinates.from_model(model, jnp.asarray([[0.5], [-0.3]]))
    value, score, _ = likelihood_and_score(theta, data, coordinates)

    def dense(theta):
        model, D = coordinates.to_model(theta)
        return log_likelihood(model, z - w @ np.asarray(D).T)

    np.testing.assert_allclose(value, dense(theta), rtol=1e-11)
    for _ in range(4):
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape), theta)
        ahead, behind = (jax.tree.map(lambda a, b, h=h: a + h * b, theta, direction) for h in (1e-5, -1e-5))
        slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: float((a * b).sum()), score, direction)))
        np.testing.assert_allclose(
            slope, (dense(ahead) - dense(behind)) / 2e-5, atol=1e-4 if coordinates.start == "diffuse" else 1e-6
        )


@pytest.mark.parametrize("radius", [0.5, 0.999])
def test_coordinates_of_stable_models_reach_every_stable_model_and_no_other(radius):
    model = random_model(7, d=2, p=2, order=4, radius=radius)
    stable = Coordinates(stable=True)
    theta = stable.from_model(model, jnp.zeros((2, 0)))
    np.testing.assert_allclose(stable.to_model(theta)[0].transition, model.transition, atol=1e-11)
    for scale in (0.1, 1.0, 30.0):
        free = scale * jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 2)))
        assert spectral_radius(np.asarray(stable_taps(free, jnp.asarray([[1.0, 0.0], [0.4, 0.7]]))[0])) < 1


@pytest.mark.slow
def test_gradient_steps_climb_beyond_expectation_maximisation(key):
    truth = random_model(2, d=1, p=1, order=2, radius=0.95)
    z = np.array(truth.sample(key, 150)[1])
    z[40:44] = np.nan
    slow = sx.fit(sx.LinearGaussian(1, order=2, start="free"), z, key, method="em", max_iterations=15)
    fit = sx.fit(sx.LinearGaussian(1, order=2, start="free"), z, key, method="gradient", tolerance=1e-5)
    assert fit.result == sx.RESULTS.successful
    assert fit.log_likelihoods[-1] > slow.log_likelihoods[-1]
    assert np.diff(fit.log_likelihoods).min() > -1e-8
    np.testing.assert_allclose(fit.log_likelihoods[-1], log_likelihood(fit.model, z), rtol=1e-9)


@pytest.mark.parametrize("method", ["em", "gradient"])
def test_weights_of_inputs_are_found_with_the_model(method, key):
    truth = random_model(2, d=1, p=1)
    w = np.stack([np.sin(np.arange(120) / 3), np.arange(120) / 40], axis=1)
    z = np.array(truth.sample(key, 120)[1]) + w @ np.array([[2.0], [-1.0]])
    z[50] = np.nan
    fit = sx.fit(sx.LinearGaussian(1, inputs=w, start="free"), z, key, method=method, max_iterations=40, tolerance=1e-9)
    rest = z - w @ fit.input_weights.T
    np.testing.assert_allclose(fit.log_likelihoods[-1], log_likelihood(fit.model, rest), rtol=1e-9)
    # at the maximum the weights and the offset are those of generalised least squares
    _, _, mean_Z, cov_Z, _ = joint_distribution(fit.model, 120)
    keep = np.isfinite(z[:, 0])
    design = np.concatenate([w, np.ones((120, 1))], axis=1)[keep]
    weighted = np.linalg.solve(cov_Z[np.ix_(keep, keep)], design)
    best = np.linalg.solve(weighted.T @ design, weighted.T @ (z[:, 0] - mean_Z)[keep])
    error = np.sqrt(np.diag(np.linalg.inv(weighted.T @ design)))
    weights = np.append(fit.input_weights[0], fit.model.observation_offset)
    np.testing.assert_array_less(np.abs(weights - best), (0.5 if method == "em" else 0.05) * error)


@pytest.mark.slow
def test_em_finds_a_better_model_than_the_truth_and_recovers_it():
    truth = random_model(4, d=2, p=2, offset=True)
    data = sx.Sequences.from_arrays([truth.sample(k, 100)[1] for k in jax.random.split(jax.random.key(3), 8)])
    fit = sx.fit(sx.LinearGaussian(2, start="free"), data, jax.random.key(0), method="em", max_iterations=60)
    assert fit.log_likelihoods[-1] > float(sx.filter(truth, data).log_likelihood.sum())
    np.testing.assert_allclose(fit.log_likelihoods[-1], sx.filter(fit.model, data).log_likelihood.sum())
    roots = [np.sort_complex(np.linalg.eigvals(np.asarray(m.transition[0]))) for m in (fit.model, truth)]
    np.testing.assert_allclose(*roots, atol=0.1)


@pytest.mark.slow
def test_stable_fits_are_stable_and_orders_are_selected():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=60))
    fit = sx.fit(
        sx.LinearGaussian(1, stable=True, start="free"),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="em",
        max_iterations=20,
    )
    assert abs(float(fit.model.transition[0, 0, 0])) < 1
    assert np.diff(fit.log_likelihoods).min() > -1e-9
    fit = sx.fit(
        sx.LinearGaussian(1, stable=True, start="free"),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="gradient",
        max_iterations=20,
    )
    assert abs(float(fit.model.transition[0, 0, 0])) < 1
    kinds = [sx.LinearGaussian(1, start="free"), sx.LinearGaussian(1, order=2, start="free")]
    chosen = sx.select(kinds, walk, method="em", max_iterations=10)
    assert chosen.best.fitted.bic == min(candidate.fitted.bic for candidate in chosen.candidates)


def nile():
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels (extra `bench`) is absent")
    return np.asarray(sm.datasets.nile.load_pandas().data.volume, float)


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("start", ["stationary", "diffuse", "free"])
def test_units_and_offsets_of_channels_play_no_part(start):
    # log L(s y) + n log s is the same for all s; so is that of s (y + o), as far as y + o still has the digits of y
    rng = np.random.default_rng(1)
    y = np.column_stack([nile(), 3 * nile() + rng.normal(size=100) * 200])
    y[20:25, 1] = np.nan
    kind, n = sx.LinearGaussian(2, start=start), np.isfinite(y).sum(0)
    plain = sx.fit(kind, y)
    mean = np.asarray(sx.forecast(plain.model, y, 3).mean)
    for scale, offset, exact in (
        ((1e9, 1e-9), (0, 0), True),
        ((1e-9, 3.0), (0, 0), True),
        ((1e-9, 7.0), (1e9, 4.0), False),
    ):
        scale, offset = np.array(scale), np.array(offset)
        moved = sx.fit(kind, scale * (y + offset))
        again = np.asarray(sx.forecast(moved.model, scale * (y + offset), 3).mean) / scale - offset
        assert abs(moved.log_likelihood + n @ np.log(scale) - plain.log_likelihood) < (1e-6 if exact else 0.2)
        np.testing.assert_allclose(again, mean, rtol=1e-7 if exact else 0.02)


CONSTANT = {
    "seven": np.full(40, 7.0),
    "zero": np.zeros(40),
    "a tenth": np.full(40, 0.1),
    "huge": np.full(40, -1e12),
    "with gaps": np.where(np.arange(40) % 3, 5.0, np.nan),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [sx.LinearGaussian(1), *(pytest.param(k, marks=pytest.mark.slow) for k in (sx.LinearGaussian(1, 2, start="diffuse"), sx.LinearGaussian(2, start="free")))],
    ids=repr,
)  # fmt: skip
def test_a_constant_series_stays_constant(kind):
    for y in CONSTANT.values():
        fit = sx.fit(kind, y)
        assert fit.result == sx.RESULTS.noise_free
        np.testing.assert_allclose(sx.forecast(fit.model, y, 3).mean[:, 0], np.nanmean(y), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_constant_channel_beside_another_and_repeated_channels_are_predicted_alike():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(80, 2)), 0)
    beside = sx.fit(sx.LinearGaussian(1), np.column_stack([walk[:, 0], np.full(80, 3.0)]))
    assert beside.result == sx.RESULTS.noise_free
    repeated = sx.fit(sx.LinearGaussian(2), np.column_stack([walk, walk[:, 0], walk @ [1.0, -2.0]]))
    assert repeated.result == sx.RESULTS.noise_free
    mean = np.asarray(sx.forecast(repeated.model, np.column_stack([walk, walk[:, 0], walk @ [1.0, -2.0]]), 3).mean)
    np.testing.assert_allclose(mean[:, 2], mean[:, 0], atol=1e-2)
    np.testing.assert_allclose(mean[:, 3], mean[:, :2] @ [1.0, -2.0], atol=2e-2)


@pytest.mark.slow
def test_the_starts_are_what_they_are_called():
    y = nile()
    stationary = sx.fit(sx.LinearGaussian(1), y).model
    a, Q = float(stationary.transition[0, 0, 0]), float(stationary.process_noise[0, 0])
    np.testing.assert_allclose(stationary.initial_covariance[0, 0], Q / (1 - a**2), rtol=1e-6)
    assert float(stationary.initial_mean[0]) == 0
    diffuse = sx.fit(sx.LinearGaussian(1, start="diffuse"), y).model
    np.testing.assert_allclose(diffuse.initial_covariance[0, 0], 1e6 * y.var(), rtol=1e-6)
    higher = sx.fit(sx.LinearGaussian(1, order=2), y).model
    covariance = joint_distribution(higher, 400)[1]
    np.testing.assert_allclose(higher.initial_covariance[0, 0], covariance[-1, -1], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=SLOW) for seed in range(1, 8))])
def test_no_fit_returns_a_number_that_is_not_one(seed):
    rng = np.random.default_rng(seed)
    T, p = int(rng.integers(6, 30)), int(rng.integers(1, 4))
    y = rng.choice([rng.normal(size=(T, p)), np.cumsum(rng.normal(size=(T, p)), 0), rng.integers(0, 2, (T, p)) * 1.0])
    y = y * 10.0 ** rng.integers(-12, 12)
    y[rng.random((T, p)) < 0.3] = np.nan
    try:
        fit = sx.fit(sx.LinearGaussian(int(rng.integers(1, 3)), int(rng.integers(1, 3))), y, max_iterations=30)
    except sx.DataError as error:
        assert str(error).count(".") >= 1  # noqa: PT017
        return
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.model))
    assert np.isfinite(fit.log_likelihood)
    np.testing.assert_allclose(fit.log_likelihood, sx.filter(fit.model, y).log_likelihood, rtol=1e-6, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["em", "gradient"])
def test_a_fit_reports_each_iteration_and_stops_when_asked(method):
    z = np.cumsum(np.random.default_rng(0).normal(size=80))
    seen = []

    def note(iteration, log_likelihood, model):
        seen.append((iteration, log_likelihood, model))
        return "stop" if iteration == 8 else None

    fit = sx.fit(sx.LinearGaussian(1, order=2, start="free"), z, method=method, tolerance=1e-12, on_iteration=note)
    assert [n for n, *_ in seen] == list(range(1, 9))
    np.testing.assert_allclose([value for _, value, _ in seen], fit.log_likelihoods[1:])
    np.testing.assert_allclose([sx.filter(m, z).log_likelihood for *_, m in seen], fit.log_likelihoods[1:], rtol=1e-9)
    assert fit.result == sx.RESULTS.max_steps_reached


@pytest.mark.slow
def test_the_best_of_several_random_starts_is_kept():
    z = np.asarray(random_model(4, d=2, p=1).sample(jax.random.key(0), 100)[1])
    fit = lambda restarts, d=2: sx.fit(
        sx.LinearGaussian(d, start="free"), z, 0, method="em", max_iterations=5, restarts=restarts
    )
    several, one = fit(3), fit(1)
    assert len(several.restarts) == 3
    assert several.restarts[0] == one.log_likelihood
    assert several.log_likelihood == several.restarts.max() > several.restarts.min()
    assert len(fit(3, d=1).restarts) == 1  # an autoregression is not random


def test_fits_reject_what_cannot_work(gappy):
    _, z = gappy
    with pytest.raises(sx.DataError, match="tokens"):
        sx.fit(sx.LinearGaussian(1), sx.Sequences.from_arrays([np.array([0, 1, 1])]))
    with pytest.raises(sx.DataError, match="3 observed numbers for 8 free parameters"):
        sx.fit(sx.LinearGaussian(1, order=5), np.ones(3))
    with pytest.raises(sx.DataError, match="Channel 1 has no observed number"):
        sx.fit(sx.LinearGaussian(1), np.column_stack([np.arange(60.0), np.full(60, np.nan)]))
    with pytest.raises(sx.DataError, match="infinite at position 2"):
        sx.fit(sx.LinearGaussian(1), np.array([1.0, 2.0, np.inf, *range(20)]))
    with pytest.raises(sx.ConfigurationError, match="stationary start"):
        sx.fit(sx.LinearGaussian(2), z, method="em")
    with pytest.raises(Exception, match="'flat'"):  # by its own check, or by that of types in these tests
        sx.LinearGaussian(1, start="flat")
    with pytest.raises(sx.ConfigurationError, match="newton"):
        sx.fit(sx.LinearGaussian(2), z, method="newton")
    with pytest.raises(sx.ConfigurationError, match="restarts is 0"):
        sx.fit(sx.LinearGaussian(2), z, restarts=0)
    with pytest.raises(sx.DataError, match="inputs"):
        sx.fit(sx.LinearGaussian(2, inputs=np.ones((5, 1))), z)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 5, 17])
def test_a_fit_takes_as_many_steps_as_it_may(most):
    z = np.random.default_rng(0).normal(size=(60, 3)).cumsum(0)
    found = sx.fit(sx.LinearGaussian(2), z, max_iterations=most)
    assert found.result == sx.RESULTS.max_steps_reached
    assert len(found.log_likelihoods) == most + 1


@pytest.mark.slow
def test_a_free_start_of_many_sequences_is_where_the_likelihood_has_no_slope():
    rng = np.random.default_rng(0)
    x, columns = 3.0 + 2 * rng.normal(size=80), []
    for _ in range(4):
        columns.append(x + 0.5 * rng.normal(size=80))
        x = 0.6 * x + rng.normal(size=80)
    y = np.stack(columns, 1)[:, :, None]
    fit = sx.fit(sx.LinearGaussian(1, start="free"), list(y), method="gradient", max_iterations=200, tolerance=1e-12)

    def dense(mean, variance):
        model = eqx.tree_at(lambda m: (m.initial_mean, m.initial_covariance), fit.model, (mean, variance))
        return sum(log_likelihood(model, z) for z in y)

    m, P = fit.model.initial_mean, fit.model.initial_covariance
    np.testing.assert_allclose(dense(m, P), fit.log_likelihood, rtol=1e-10)
    size, h = jnp.sqrt(P[0]), 1e-3
    assert abs(dense(m + h * size, P) - dense(m - h * size, P)) / (2 * h) < 1e-2
    assert abs(dense(m, P * (1 + h)) - dense(m, P * (1 - h))) / (2 * h) < 1e-2
    assert min(dense(m, P) - dense(m, P * share) for share in (0.5, 2.0)) > 1.0
