"""Ragged sequences with gaps keep every position in its place."""

import numpy as np
import pytest

from steerax._errors import DataError
from steerax.data.sequences import Sequences
from steerax.data.vocabulary import Vocabulary


def test_padding_and_gaps_are_told_apart():
    data = Sequences.from_arrays([np.array([0, -1, 2]), np.array([1]), np.array([], dtype=int)])
    np.testing.assert_array_equal(data.inside, [[True] * 3, [True, False, False], [False] * 3])
    np.testing.assert_array_equal(data.mask, [[True, False, True], [True, False, False], [False] * 3])
    assert (data.number, data.max_length, data.total, data.n_observed, data.n_tokens) == (3, 3, 4, 3, 3)
    assert data.has_gaps


def test_iteration_returns_what_was_put_in():
    parts = [np.array([0, -1, 2]), np.array([1, 1])]
    for part, back in zip(parts, Sequences.from_arrays(parts), strict=True):
        np.testing.assert_array_equal(part, back)


def test_observations_keep_their_channels_and_nan():
    data = Sequences.from_arrays([np.array([[1.0, np.nan], [np.nan, np.nan]]), np.ones((1, 2))])
    assert data.values.shape == (2, 2, 2)
    assert not data.is_tokens
    np.testing.assert_array_equal(data.mask, [[True, False], [True, False]])


def test_a_split_is_a_partition_and_repeats_with_its_seed():
    data = Sequences.from_arrays([np.array([i]) for i in range(10)])
    train, held_out = data.split(0.3, seed=4)
    assert sorted([*train.values[:, 0], *held_out.values[:, 0]]) == list(range(10))
    assert held_out.number == 3
    np.testing.assert_array_equal(data.split(0.3, seed=4)[1].values, held_out.values)


def test_cutting_keeps_the_order_and_every_token():
    data = Sequences.from_arrays([np.arange(7), np.arange(3)])
    pieces = data.cut(3)
    assert [len(p) for p in pieces] == [3, 3, 1, 3]
    np.testing.assert_array_equal(np.concatenate(list(pieces)), [*range(7), *range(3)])


def test_selecting_shortens_the_padding():
    data = Sequences.from_arrays([np.arange(7), np.arange(3)], names=["a", "b"])
    assert data.select([1]).values.shape == (1, 3)
    assert data.select([1]).names == ("b",)


def test_selecting_by_a_mask_is_selecting_by_its_numbers():
    data = Sequences.from_arrays([np.arange(n) for n in (4, 3, 2)], names=["a", "b", "c"])
    for mask in ([True, False, True], np.array([True, False, True])):
        assert data.select(mask).names == ("a", "c")
    assert data.select([-1, 0, 0]).names == ("c", "a", "a")


@pytest.mark.parametrize(
    "wrong",
    [
        [True, False],
        [True] * 4,
        [False] * 3,
        [],
        [3],
        [-4],
        [0.5],
        [1.0],
        ["a"],
        [None],
        [[0]],
        [[0], [0, 1]],
        0,
        None,
        "a",
        print,
    ],
    ids=str,
)
def test_what_selects_no_sequences_is_refused(wrong):
    data = Sequences.from_arrays([np.arange(n) for n in (4, 3, 2)])
    with pytest.raises(DataError, match=r"select"):
        data.select(wrong)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([], "no sequence"),
        ([np.array([0, -2])], "-2"),
        ([np.zeros((2, 2), int)], "shape"),
        ([np.array([1.0, np.inf])], "infinite"),
        ([np.ones((2, 1)), np.ones((2, 2))], "channels"),
        (np.array([0, 1]), "list of arrays"),
        ([np.array(["a"])], "not numbers"),
    ],
)
def test_rejects_unusable_arrays(arrays, words):
    with pytest.raises(DataError, match=words):
        Sequences.from_arrays(arrays)


def test_rejects_codes_outside_the_vocabulary():
    with pytest.raises(DataError, match="token 2 at position 1"):
        Sequences.from_arrays([np.array([0, 2])], Vocabulary(("a", "b")))


def test_rejects_a_split_of_one_sequence():
    with pytest.raises(DataError, match="cut it"):
        Sequences.from_arrays([np.arange(5)]).split(0.5)


def test_vocabulary_encodes_and_decodes():
    vocabulary = Vocabulary.collect(["10", "9", "2"])
    assert vocabulary.symbols == ("2", "9", "10")
    codes = vocabulary.encode(["10", None, "2"])
    assert vocabulary.decode(codes) == ["10", None, "2"]


def test_vocabulary_rejects_strangers_and_doubles():
    with pytest.raises(DataError, match="'c' at position 1"):
        Vocabulary(("a", "b")).encode(["a", "c"])
    with pytest.raises(DataError, match="twice"):
        Vocabulary(("a", "a"))
