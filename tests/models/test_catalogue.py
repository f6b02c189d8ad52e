"""Processes by name and from files: the same as the functions and matrices that they stand for, or one sentence."""

import json

import numpy as np
import pytest

import steerax as sx
from steerax._errors import ConfigurationError, DataError, SteeraxError
from steerax.models.catalogue import PROCESSES, is_named, named_process
from steerax.models.matrices import read_process


@pytest.mark.parametrize("name", [name for name in PROCESSES if not name.startswith("random")])
def test_a_name_is_the_function_of_that_name(name):
    found, meant = named_process(name), getattr(sx.models, name.replace("-", "_"))()
    for a, b in zip(found.arrays, meant.arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("mess3(0.15, 0.6)", lambda: sx.models.mess3(0.15, 0.6)),
        ("mess3(alpha=0.6)", lambda: sx.models.mess3(alpha=0.6)),
        (" sns (0.5,q=0.3)", lambda: sx.models.sns(0.5, 0.3)),
        ("parentheses([1, 0.3, 0.2])", lambda: sx.models.parentheses([1, 0.3, 0.2])),
        ("random-hmm(3, 2, 4)", lambda: sx.models.random_hmm(3, 2, 4)),
    ],
)
def test_parameters_stand_in_brackets(text, meant):
    assert is_named(text)
    for a, b in zip(named_process(text).arrays, meant().arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "text",
    ["mess4", "mess3(", "mess3(0.1", "mess3(x)", "mess3(2, 3)", "mess3(1, 2, 3)", "mess3(y=1)", "mess3(nan)", "mess3()()",
     "mess3(__import__('os'))", "random-hmm", "coin('a')", "parentheses([2])", "two-cycle(0)", "mess3(*[1])", "mess3(**{})"],
)  # fmt: skip
def test_rejects_what_names_no_process(text):
    with pytest.raises(ConfigurationError) as error:
        named_process(text)
    assert "\n" not in str(error.value)


def written(path, record):
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_matrices_in_a_file_are_the_process(tmp_path):
    A, C = [[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5, 0], [0, 0.2, 0.8]]
    chain = read_process(written(tmp_path / "a.json", {"transition": A, "emission": C, "tokens": ["x", "y", "z"]}))
    np.testing.assert_allclose(chain.initial, [0.8, 0.2])  # the stationary distribution
    assert chain.vocabulary.symbols == ("x", "y", "z")
    started = read_process(written(tmp_path / "b.json", {"transition": A, "emission": C, "initial": [1, 0]}))
    np.testing.assert_array_equal(started.initial, [1, 0])
    even = sx.models.even()
    operators = read_process(written(tmp_path / "c.json", {"operators": np.asarray(even.operators).tolist()}))
    for a, b in zip(operators.arrays, even.arrays, strict=True):
        np.testing.assert_allclose(a, b)
    sx.save(even, tmp_path / "model")
    for a, b in zip(read_process(tmp_path / "model").arrays, even.arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "record",
    ["", "[1]", "{", {}, {"transition": [[1]]}, {"operators": [[[1.0]]], "emission": [[1]]}, {"operators": [[1, 2]]},
     {"operators": [[["a"]]]}, {"operators": [[[0.5]]]}, {"transition": [[1]], "emission": [[2]]}, {"transition": [], "emission": []},
     {"transition": [[1]], "emission": [[1]], "tokens": ["a", "b"]}, {"operators": [[[float("nan")]]]}, {"operators": None}],
)  # fmt: skip
def test_rejects_files_that_are_no_process(tmp_path, record):
    with pytest.raises(SteeraxError) as error:
        read_process(written(tmp_path / "p.json", record))
    assert "\n" not in str(error.value)


def test_rejects_models_that_are_no_process(tmp_path):
    sx.save(sx.GPT(sx.GPTConfig(3, 4, 1, 1, 4), key=0), tmp_path / "gpt")
    with pytest.raises(DataError, match="GPT"):
        read_process(tmp_path / "gpt")
    with pytest.raises(SteeraxError, match="nowhere"):
        read_process(tmp_path / "nowhere")
