"""The Kalman smoother against dense conditioning."""

import numpy as np
import pytest
from linear_oracles import condition, random_operator

import steerax as sx


def test_smoother_equals_dense_conditioning_on_everything(gappy):
    model, z = gappy
    run = sx.smooth(model, z)
    for t in (0, 1, 2, 9, 17):
        mean, covariance = condition(model, z, t)
        np.testing.assert_allclose(run.smoothed.mean[t], mean, atol=1e-11)
        np.testing.assert_allclose(run.smoothed.covariance[t], covariance, atol=1e-11)


def test_the_smoother_rejects_a_model_that_varies_in_time():
    with pytest.raises(sx.DataError, match="time-varying"):
        sx.smooth(random_operator(0, 5, 2, 1), np.zeros(5))
