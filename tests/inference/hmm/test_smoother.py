"""Smoothed laws and likeliest paths against sums and maxima over all paths."""

import jax
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.models import random_order_k

RNG = np.random.default_rng(0)
MU, A, C = oracles.sparse_hmm(RNG, 3, 4, 0.3)
HMM = sx.HiddenMarkovModel(MU, A, C)
Z = oracles.draw(RNG, MU, A, C, 7)
Z[[2, 3]] = -1


def test_smoothed_distributions_are_sums_over_all_paths():
    law, _, path = oracles.smoother_by_enumeration(MU, A, C, Z)
    s = sx.smooth(HMM, Z)
    np.testing.assert_allclose(s.smoothed, law[:-1], atol=1e-14)
    np.testing.assert_allclose(s.log_likelihood, sx.filter(HMM, Z).log_likelihood)
    np.testing.assert_array_equal(sx.most_likely_states(HMM, Z), path)


def test_a_batch_is_each_sequence_alone():
    data = sx.Sequences.from_arrays([Z, Z[:4]])
    s, paths = sx.smooth(HMM, data), sx.most_likely_states(HMM, data)
    for i, part in enumerate(data):
        law, _, path = oracles.smoother_by_enumeration(MU, A, C, part)
        np.testing.assert_allclose(s.smoothed[i, : len(part)], law[:-1], atol=1e-14)
        np.testing.assert_array_equal(paths[i, : len(part)], path)
        assert (paths[i, len(part) :] == -1).all()


def test_order_k_models_are_smoothed_as_their_dense_form():
    hmm = random_order_k(jax.random.key(1), 2, 3, 2)
    z = hmm.sample(jax.random.key(2), 7)[1]
    dense = sx.HiddenMarkovModel(hmm.initial, hmm.transition.dense(), hmm.emission)
    np.testing.assert_allclose(sx.smooth(hmm, z).smoothed, sx.smooth(dense, z).smoothed, atol=1e-14)
    np.testing.assert_array_equal(sx.most_likely_states(hmm, z), sx.most_likely_states(dense, z))


def test_smoother_and_likeliest_path_reject_impossible_tokens():
    for verb in (sx.smooth, sx.most_likely_states):
        with pytest.raises(sx.ImpossibleTokenError):
            verb(sx.models.two_cycle(), np.array([1, 1]))
    assert sx.most_likely_states(HMM, np.array([], np.int32)).shape == (0,)
