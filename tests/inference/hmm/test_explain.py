"""Control weights: the exact decomposition, against the textbook backward passes."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.models import random_order_k

rng = np.random.default_rng(0)
MU, A, C = oracles.sparse_hmm(rng, 4, 5, 0.3)
HMM = sx.HiddenMarkovModel(MU, A, C)
Z = oracles.draw(rng, MU, A, C, 14)
Z[[2, 7]] = -1
PI, _ = oracles.loop_filter(MU, A, C, Z)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["next", "state", "own"])
def test_all_queries_agree_with_a_backward_pass_each(target):
    F = {"next": C, "state": np.eye(4), "own": rng.normal(size=(4, 2))}[target]
    prior, u = oracles.backward_controls(PI, MU, A, C, Z, F)
    e = sx.explain(HMM, Z, "all", F if target == "own" else target, "control")
    np.testing.assert_allclose(e.prior, prior, atol=1e-14)
    np.testing.assert_allclose(e.weights, -u, atol=1e-14)
    np.testing.assert_allclose(e.norms, np.abs(u).sum(-1), atol=1e-14)
    np.testing.assert_allclose(e.prior + e.weights.sum(1), PI @ F, atol=1e-14)


def test_a_few_queries_are_rows_of_all_of_them():
    everything = sx.explain(HMM, Z, "all", method="control")
    for queries in (-1, 0, [3, -2, 14]):
        e = sx.explain(HMM, Z, queries, method="control")
        times = np.atleast_1d(queries) % 15
        np.testing.assert_array_equal(e.queries, times)
        np.testing.assert_allclose(e.weights, everything.weights[times], atol=1e-14)
        np.testing.assert_allclose(e.prior, everything.prior[times], atol=1e-14)
        np.testing.assert_allclose(e.norms, everything.norms[times], atol=1e-14)


def test_norms_alone_and_single_precision():
    full = sx.explain(HMM, Z, "all", "state", "control")
    norms = sx.explain_norms(HMM, Z)
    assert norms.weights is None
    np.testing.assert_allclose(norms.norms, full.norms, atol=1e-15)
    half = sx.explain(HMM, Z, "all", "state", "control", dtype=jnp.float32)
    assert half.weights.dtype == half.norms.dtype == np.float32
    np.testing.assert_allclose(half.weights, full.weights, atol=1e-7)


@pytest.mark.slow
def test_a_batch_is_each_sequence_alone():
    data = sx.Sequences.from_arrays([Z, Z[:9]])
    last, everything = (sx.explain(HMM, data, queries, method="control") for queries in (-1, "all"))
    for i, part in enumerate(data):
        alone = sx.explain(HMM, part, method="control")
        assert last.queries[i] == len(part)
        np.testing.assert_allclose(last.weights[i, :, : len(part)], alone.weights, atol=1e-14)
        np.testing.assert_allclose(last.prior[i], alone.prior, atol=1e-14)
        np.testing.assert_allclose(everything.norms[i, len(part), : len(part)], alone.norms[0], atol=1e-14)
        assert (last.weights[i, :, len(part) :] == 0).all()


def test_two_cycles_need_control_only_where_the_token_could_have_been_another():
    hmm = sx.models.two_cycle(initial="stationary")
    z = hmm.sample(jax.random.key(1), 60)[1]
    norms = sx.explain_norms(hmm, z).norms
    certain = np.asarray(sx.filter(hmm, z).log_likelihoods) > -1e-12
    assert (np.asarray(norms)[:, certain] == 0).all()
    active = (np.asarray(norms) > 1e-12).any(0)
    assert active[np.flatnonzero(np.asarray(z))[0] :].any()


def test_order_k_models_are_explained_as_their_dense_form():
    hmm = random_order_k(jax.random.key(2), 2, 3, 2)
    z = hmm.sample(jax.random.key(3), 14)[1]
    dense = sx.HiddenMarkovModel(hmm.initial, hmm.transition.dense(), hmm.emission)
    np.testing.assert_allclose(
        sx.explain(hmm, z, "all", method="control").weights,
        sx.explain(dense, z, "all", method="control").weights,
        atol=1e-14,
    )
    np.testing.assert_allclose(
        sx.explain(hmm, z, method="control").weights, sx.explain(dense, z, method="control").weights, atol=1e-14
    )


def test_twenty_tokens_and_a_long_string_lose_no_digits():
    hmm = sx.models.random_hmm(jax.random.key(4), 8, 20)
    z = hmm.sample(jax.random.key(5), 10_000)[1]
    e = sx.explain(hmm, z, method="control")
    pi = sx.filter(hmm, z).predicted[-1]
    np.testing.assert_allclose(e.prior[0] + e.weights[0].sum(0), pi @ hmm.emission, atol=1e-12)


def test_explain_rejects_what_it_cannot_answer():
    with pytest.raises(sx.ConfigurationError, match="Queries are times"):
        sx.explain(HMM, Z, 15)
    with pytest.raises(sx.DataError, match="target has shape"):
        sx.explain(HMM, Z, target=np.ones((3, 1)))
    with pytest.raises(sx.ConfigurationError, match="target="):
        sx.explain(HMM, Z, target="attention")
    with pytest.raises(sx.ConfigurationError, match="several sequences"):
        sx.explain(HMM, sx.Sequences.from_arrays([Z]), 3)
    with pytest.raises(sx.ImpossibleTokenError):
        sx.explain(sx.models.two_cycle(), np.array([1, 1]))
