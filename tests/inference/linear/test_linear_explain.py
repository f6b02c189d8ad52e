"""Explanations add up to the estimate, which dense conditioning gives."""

import numpy as np
import pytest
from linear_oracles import condition, random_operator

import steerax as sx


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


def test_an_explanation_says_how_its_solver_ended_and_refuses_one_that_sees_the_future(gappy):
    model, z = gappy
    assert sx.explain(model, z).result == sx.RESULTS.successful
    hasty = sx.solvers.ClosedLoop(lags=1, max_steps=1)
    assert sx.explain(random_operator(3, 18, 2, 2), z, solver=hasty).result == sx.RESULTS.max_steps_reached
    for solver in (sx.solvers.Direct(), sx.solvers.Schur(), "cg"):
        with pytest.raises(sx.ConfigurationError, match="pass a ClosedLoop"):
            sx.explain(model, z, 5, solver=solver)


def test_explanations_reject_times_and_targets_that_are_not_there(gappy):
    model, z = gappy
    with pytest.raises(sx.ConfigurationError, match="between -19 and 18"):
        sx.explain(model, z, 40)
    with pytest.raises(sx.ConfigurationError, match="For several sequences"):
        sx.explain(model, sx.Sequences.from_arrays([z]), 3)
    with pytest.raises(sx.ConfigurationError, match="next_token"):
        sx.explain(model, z, -1, "next_token")
