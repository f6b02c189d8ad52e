"""Baselines and dual-filter layers on cases known by hand."""

import numpy as np
import pytest

from steerax.data.sequences import Sequences
from steerax.experiments.compare.scores import baseline_scores, bigram, dual_filter_scores, unigram
from steerax.inference.score import score_predictor
from steerax.models import random_hmm


def test_baselines_are_smoothed_frequencies():
    data = Sequences.from_arrays([np.array([0, 1, 0, -1, 1])])
    first, second = unigram(data, 3), bigram(data, 3)
    np.testing.assert_allclose(first, np.array([2.5, 2.5, 0.5]) / 5.5)
    np.testing.assert_allclose(second, (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) + first) / [[2], [2], [1]])


def test_the_first_token_is_not_scored_and_one_after_a_gap_is_scored_by_the_unigram():
    training = Sequences.from_arrays([np.array([0, 1, 1, 0, 0, 1])])
    data = Sequences.from_arrays([np.array([0, 1, -1, 1]), np.array([1, 0])])
    first, second = unigram(training, 2), bigram(training, 2)
    scores = baseline_scores(training, data, 2)
    expected = np.log([[1, second[0, 1], 1, first[1]], [1, second[1, 0], 1, 1]])
    np.testing.assert_allclose(scores["bigram"].log_likelihoods, expected, atol=1e-15)
    assert scores["unigram"].cross_entropy == pytest.approx(-(2 * np.log(first[1]) + np.log(first[0])) / 3)


def test_as_many_layers_as_tokens_score_like_the_filter_and_fewer_do_not(key):
    hmm = random_hmm(key, 3, 4)
    data = Sequences.from_arrays([np.array([0, 3, -1, 1, 2]), np.array([2, 1])])
    exact = score_predictor(hmm, data)
    np.testing.assert_allclose(dual_filter_scores(hmm, data, 5).log_likelihoods, exact.log_likelihoods, atol=1e-13)
    assert np.abs(dual_filter_scores(hmm, data, 1).log_likelihoods - exact.log_likelihoods).max() > 1e-4
