"""Unigram and bigram on cases known by hand."""

import numpy as np
import pytest

from steerax.data.baselines import baseline_scores, bigram, unigram
from steerax.data.sequences import Sequences


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
