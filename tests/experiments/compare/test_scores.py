"""Scores, baselines and measures of agreement on cases known by hand."""

import numpy as np
import pytest

from steerax._errors import ConfigurationError, DataError
from steerax.data.sequences import Sequences
from steerax.experiments.compare.config import Config
from steerax.experiments.compare.scores import bigram, count_log_probabilities, score, unigram
from steerax.experiments.compare.sources import resolve
from steerax.experiments.compare.window import agree


def test_a_score_counts_observed_tokens_after_the_first():
    data = Sequences.from_arrays([np.array([0, 1, -1, 1]), np.array([1, 0])])
    log_p = np.log(np.array([[0.5, 0.1, 0.25], [0.125, 0.9, 0.9]]))
    found = score("x", "baseline", log_p, data)
    assert found.value == pytest.approx(-(np.log(0.5) + np.log(0.25) + np.log(0.125)) / 3)


def test_an_impossible_token_makes_the_score_infinite_and_the_error_unknown():
    data = Sequences.from_arrays([np.array([0, 1]), np.array([1, 0])])
    found = score("x", "baseline", np.array([[-np.inf], [-1.0]]), data)
    assert found.value == np.inf
    assert np.isnan(found.error)


def test_baselines_are_smoothed_frequencies():
    data = Sequences.from_arrays([np.array([0, 1, 0, -1, 1])])
    first, second = unigram(data, 3), bigram(data, 3)
    np.testing.assert_allclose(first, np.array([2.5, 2.5, 0.5]) / 5.5)
    np.testing.assert_allclose(second, (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) + first) / [[2], [2], [1]])


def test_a_token_after_a_gap_is_scored_by_the_unigram():
    data = Sequences.from_arrays([np.array([0, -1, 1])])
    first, second = np.array([0.25, 0.75]), np.array([[0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(count_log_probabilities(data, first, second)[0, 1], np.log(0.75))


def test_agreement_is_one_for_the_same_ranking_and_chance_for_unrelated_ones():
    rng = np.random.default_rng(0)
    a, b = (np.tril(rng.random((201, 200)), -1) for _ in range(2))
    same = agree("a", a, "a squared", a**2)
    assert (same.same_strongest, same.overlap, round(same.rank_correlation, 12)) == (1.0, 1.0, 1.0)
    other = agree("a", a, "b", b)
    assert abs(other.overlap - other.overlap_by_chance) < 0.03
    assert abs(other.rank_correlation) < 0.05
    assert agree("a", a, "-a", -a).correlation == pytest.approx(-1)


@pytest.mark.parametrize("option", ["states", "restarts", "length", "samples", "steps", "width"])
def test_rejects_options_that_cannot_work(option):
    with pytest.raises(ConfigurationError, match=option):
        Config(**{option: 0})


def test_rejects_data_without_anything_to_predict(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("token\na\n")
    with pytest.raises(DataError, match="no sequence has two tokens"):
        resolve(Config(source=str(path)))
    with pytest.raises(ConfigurationError, match="no known source"):
        resolve(Config(source="three-cycle"))


def test_one_long_sequence_is_split_along_itself_and_pieces_keep_their_order(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("abcdefghij" * 30)
    source = resolve(Config(source=str(path), length=4, held_out=0.1))
    assert source.training.total + source.held_out.total == 300
    np.testing.assert_array_equal(source.held_out[0], [0, 1, 2, 3, 4])
    assert source.held_out.lengths.max() == 5
