"""Explanations add up to the estimate, which dense conditioning gives."""

import attribution_oracles
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import condition, random_operator

import steerax as sx
from steerax.inference.linear.dual import Target
from steerax.inference.linear.explain import _values


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


def test_the_filters_of_all_subsets_hold_no_states_of_each_other():
    """Memory beside the subsets themselves grows with the length of the series, not with its square."""
    model = sx.LinearGaussianModel(np.zeros(4), np.eye(4), 0.5 * np.eye(4)[None], np.eye(4), np.eye(4), np.eye(4))
    target = Target(jnp.eye(4), jnp.zeros(4))

    def bytes_held(T):
        z, mask, subsets = jnp.zeros((T, 4)), jnp.ones((T, 4), bool), ~jnp.eye(T, dtype=bool)
        held = _values.lower(model, z, mask, jnp.array([T]), target, subsets).compile().memory_analysis()
        return held.temp_size_in_bytes

    assert bytes_held(400) < 3 * bytes_held(200)


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


def of_subset(model, z, kept, q, d):
    """The mean of X_q from the times `kept` before it, by dense conditioning."""
    seen = np.full_like(z[:q], np.nan)
    seen[kept] = z[kept]
    return condition(model, seen, q)[0]


@pytest.fixture(scope="module")
def short(gappy):
    """Six times, one of them empty and one half so."""
    model, z = gappy
    return model, z[4:11][[0, 1, 5, 2, 3, 4]]


@pytest.mark.slow
def test_news_deletion_and_shapley_values_are_their_definitions(short):
    model, z = short
    q, d, whole = 6, 2, list(range(6))
    v = lambda kept: of_subset(model, z, list(kept), q, d)
    wanted = {
        "news": np.diff([v(range(t)) for t in range(7)], axis=0),
        "deletion": np.array([v(whole) - v([s for s in whole if s != t]) for t in whole]),
        "shapley": attribution_oracles.shapley(v, 6).astype(float),
    }
    for method, terms in wanted.items():
        e = sx.explain(model, z, target="state", method=method)
        np.testing.assert_allclose(e.weights[0], terms, atol=1e-11)
        np.testing.assert_allclose(e.prior[0], v([]), atol=1e-11)
        np.testing.assert_allclose(e.prediction[0], v(whole), atol=1e-11)
        np.testing.assert_array_equal(e.weights[0, 2], 0)  # where nothing was observed
        inside = sx.explain(model, z, 4, "state", method)
        np.testing.assert_allclose(inside.prediction[0], of_subset(model, z, [0, 1, 2, 3], 4, d), atol=1e-11)
        np.testing.assert_array_equal(inside.weights[0, 4:], 0)


@pytest.mark.slow
def test_integrated_terms_are_coefficients_times_distances_from_the_mean(short):
    """An affine estimate moves by its coefficient times the step, whatever the other observations."""
    model, z = short
    mean = np.asarray(sx.filter(model, np.full_like(z, np.nan)).next_all().mean)[:6]
    e, v = sx.explain(model, z, target="state"), lambda z: of_subset(model, z, list(range(6)), 6, 2)
    at_mean = np.where(np.isnan(z), np.nan, mean)
    np.testing.assert_allclose(e.prior[0], v(at_mean), atol=1e-11)
    for t in range(6):
        moved = at_mean.copy()
        moved[t] = z[t]
        np.testing.assert_allclose(e.weights[0, t], v(moved) - v(at_mean), atol=1e-11)
    control = sx.explain(model, z, target="state", method="control")
    np.testing.assert_allclose(control.controls, e.controls, atol=1e-14)
    np.testing.assert_allclose(control.prediction, e.prediction, atol=1e-12)


@pytest.mark.slow
def test_a_contrast_is_a_difference_of_channels(gappy):
    model, z = gappy
    for method in ("integrated",):
        e, why = sx.explain(model, z, method=method), sx.explain(model, z, method=method, contrast=(1, "channel 0"))
        np.testing.assert_allclose(why.weights[..., 0], e.weights[..., 1] - e.weights[..., 0], atol=1e-12)
        np.testing.assert_allclose(why.prior[..., 0], e.prior[..., 1] - e.prior[..., 0], atol=1e-12)
    assert why.columns == ("channel 1 − channel 0",)
    with pytest.raises(sx.DataError, match="none of the channels"):
        sx.explain(model, z, contrast=(0, 2))


@pytest.mark.slow
def test_a_model_that_varies_in_time_has_the_terms_of_its_twin_and_refuses_the_kalman_filter(gappy):
    model, z = gappy
    varying = sx.TimeVaryingLinearGaussianModel.from_taps(model, 19)
    one, two = sx.explain(model, z), sx.explain(varying, z)
    np.testing.assert_allclose(two.weights, one.weights, atol=1e-10)
    np.testing.assert_allclose(two.prior, one.prior, atol=1e-10)
    for method in ("news", "deletion", "shapley"):
        with pytest.raises(sx.ConfigurationError, match="takes time-invariant models"):
            sx.explain(varying, z, method=method)
    with pytest.raises(sx.ConfigurationError, match="choose one of"):
        sx.explain(model, z, method="lime")


@pytest.mark.slow
def test_a_batch_of_series_is_each_alone(short):
    model, z = short
    data = sx.Sequences.from_arrays([z, z[:4]])
    for method in ("integrated", "news", "deletion"):
        last = sx.explain(model, data, method=method)
        for i, part in enumerate(data):
            alone = sx.explain(model, part, method=method)
            np.testing.assert_allclose(last.weights[i, :, : len(part)], alone.weights, atol=1e-12)
            np.testing.assert_allclose(last.remainder[i], alone.remainder, atol=1e-12)
