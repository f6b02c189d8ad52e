"""From the name of a source to training and held-out sequences."""

import json

import numpy as np
import pytest

from steerax._errors import ConfigurationError, DataError, ImpossibleTokenError
from steerax.experiments.compare.config import Config
from steerax.experiments.compare.sources import resolve


def test_rejects_data_without_anything_to_predict(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("token\na\n")
    with pytest.raises(DataError, match="no sequence has two tokens"):
        resolve(Config(source=str(path)))
    with pytest.raises(ConfigurationError, match="not a known source"):
        resolve(Config(source="three-cycle"))


def test_data_are_read_in_the_tokens_of_their_process_which_must_be_able_to_emit_them(tmp_path):
    ones = {"operators": [[[0.5, 0.0], [0.0, 0.0]], [[0.0, 0.5], [1.0, 0.0]]], "tokens": ["b", "a"]}  # even runs of a
    (tmp_path / "even.json").write_text(json.dumps(ones))
    (tmp_path / "good.txt").write_text("aabaab" * 40)
    (tmp_path / "bad.txt").write_text("babbab" * 40)
    (tmp_path / "ugly.txt").write_text("aacaab" * 40)
    of = lambda name: resolve(Config(str(tmp_path / f"{name}.txt"), process=str(tmp_path / "even.json"), length=8))
    good = of("good")
    assert (good.vocabulary.symbols, good.drawn) == (("b", "a"), False)
    np.testing.assert_array_equal(good.training[0][:6], [1, 1, 0, 1, 1, 0])
    with pytest.raises(ImpossibleTokenError):
        of("bad")
    with pytest.raises(DataError, match="'c'"):
        of("ugly")


def test_one_long_sequence_is_split_along_itself_and_pieces_keep_their_order(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("abcdefghij" * 30)
    source = resolve(Config(source=str(path), length=4, held_out=0.1))
    assert source.training.total + source.held_out.total == 300
    np.testing.assert_array_equal(source.held_out[0], [0, 1, 2, 3, 4])
    assert source.held_out.lengths.max() == 5
