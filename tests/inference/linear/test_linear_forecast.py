"""Forecasts against dense conditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import condition, random_operator

import steerax as sx


def test_forecasts_equal_dense_conditioning(gappy):
    model, z = gappy
    ahead = sx.forecast(model, z, 3)
    H, R = np.asarray(model.observation), np.asarray(model.observation_noise)
    for j in range(3):
        mean, covariance = condition(model, z, 18 + j)
        np.testing.assert_allclose(ahead.mean[j], H @ mean + model.observation_offset, atol=1e-11)
        np.testing.assert_allclose(ahead.covariance[j], H @ covariance @ H.T + R, atol=1e-11)
    low, high = ahead.interval(0.9)[0, 0]
    assert float((high - low) / 2 / jnp.sqrt(ahead.covariance[0, 0, 0])) == pytest.approx(1.6448536269514722)
    batch = sx.forecast(model, sx.Sequences.from_arrays([z, z[:12]]), 2)
    np.testing.assert_allclose(batch.mean[0], ahead.mean[:2], atol=1e-11)
    np.testing.assert_allclose(batch.mean[1], sx.forecast(model, z[:12], 2).mean, atol=1e-11)


@pytest.mark.slow
def test_forecasts_of_an_operator_use_its_later_steps():
    model = random_operator(5, 14, d=2, p=1)
    z = np.array(model.sample(jax.random.key(2), 12)[1])
    ahead = sx.forecast(model, z, 2)
    np.testing.assert_allclose(ahead.mean[1], np.asarray(model.observation) @ condition(model, z, 13)[0], atol=1e-11)
    batch = sx.forecast(model, sx.Sequences.from_arrays([z, z[:7]]), 2)
    np.testing.assert_allclose(batch.mean[0], ahead.mean, atol=1e-11)
    np.testing.assert_allclose(
        batch.mean[1, 1], np.asarray(model.observation) @ condition(model, z[:7], 8)[0], atol=1e-11
    )


@pytest.mark.slow
def test_a_forecast_whose_solver_failed_says_so(monkeypatch):
    from steerax.inference.linear import forecast

    model = random_operator(5, 14, d=2, p=1)
    z = np.array(model.sample(jax.random.key(2), 12)[1])
    assert sx.forecast(model, z, 2).result == sx.RESULTS.successful
    monkeypatch.setattr(forecast, "ClosedLoop", lambda: sx.solvers.ClosedLoop(lags=1, max_steps=1))
    assert sx.forecast(model, z, 2).result == sx.RESULTS.max_steps_reached


def test_forecasts_reject_coverages_that_are_not_probabilities(gappy):
    model, z = gappy
    with pytest.raises(sx.ConfigurationError, match="coverage"):
        sx.forecast(model, z, 1).interval(1.5)
