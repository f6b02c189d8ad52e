"""Learning against the dense likelihood and its slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import joint_distribution, log_likelihood, random_model, spectral_radius

import steerax as sx
from steerax.inference.linear.kernels.coordinates import Free, Stable, stable_taps
from steerax.inference.linear.kernels.em import Data, expectation, maximisation
from steerax.inference.linear.kernels.quasi_newton import likelihood_and_score


def test_a_fit_goes_on_from_a_model():
    z = np.cumsum(np.random.default_rng(0).normal(size=80))
    first = sx.fit(sx.LinearGaussian(1), z, method="em", max_iterations=3)
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
    fit = sx.fit(sx.LinearGaussian(1, order=2), z, key, method="gradient", tolerance=1e-5)
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
    fit = sx.fit(sx.LinearGaussian(1, inputs=w), z, key, method=method, max_iterations=40, tolerance=1e-9)
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


def test_em_finds_a_better_model_than_the_truth_and_recovers_it():
    truth = random_model(4, d=2, p=2, offset=True)
    data = sx.Sequences.from_arrays([truth.sample(k, 100)[1] for k in jax.random.split(jax.random.key(3), 8)])
    fit = sx.fit(sx.LinearGaussian(2), data, jax.random.key(0), method="em", max_iterations=60)
    assert fit.log_likelihoods[-1] > float(sx.filter(truth, data).log_likelihood.sum())
    np.testing.assert_allclose(fit.log_likelihoods[-1], sx.filter(fit.model, data).log_likelihood.sum())
    roots = [np.sort_complex(np.linalg.eigvals(np.asarray(m.transition[0]))) for m in (fit.model, truth)]
    np.testing.assert_allclose(*roots, atol=0.1)


def test_stable_fits_are_stable_and_orders_are_selected():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=60))
    fit = sx.fit(
        sx.LinearGaussian(1, stable=True),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="em",
        max_iterations=20,
    )
    assert abs(float(fit.model.transition[0, 0, 0])) < 1
    assert np.diff(fit.log_likelihoods).min() > -1e-9
    fit = sx.fit(
        sx.LinearGaussian(1, stable=True),
        1.05 ** np.arange(60) + walk,
        jax.random.key(0),
        method="gradient",
        max_iterations=20,
    )
    assert abs(float(fit.model.transition[0, 0, 0])) < 1
    kinds = [sx.LinearGaussian(1), sx.LinearGaussian(1, order=2)]
    chosen = sx.select(kinds, walk, method="em", max_iterations=10)
    assert chosen.best.fitted.bic == min(candidate.fitted.bic for candidate in chosen.candidates)


@pytest.mark.parametrize("order", [1, 2])
def test_a_constant_series_ends_in_a_named_result(order):
    fit = sx.fit(sx.LinearGaussian(1, order=order, stable=True), np.ones(50), jax.random.key(0))
    assert fit.result in (sx.RESULTS.breakdown, sx.RESULTS.successful)


@pytest.mark.parametrize("method", ["em", "gradient"])
def test_a_fit_reports_each_iteration_and_stops_when_asked(method):
    z = np.cumsum(np.random.default_rng(0).normal(size=80))
    seen = []

    def note(iteration, log_likelihood, model):
        seen.append((iteration, log_likelihood, model))
        return "stop" if iteration == 8 else None

    fit = sx.fit(sx.LinearGaussian(1, order=2), z, method=method, tolerance=1e-12, on_iteration=note)
    assert [n for n, *_ in seen] == list(range(1, 9))
    np.testing.assert_allclose([value for _, value, _ in seen], fit.log_likelihoods[1:])
    np.testing.assert_allclose([sx.filter(m, z).log_likelihood for *_, m in seen], fit.log_likelihoods[1:], rtol=1e-9)
    assert fit.result == sx.RESULTS.max_steps_reached


def test_the_best_of_several_random_starts_is_kept():
    z = np.asarray(random_model(4, d=2, p=1).sample(jax.random.key(0), 100)[1])
    fit = lambda restarts, d=2: sx.fit(sx.LinearGaussian(d), z, 0, method="em", max_iterations=5, restarts=restarts)
    several, one = fit(3), fit(1)
    assert len(several.restarts) == 3
    assert several.restarts[0] == one.log_likelihood
    assert several.log_likelihood == several.restarts.max() > several.restarts.min()
    assert len(fit(3, d=1).restarts) == 1  # an autoregression is not random


def test_fits_reject_what_cannot_work(gappy):
    _, z = gappy
    with pytest.raises(sx.DataError, match="tokens"):
        sx.fit(sx.LinearGaussian(1), sx.Sequences.from_arrays([np.array([0, 1, 1])]))
    with pytest.raises(sx.DataError, match="order 5"):
        sx.fit(sx.LinearGaussian(1, order=5), np.ones(3))
    with pytest.raises(sx.ConfigurationError, match="newton"):
        sx.fit(sx.LinearGaussian(2), z, method="newton")
    with pytest.raises(sx.ConfigurationError, match="restarts=0"):
        sx.fit(sx.LinearGaussian(2), z, restarts=0)
    with pytest.raises(sx.DataError, match="inputs"):
        sx.fit(sx.LinearGaussian(2, inputs=np.ones((5, 1))), z)
