"""From the name of a source to training and held-out sequences."""

import numpy as np
import pytest

from steerax._errors import ConfigurationError, DataError
from steerax.experiments.compare.config import Config
from steerax.experiments.compare.sources import resolve


def test_rejects_data_without_anything_to_predict(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("token\na\n")
    with pytest.raises(DataError, match="no sequence has two tokens"):
        resolve(Config(source=str(path)))
    with pytest.raises(ConfigurationError, match="not a known source"):
        resolve(Config(source="three-cycle"))


def test_one_long_sequence_is_split_along_itself_and_pieces_keep_their_order(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("abcdefghij" * 30)
    source = resolve(Config(source=str(path), length=4, held_out=0.1))
    assert source.training.total + source.held_out.total == 300
    np.testing.assert_array_equal(source.held_out[0], [0, 1, 2, 3, 4])
    assert source.held_out.lengths.max() == 5
