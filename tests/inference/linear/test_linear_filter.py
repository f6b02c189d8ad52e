"""The Kalman filter against conditioning of one big Gaussian, and against other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import condition, log_likelihood, random_model

import steerax as sx
from steerax.inference.linear.kernels.riccati import StateSpace, riccati


def gappy(model, key, T):
    z = np.array(model.sample(key, T)[1])
    z[3, 0] = np.nan
    z[7:9] = np.nan
    return z


@pytest.mark.parametrize("order", [1, 3, 20])
def test_filter_and_likelihood_equal_dense_conditioning(order, key):
    model = random_model(order, d=2, p=2, order=order, offset=True)
    z = gappy(model, key, 20)
    run = sx.filter(model, z)
    assert run.result == sx.RESULTS.successful
    for t in (1, 5, 9, 20):
        mean, covariance = condition(model, z[:t], t)
        np.testing.assert_allclose(run.predicted.mean[t], mean, atol=1e-12)
        np.testing.assert_allclose(run.predicted.covariance[t], covariance, atol=1e-12)
    np.testing.assert_allclose(run.log_likelihood, log_likelihood(model, z), rtol=1e-12)


def test_filter_equals_statsmodels_on_a_long_markov_model(key):
    sarimax = pytest.importorskip("statsmodels.tsa.statespace.kalman_filter")
    model = random_model(3, d=3, p=2)
    z = np.asarray(model.sample(key, 400)[1])
    run = sx.filter(model, z)
    other = sarimax.KalmanFilter(k_endog=2, k_states=3)
    other.bind(z.copy())
    other["design"], other["obs_cov"] = np.array(model.observation), np.array(model.observation_noise)
    other["transition"], other["state_cov"] = np.array(model.transition[0]), np.array(model.process_noise)
    other["selection"] = np.eye(3)
    other.initialize_known(np.array(model.initial_mean), np.array(model.initial_covariance))
    theirs = other.filter()
    np.testing.assert_allclose(run.predicted.mean.T, theirs.predicted_state, atol=1e-8)
    np.testing.assert_allclose(run.log_likelihood, theirs.llf_obs.sum(), rtol=1e-8)


@pytest.mark.slow
def test_filter_and_dual_filter_equal_dynamax_on_a_long_markov_model(key):
    inference = pytest.importorskip("dynamax.linear_gaussian_ssm.inference", reason="dynamax (extra `bench`) is absent")
    model = random_model(3, d=3, p=2, offset=True)
    z = np.asarray(model.sample(key, 400)[1])
    parameters = inference.ParamsLGSSM(
        initial=inference.ParamsLGSSMInitial(mean=model.initial_mean, cov=model.initial_covariance),
        dynamics=inference.ParamsLGSSMDynamics(
            weights=model.transition[0], bias=jnp.zeros(3), input_weights=jnp.zeros((3, 0)), cov=model.process_noise
        ),
        emissions=inference.ParamsLGSSMEmissions(
            weights=model.observation,
            bias=model.observation_offset,
            input_weights=jnp.zeros((2, 0)),
            cov=model.observation_noise,
        ),
    )
    theirs = inference.lgssm_filter(parameters, jnp.asarray(z))
    F = model.transition[0]
    mean, covariance = F @ theirs.filtered_means[-1], F @ theirs.filtered_covariances[-1] @ F.T + model.process_noise
    run, dual = sx.filter(model, z), sx.dual_filter(model, z)
    np.testing.assert_allclose(run.log_likelihood, theirs.marginal_loglik, rtol=1e-8)
    for ours in (run.predicted.mean[-1], dual.predicted.mean):
        np.testing.assert_allclose(ours, mean, rtol=1e-8)
    for ours in (run.predicted.covariance[-1], dual.predicted.covariance):
        np.testing.assert_allclose(ours, covariance, rtol=1e-8)


def test_covariances_reused_after_settling_equal_recomputed_ones(key):
    # a gap late in the series stops the reuse and starts it again
    model = random_model(5, d=2, p=1)
    z = np.array(model.sample(key, 300)[1])
    z[250] = np.nan
    run = sx.filter(model, z)
    _, covariance = condition(model, z[200:260], 60)
    np.testing.assert_allclose(run.predicted.covariance[260], covariance, rtol=1e-9)


def test_singular_noises_are_exact(key):
    model = sx.LinearGaussianModel(
        np.zeros(2), np.eye(2), [[[0.9, 0.1], [0.0, 0.5]]], [[1.0, 0.0]], np.diag([1.0, 0.0]), [[0.0]]
    )
    z = np.asarray(model.sample(key, 12)[1])
    run = sx.filter(model, z)
    mean, covariance = condition(model, z, 12)
    np.testing.assert_allclose(run.predicted.mean[12], mean, atol=1e-10)
    np.testing.assert_allclose(run.predicted.covariance[12], covariance, atol=1e-10)


def test_a_batch_of_ragged_sequences_equals_one_at_a_time(key):
    model = random_model(2, d=2, p=2)
    parts = [np.asarray(model.sample(k, T)[1]) for k, T in zip(jax.random.split(key, 2), (30, 20), strict=True)]
    run = sx.filter(model, sx.Sequences.from_arrays(parts))
    for i, part in enumerate(parts):
        alone = sx.filter(model, np.concatenate([part, np.full((30 - len(part), 2), np.nan)]))
        np.testing.assert_allclose(run.log_likelihood[i], alone.log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(run.predicted.mean[i], alone.predicted.mean, atol=1e-12)


def test_a_certain_observation_twice_is_a_named_breakdown():
    model = sx.LinearGaussianModel(
        jnp.zeros(1), jnp.eye(1), jnp.ones((1, 1, 1)), jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.zeros((1, 1))
    )
    assert sx.filter(model, np.array([1.0, 1.0])).result == sx.RESULTS.breakdown


def test_filter_rejects_wrong_shapes_and_infinite_values():
    model = random_model(0, p=2)
    with pytest.raises(sx.DataError, match=r"\[T 2\]"):
        sx.filter(model, np.zeros(5))
    with pytest.raises(sx.DataError, match="infinite"):
        sx.filter(model, np.full((5, 2), np.inf))


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_transitions_that_change_after_the_covariance_has_settled_count():
    """Joseph's form, step by step: what a recursion that reuses its last step would miss."""
    rng = np.random.default_rng(0)
    H, G, R_half, L = rng.normal(size=(1, 2)), rng.normal(size=(2, 2)), np.eye(1), np.eye(2)
    F = np.tile(np.array([[0.3, 0.1], [0.0, 0.2]]), (60, 1, 1))
    F[50:] = [[0.9, -0.4], [0.5, 0.7]]
    system = StateSpace(*(jnp.asarray(a) for a in (F[0], H, G, R_half, L)))
    found, P = riccati(system, jnp.ones((60, 1), bool), 2, jnp.asarray(F)), L.T @ L
    for t in range(60):
        S = H @ P @ H.T + R_half.T @ R_half
        K = P @ H.T / S
        np.testing.assert_allclose(found.K[t], F[t] @ K, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.P[t], P, rtol=1e-10, atol=1e-12)
        left = np.eye(2) - K @ H
        P = F[t] @ (left @ P @ left.T + K @ (R_half.T @ R_half) @ K.T) @ F[t].T + G @ G.T
