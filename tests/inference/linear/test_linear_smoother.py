"""The Kalman smoother against dense conditioning."""

import numpy as np
import pytest
from linear_oracles import condition, exact_smoother, numpy_arrays, random_model, random_operator

import steerax as sx


def test_smoother_equals_dense_conditioning_on_everything(gappy):
    model, z = gappy
    run = sx.smooth(model, z)
    for t in (0, 1, 2, 9, 17):
        mean, covariance = condition(model, z, t)
        np.testing.assert_allclose(run.smoothed.mean[t], mean, atol=1e-11)
        np.testing.assert_allclose(run.smoothed.covariance[t], covariance, atol=1e-11)


KINDS = ("plain", "diffuse", "nearly noise-free", "diffuse and nearly noise-free", "rank-one noise", "units of states")


@pytest.mark.parametrize("kind", KINDS)
def test_the_smoother_keeps_its_digits(kind):
    # diffuse variances of 1e15 beside noises of 1e-10, singular noises, states in units from 1e-6 to 1e6
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = random_model(seed, d=2, p=2, order=2, radius=rng.choice([0.5, 1.0, 1.1]), offset=True)
        m0, S0, A, H, Q, R = (np.array(a) for a in numpy_arrays(model))
        if "diffuse" in kind:
            S0 = np.eye(2) * 1e15
        if "noise-free" in kind:
            R = R * 1e-10
        if kind == "rank-one noise":
            Q = np.outer(v := rng.normal(size=2), v)
        if kind == "units of states":
            u = 10.0 ** rng.integers(-6, 7, 2)
            both = np.outer(u, u)
            m0, S0, A, H, Q = m0 * u, S0 * both, A * (u[:, None] / u), H / u, Q * both
        model = sx.LinearGaussianModel(m0, S0, A, H, Q, R, model.observation_offset)
        z = np.array(random_model(seed, d=2, p=2, order=2).sample(seed, 5)[1])
        z[rng.random(z.shape) < 0.2] = np.nan
        mean, covariance = exact_smoother(model, z)
        run = sx.smooth(model, z)
        assert run.result == sx.RESULTS.successful
        deviation = np.sqrt(np.einsum("tii->ti", covariance))
        error = np.abs(run.smoothed.mean - mean) / (deviation + 1e-9 * np.abs(mean))
        assert error.max() < 1e-6
        error = np.abs(run.smoothed.covariance - covariance) / (deviation[:, :, None] * deviation[:, None])
        assert error.max() < 1e-6


@pytest.mark.slow
def test_states_that_decay_without_noise_are_exact():
    """What the predictions have forgotten is still known of the past: no covariance of a prediction is inverted."""
    mix = np.array([[1, 0.5], [0.3, 1]])
    for rates, noise in (((0.9, 0.1), 0.0), ((0.9, 0.1), 1e-12), ((1.0, 0.0), 0.0), ((1.2, 0.01), 1e-6)):
        A = mix @ np.diag(rates) @ np.linalg.inv(mix)
        model = sx.LinearGaussianModel([0.0, 0], np.eye(2), A, [[1.0, 0.3]], noise * np.eye(2), [[1.0]])
        y = np.random.default_rng(0).normal(size=(12, 1))
        mean, covariance = exact_smoother(model, y)
        run = sx.smooth(model, y).smoothed
        np.testing.assert_allclose(run.mean, mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(run.covariance, covariance, rtol=1e-12, atol=1e-12)


def test_the_smoother_rejects_a_model_that_varies_in_time():
    with pytest.raises(sx.DataError, match="time-varying"):
        sx.smooth(random_operator(0, 5, 2, 1), np.zeros(5))
