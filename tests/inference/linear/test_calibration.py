"""Intervals that follow the recent errors."""

import numpy as np
import pytest
from linear_oracles import random_operator

import steerax as sx


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
    with pytest.raises(sx.DataError, match="one series"):
        sx.recalibrate(model, sx.Sequences.from_arrays([z]))
    with pytest.raises(sx.DataError, match="time-varying"):
        sx.recalibrate(random_operator(0, 5, 2, 1), np.zeros(5))
