"""Smoothing, forecasting, explaining and learning: against dense conditioning and the likelihood itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import condition, joint_law, log_likelihood, random_model, random_operator, spectral_radius

import steerax as sx
from steerax.inference.linear.kernels.coordinates import Free, Stable, stable_taps
from steerax.inference.linear.kernels.em import Data, expectation, maximisation
from steerax.inference.linear.kernels.quasi_newton import likelihood_and_score
from steerax.inference.linear.select import canonical


@pytest.fixture(scope="module")
def gappy():
    model = random_model(7, d=2, p=2, order=3, offset=True)
    z = np.array(model.sample(jax.random.key(1), 18)[1])
    z[4, 0], z[9:11] = np.nan, np.nan
    return model, z


def test_smoother_equals_dense_conditioning_on_everything(gappy):
    model, z = gappy
    run = sx.smooth(model, z)
    for t in (0, 1, 2, 9, 17):
        mean, covariance = condition(model, z, t)
        np.testing.assert_allclose(run.smoothed.mean[t], mean, atol=1e-11)
        np.testing.assert_allclose(run.smoothed.covariance[t], covariance, atol=1e-11)


def test_filtered_states_are_conditioned_on_their_own_observation_too(gappy):
    model, z = gappy
    run = sx.filter(model, z)
    for t in (0, 3, 4, 9, 17):
        mean, covariance = condition(model, z[: t + 1], t)
        np.testing.assert_allclose(run.filtered.mean[t], mean, atol=1e-11)
        np.testing.assert_allclose(run.filtered.covariance[t], covariance, atol=1e-11)
    np.testing.assert_allclose(run.log_likelihoods.sum(), run.log_likelihood, rtol=1e-13)
    for t in (2, 9, 18):
        before = log_likelihood(model, z[:t])
        np.testing.assert_allclose(run.log_likelihoods[:t].sum(), before, rtol=1e-11)
    ahead = sx.forecast(model, z, 1)
    np.testing.assert_allclose(run.next().mean, ahead.mean[0], atol=1e-12)
    np.testing.assert_allclose(run.next().covariance, ahead.covariance[0], atol=1e-12)


def test_every_verb_takes_several_series_as_each_alone(gappy):
    model, z = gappy
    parts = [z, z[:12]]
    data = sx.Sequences.from_arrays(parts)
    run, smoothed, terms = sx.filter(model, data), sx.smooth(model, data), sx.explain(model, data)
    scores = sx.score(model, data)
    for i, part in enumerate(parts):
        n, alone = len(part), sx.filter(model, part)
        np.testing.assert_allclose(run.filtered.mean[i, :n], alone.filtered.mean, atol=1e-12)
        np.testing.assert_allclose(run.next().mean[i], alone.next().mean, atol=1e-12)
        np.testing.assert_allclose(smoothed.smoothed.mean[i, :n], sx.smooth(model, part).smoothed.mean, atol=1e-11)
        one = sx.explain(model, part)
        np.testing.assert_allclose(terms.prior[i], one.prior, atol=1e-11)
        np.testing.assert_allclose(terms.weights[i, :, :n], one.weights, atol=1e-11)
        assert not terms.weights[i, :, n:].any()
        np.testing.assert_allclose(scores.log_likelihoods[i].sum(), alone.log_likelihood, rtol=1e-12)
        assert scores.scored[i].sum() == np.isfinite(part).sum()
    every = sx.explain(model, data, "all", "state")
    np.testing.assert_allclose(
        every.prior[1, :13] + every.weights[1, :13].sum(1), sx.filter(model, z[:12]).predicted.mean, atol=1e-11
    )


def test_a_fit_goes_on_from_a_model():
    z = np.cumsum(np.random.default_rng(0).normal(size=80))
    first = sx.fit(sx.LinearGaussian(1), z, method="em", max_iterations=3)
    further = sx.fit(first.model, z, method="em", max_iterations=3)
    assert further.log_likelihoods[0] == pytest.approx(first.log_likelihood)
    assert further.log_likelihood > first.log_likelihood
    assert "AIC" in first.summary()


def test_forecasts_equal_dense_conditioning(gappy):
    model, z = gappy
    found = sx.forecast(model, z, 3)
    H, R = np.asarray(model.observation), np.asarray(model.observation_noise)
    for j in range(3):
        mean, covariance = condition(model, z, 18 + j)
        np.testing.assert_allclose(found.mean[j], H @ mean + model.observation_offset, atol=1e-11)
        np.testing.assert_allclose(found.covariance[j], H @ covariance @ H.T + R, atol=1e-11)
    low, high = found.interval(0.9)[0, 0]
    assert float((high - low) / 2 / jnp.sqrt(found.covariance[0, 0, 0])) == pytest.approx(1.6448536269514722)
    batch = sx.forecast(model, sx.Sequences.from_arrays([z, z[:12]]), 2)
    np.testing.assert_allclose(batch.mean[0], found.mean[:2], atol=1e-11)
    np.testing.assert_allclose(batch.mean[1], sx.forecast(model, z[:12], 2).mean, atol=1e-11)


def test_forecasts_of_an_operator_use_its_later_steps():
    model = random_operator(5, 14, d=2, p=1)
    z = np.array(model.sample(jax.random.key(2), 12)[1])
    found = sx.forecast(model, z, 2)
    np.testing.assert_allclose(found.mean[1], np.asarray(model.observation) @ condition(model, z, 13)[0], atol=1e-11)
    batch = sx.forecast(model, sx.Sequences.from_arrays([z, z[:7]]), 2)
    np.testing.assert_allclose(batch.mean[0], found.mean, atol=1e-11)
    np.testing.assert_allclose(
        batch.mean[1, 1], np.asarray(model.observation) @ condition(model, z[:7], 8)[0], atol=1e-11
    )


def test_explanations_add_up_and_belong_to_the_past(gappy):
    model, z = gappy
    e = sx.explain(model, z, "all", "state")
    for q in (0, 5, 12, 18):
        mean = np.asarray(model.initial_mean) if q == 0 else condition(model, z[:q], q)[0]
        np.testing.assert_allclose(e.prior[q] + e.weights[q].sum(0), mean, atol=1e-11)
        assert not e.weights[q, q:].any()
    assert not e.weights[:, 9:11].any()
    last = sx.explain(model, z)
    np.testing.assert_allclose(last.prior[0] + last.weights[0].sum(0), sx.forecast(model, z, 1).mean[0], atol=1e-11)


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


@pytest.mark.parametrize("coordinates", [Free(), Stable()])
def test_the_score_is_the_slope_of_the_dense_likelihood(coordinates, gappy):
    # along random directions of all coordinates, gaps and inputs included; central differences err by 1e-9
    model, z = gappy
    rng = np.random.default_rng(0)
    w = rng.normal(size=(18, 1))
    data = Data(jnp.nan_to_num(z)[None], jnp.isfinite(z)[None], jnp.ones((1, 18), bool), jnp.asarray(w)[None])
    theta = coordinates.from_model(model, jnp.asarray([[0.5], [-0.3]]))
    value, score = likelihood_and_score(theta, data, coordinates, True)

    def dense(theta):
        return log_likelihood(coordinates.to_model(theta), z - w @ np.asarray(theta.inputs).T)

    np.testing.assert_allclose(value, dense(theta), rtol=1e-11)
    for _ in range(4):
        direction = jax.tree.map(lambda a: rng.normal(size=a.shape), theta)
        ahead, behind = (jax.tree.map(lambda a, b, h=h: a + h * b, theta, direction) for h in (1e-5, -1e-5))
        slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: float((a * b).sum()), score, direction)))
        np.testing.assert_allclose(slope, (dense(ahead) - dense(behind)) / 2e-5, atol=1e-6)


@pytest.mark.parametrize("radius", [0.5, 0.999])
def test_coordinates_of_stable_models_reach_every_stable_model_and_no_other(radius):
    model = random_model(7, d=2, p=2, order=4, radius=radius)
    theta = Stable().from_model(model, jnp.zeros((2, 0)))
    np.testing.assert_allclose(Stable().to_model(theta).transition, model.transition, atol=1e-11)
    for scale in (0.1, 1.0, 30.0):
        free = scale * jnp.asarray(np.random.default_rng(1).normal(size=(4, 2, 2)))
        assert spectral_radius(np.asarray(stable_taps(free, jnp.asarray([[1.0, 0.0], [0.4, 0.7]])))) < 1


def test_gradient_steps_climb_beyond_expectation_maximisation(key):
    truth = random_model(2, d=1, p=1, order=2, radius=0.95)
    z = np.array(truth.sample(key, 150)[1])
    z[40:44] = np.nan
    slow = sx.fit(sx.LinearGaussian(1, order=2), z, key, method="em", max_iterations=15)
    found = sx.fit(sx.LinearGaussian(1, order=2), z, key, method="gradient", tolerance=1e-5)
    assert found.result == sx.RESULTS.successful
    assert found.log_likelihoods[-1] > slow.log_likelihoods[-1]
    assert np.diff(found.log_likelihoods).min() > -1e-8
    np.testing.assert_allclose(found.log_likelihoods[-1], log_likelihood(found.model, z), rtol=1e-9)


@pytest.mark.parametrize("method", ["em", "gradient"])
def test_weights_of_inputs_are_found_with_the_model(method, key):
    truth = random_model(2, d=1, p=1)
    w = np.stack([np.sin(np.arange(120) / 3), np.arange(120) / 40], axis=1)
    z = np.array(truth.sample(key, 120)[1]) + w @ np.array([[2.0], [-1.0]])
    z[50] = np.nan
    found = sx.fit(sx.LinearGaussian(1, inputs=w), z, key, method=method, max_iterations=40, tolerance=1e-9)
    rest = z - w @ found.input_weights.T
    np.testing.assert_allclose(found.log_likelihoods[-1], log_likelihood(found.model, rest), rtol=1e-9)
    # at the maximum the weights and the offset are those of generalised least squares
    _, _, mean_Z, cov_Z, _ = joint_law(found.model, 120)
    keep = np.isfinite(z[:, 0])
    design = np.concatenate([w, np.ones((120, 1))], axis=1)[keep]
    weighted = np.linalg.solve(cov_Z[np.ix_(keep, keep)], design)
    best = np.linalg.solve(weighted.T @ design, weighted.T @ (z[:, 0] - mean_Z)[keep])
    error = np.sqrt(np.diag(np.linalg.inv(weighted.T @ design)))
    found_weights = np.append(found.input_weights[0], found.model.observation_offset)
    np.testing.assert_array_less(np.abs(found_weights - best), (0.5 if method == "em" else 0.05) * error)


def test_em_finds_a_better_model_than_the_truth_and_recovers_it():
    truth = random_model(4, d=2, p=2, offset=True)
    data = sx.Sequences.from_arrays([truth.sample(k, 100)[1] for k in jax.random.split(jax.random.key(3), 8)])
    found = sx.fit(sx.LinearGaussian(2), data, jax.random.key(0), method="em", max_iterations=60)
    assert found.log_likelihoods[-1] > float(sx.filter(truth, data).log_likelihood.sum())
    np.testing.assert_allclose(found.log_likelihoods[-1], sx.filter(found.model, data).log_likelihood.sum())
    roots = [np.sort_complex(np.linalg.eigvals(np.asarray(m.transition[0]))) for m in (found.model, truth)]
    np.testing.assert_allclose(*roots, atol=0.1)


@pytest.mark.parametrize(("d", "p"), [(1, 2), (2, 2), (3, 2)])
def test_the_canonical_form_keeps_the_law_and_forgets_the_basis(d, p):
    model = random_model(8, d=d, p=p, order=2)
    other = model.change_basis(jnp.asarray(np.random.default_rng(0).normal(size=(d, d)) + 2 * np.eye(d)))
    np.testing.assert_allclose(joint_law(canonical(other), 5)[3], joint_law(model, 5)[3], atol=1e-11)
    if d <= p + 1:  # one hidden direction is fixed up to its sign
        np.testing.assert_allclose(np.abs(canonical(other).transition), np.abs(canonical(model).transition), atol=1e-9)


def test_stable_fits_are_stable_and_orders_are_selected():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=60))
    found = sx.fit(
        sx.LinearGaussian(1, stable=True),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="em",
        max_iterations=20,
    )
    assert abs(float(found.model.transition[0, 0, 0])) < 1
    assert np.diff(found.log_likelihoods).min() > -1e-9
    found = sx.fit(
        sx.LinearGaussian(1, stable=True),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="gradient",
        max_iterations=20,
    )
    assert abs(float(found.model.transition[0, 0, 0])) < 1
    kinds = [sx.LinearGaussian(1), sx.LinearGaussian(1, order=2)]
    chosen = sx.select(kinds, walk, method="em", max_iterations=10)
    assert chosen.best.fitted.bic == min(candidate.fitted.bic for candidate in chosen.candidates)


def test_recalibration_widens_intervals_to_the_recent_errors_and_moves_no_forecast(gappy):
    model, z = gappy
    run = sx.filter(model, z)
    H, R = np.asarray(model.observation), np.asarray(model.observation_noise)
    squares, numbers = 0.0, 0
    for t in (12, 13, 14, 15, 16, 17):  # the last six times are complete
        S = H @ np.asarray(run.predicted.covariance[t]) @ H.T + R
        squares, numbers = squares + run.innovations[t] @ np.linalg.solve(S, run.innovations[t]), numbers + 2
    before, after = (sx.forecast(m, z, 3) for m in (model, sx.recalibrate(model, z, window=6)))
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-10)
    np.testing.assert_allclose(after.covariance, before.covariance * squares / numbers, rtol=1e-10)
    with pytest.raises(sx.ConfigurationError, match="window"):
        sx.recalibrate(model, z, window=0)


@pytest.mark.parametrize("kind", ["taps", "operator"])
def test_models_survive_a_folder(kind, tmp_path):
    model = random_model(1, d=2, p=1, order=3) if kind == "taps" else random_operator(1, 4, d=2, p=1)
    sx.save(model, tmp_path / "m")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), model, sx.load(tmp_path / "m")))


def test_use_rejects_what_cannot_work(gappy):
    model, z = gappy
    with pytest.raises(sx.ConfigurationError, match="between -19 and 18"):
        sx.explain(model, z, 40)
    with pytest.raises(sx.ConfigurationError, match="coverage"):
        sx.forecast(model, z, 1).interval(1.5)
    with pytest.raises(sx.DataError, match="tokens"):
        sx.fit(sx.LinearGaussian(1), sx.Sequences.from_arrays([np.array([0, 1, 1])]), jax.random.key(0))
    with pytest.raises(sx.DataError, match="order 5"):
        sx.fit(sx.LinearGaussian(1, order=5), np.ones(3), jax.random.key(0))
    with pytest.raises(sx.ConfigurationError, match="newton"):
        sx.fit(sx.LinearGaussian(2), z, jax.random.key(0), method="newton")
    with pytest.raises(sx.DataError, match="inputs"):
        sx.fit(sx.LinearGaussian(2, inputs=np.ones((5, 1))), z, jax.random.key(0))
    with pytest.raises(sx.DataError, match="time-varying"):
        sx.smooth(random_operator(0, 5, 2, 1), np.zeros(5))


@pytest.mark.parametrize("order", [1, 2])
def test_a_constant_series_ends_in_a_named_result(order):
    fit = sx.fit(sx.LinearGaussian(1, order=order, stable=True), np.ones(50), jax.random.key(0))
    assert fit.result in (sx.RESULTS.breakdown, sx.RESULTS.successful)
