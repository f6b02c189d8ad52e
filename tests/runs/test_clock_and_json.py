"""Small homes: the clock of parts and numbers as JSON."""

import dataclasses
import json
import time
from typing import NamedTuple

import numpy as np
import pytest

from steerax.runs.clock import Clock
from steerax.runs.json import plain


def test_a_clock_sums_parts_with_one_name_and_tells_when_each_starts():
    told = []
    clock = Clock(lambda n, name: told.append((n, name)))
    for name in ("a", "b", "a"):
        with clock(name):
            time.sleep(0.01)
    assert set(clock.seconds) == {"a", "b"}
    assert clock.seconds["a"] >= 0.02
    assert told == [(0, "a"), (1, "b"), (2, "a")]


def test_a_part_that_fails_is_timed_and_its_error_goes_on():
    clock = Clock()
    with pytest.raises(ValueError, match="x"), clock("a"):
        raise ValueError("x")
    assert "a" in clock.seconds


class Pair(NamedTuple):
    a: float
    b: np.ndarray


@dataclasses.dataclass
class Record:
    pair: Pair
    name: str


def test_plain_values_are_json_whatever_they_are_made_of():
    value = {1: Record(Pair(float("nan"), np.array([1.0, np.inf])), "x"), "n": (np.int64(3), np.bool_(True), None)}
    found = plain(value)
    assert found == {"1": {"pair": {"a": None, "b": [1.0, None]}, "name": "x"}, "n": [3, True, None]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
