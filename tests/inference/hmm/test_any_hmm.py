"""Dual filter = forward filter = sum of an explanation, on whatever hidden Markov model hypothesis can think of.

Shapes come from a small set, so that the time goes into cases and not into compilation.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import oracles
import pytest

import steerax as sx

SHAPES = [(1, 1, 0), (1, 3, 1), (2, 1, 5), (3, 2, 5), (6, 4, 9)]
SETTINGS = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck), "derandomize": True}


@st.composite
def problems(draw):
    """A model and tokens that it can emit, some of them missing."""
    d, V, T = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mu, A, C = oracles.sparse_hmm(rng, d, V, draw(st.sampled_from([0.0, 0.3, 0.8])))
    special = draw(st.sampled_from(["none", "identity", "absorbing", "duplicate states", "permutation", "rare"]))
    if special == "identity":
        A = np.eye(d)
    elif special == "absorbing":
        A[-1] = np.eye(d)[-1]
    elif special == "duplicate states":
        C[:] = C[0]
        A[:] = A[0]
    elif special == "permutation":
        A = np.roll(np.eye(d), 1, axis=1)
    elif special == "rare" and V > 1:
        C = np.where(np.arange(V) == 0, 1e-12 * (1 + rng.random((d, 1))), C + 1e-3)
        C /= C.sum(1, keepdims=True)
    z = oracles.draw(rng, mu, A, C, T)
    missing = draw(st.sampled_from(["nothing", "some", "everything"]))
    if missing == "some":
        z[rng.random(T) < 0.3] = -1
    elif missing == "everything":
        z[:] = -1
    return mu, A, C, z


def all_routes_lead_to_the_filter(problem):
    mu, A, C, z = problem
    hmm = sx.HiddenMarkovModel(mu, A, C)
    states, q = oracles.loop_filter(mu, A, C, z)
    r = sx.filter(hmm, z)
    np.testing.assert_allclose(r.predicted, states, atol=1e-12)
    np.testing.assert_allclose(r.log_likelihood, np.log(q).sum(), atol=1e-9)
    s = sx.dual_filter(hmm, z)
    assert s.result == sx.RESULTS.successful
    np.testing.assert_allclose(s.predicted, states, atol=1e-12)
    e = sx.explain(hmm, z, "all", "state", method="control")
    np.testing.assert_allclose(e.prior + e.weights.sum(1), states, atol=1e-11)
    assert (np.asarray(e.weights)[:, z < 0] == 0).all()
    smoothed = sx.smooth(hmm, z).smoothed
    np.testing.assert_allclose(smoothed[-1:], r.filtered[-1:], atol=1e-12)
    np.testing.assert_allclose(r.filtered @ hmm.dense_transition, r.predicted[1:], atol=1e-12)
    np.testing.assert_allclose(smoothed.sum(-1), 1, atol=1e-12)
    return True


@pytest.mark.slow
@hypothesis.settings(max_examples=40, **SETTINGS)
@hypothesis.given(problems())
def test_all_routes_lead_to_the_filter(problem):
    assert all_routes_lead_to_the_filter(problem)


@pytest.mark.slow
@hypothesis.settings(max_examples=25, **SETTINGS)
@hypothesis.given(problems(), st.integers(0, 2**32 - 1))
def test_any_start_reaches_the_filter_in_as_many_layers_as_tokens(problem, seed):
    mu, A, C, z = problem
    hmm = sx.HiddenMarkovModel(mu, A, C)
    laws = np.random.default_rng(seed).dirichlet(np.full(len(mu), 0.3), size=len(z) + 1)
    s = sx.dual_filter(hmm, z, initial=laws)
    assert s.layers <= len(z) + 2
    np.testing.assert_allclose(s.predicted, sx.filter(hmm, z).predicted, atol=1e-11)


@pytest.mark.slow
@hypothesis.settings(max_examples=100, **SETTINGS)
@hypothesis.given(problems())
def test_all_routes_lead_to_the_filter_many_times(problem):
    assert all_routes_lead_to_the_filter(problem)


def test_what_a_rare_token_hides_in_single_precision_comes_back():
    """The second class falls below the precision at one token, and twenty likely ones bring its share to almost one."""
    C = np.array([[1e-35, 0.25, 0.75 - 1e-35], [1e-36, 0.75, 0.25 - 1e-36]], np.float32)
    model = sx.HiddenMarkovModel(np.array([0.999, 0.001], np.float32), np.eye(2, dtype=np.float32), C)
    z = np.array([0] + [1] * 20)
    mu, C = np.asarray(model.initial, np.longdouble), np.asarray(model.emission, np.longdouble)
    joint = mu * C[:, z].prod(1)  # neither class is ever left
    found = sx.filter(model, z)
    np.testing.assert_allclose(found.predicted[-1], (joint / joint.sum()).astype(float), rtol=1e-4)
    np.testing.assert_allclose(found.log_likelihood, float(np.log(joint.sum())), rtol=1e-5)
