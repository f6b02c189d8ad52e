"""Dual-filter layers on cases known by hand."""

import numpy as np

from steerax.data.sequences import Sequences
from steerax.experiments.compare.scores import dual_filter_scores
from steerax.inference.score import score_predictor
from steerax.models import random_hmm


def test_as_many_layers_as_tokens_score_like_the_filter_and_fewer_do_not(key):
    hmm = random_hmm(key, 3, 4)
    data = Sequences.from_arrays([np.array([0, 3, -1, 1, 2]), np.array([2, 1])])
    exact = score_predictor(hmm, data)
    np.testing.assert_allclose(dual_filter_scores(hmm, data, 5).log_likelihoods, exact.log_likelihoods, atol=1e-13)
    assert np.abs(dual_filter_scores(hmm, data, 1).log_likelihoods - exact.log_likelihoods).max() > 1e-4
