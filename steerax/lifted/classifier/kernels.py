r"""The best second test behind every first one, over all pairs, by bit masks with one bit a row.

For tests $f,g$ and an answer $k$ the cost of the cell $f\wedge g$ is $\sum_pD_{pk}\,|f\wedge g\wedge m_p|$, where rows of equal cost
share a mask $m_p$ (`Planes`); the other three cells follow by subtraction. So two layers and the read-out are eliminated in
one pass over the pairs.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt

from . import loops
from .loops import HUGE

SLICE = 0.02  # seconds between two looks at the clock


class Planes(NamedTuple):
    """Costs of rows as sums over masks: the cost of answering k in a set of rows is Σ_p values[p, k]·|set ∧ masks[p]|.

    **Attributes:** `masks [P N]`; `values [P K]`.
    """

    masks: Bool[np.ndarray, "P N"]
    values: Int[np.ndarray, "P K"]


def planes_of(costs: Int[np.ndarray, "N K"]) -> Planes:
    """The fewest masks among three ways: one for each distinct row of costs; one for each bit of the factor of each primitive
    row; one for each bit of each answer."""
    rows, of = np.unique(costs, axis=0, return_inverse=True)
    factor = np.gcd.reduce(costs, axis=1)
    primitive, kind = np.unique(costs // np.maximum(factor, 1)[:, None], axis=0, return_inverse=True)
    distinct = [(of.ravel() == i, row) for i, row in enumerate(rows) if row.any()]
    ways = [distinct]
    if len(distinct) > 8:
        ways.append(
            [
                ((kind.ravel() == i) & (factor >> b & 1 == 1), row << b)
                for i, row in enumerate(primitive)
                if row.any()
                for b in range(int(factor[kind.ravel() == i].max()).bit_length())
            ]
        )
        units = np.eye(costs.shape[1], dtype=np.int64)
        ways.append(
            [
                (costs[:, k] >> b & 1 == 1, unit << b)
                for k, unit in enumerate(units)
                for b in range(int(costs[:, k].max()).bit_length())
            ]
        )
    masks, values = zip(*min(ways, key=len), strict=True) if distinct else ((), ())
    shape = (len(masks), costs.shape[1])
    return Planes(np.array(masks, bool).reshape(len(masks), len(costs)), np.array(values, np.int64).reshape(shape))


def packed(bits: Bool[np.ndarray, "m N"]) -> UInt[np.ndarray, "m W"]:
    """Rows of bits as 64-bit words."""
    m, N = bits.shape
    words = np.zeros((m, (N + 63) // 64 * 8), np.uint8)
    words[:, : (N + 7) // 8] = np.packbits(bits, axis=1, bitorder="little")
    return words.view(np.uint64)


def unpacked(words: UInt[np.ndarray, "m W"], N: int) -> Bool[np.ndarray, "m N"]:
    """The bits of `packed`."""
    return np.unpackbits(words.view(np.uint8), axis=1, count=N, bitorder="little").astype(bool)


class Sides(NamedTuple):
    """Of every first test: the least cost of either side after one more test, and that test; ties to the smaller number."""

    inside: Int[np.ndarray, " m"]
    outside: Int[np.ndarray, " m"]
    by_inside: Int[np.ndarray, " m"]
    by_outside: Int[np.ndarray, " m"]

    @classmethod
    def empty(cls, m: int) -> "Sides":
        """Nothing tried yet."""
        return cls(*(np.full(m, HUGE) for _ in range(2)), *(np.full(m, m) for _ in range(2)))

    @property
    def least(self) -> Int[np.ndarray, "2 m"]:
        """The least costs of both sides."""
        return np.stack(self[:2])

    def merge(self, other: "Sides") -> None:
        """The better of two, in place."""
        for value, by, new, by_new in ((self[0], self[2], other[0], other[2]), (self[1], self[3], other[1], other[3])):
            better = (new < value) | ((new == value) & (by_new < by))
            value[better], by[better] = new[better], by_new[better]


def work_of(m: int, start: int, words: int, masks: int) -> float:
    """Seconds that `pairs` takes on one core, roughly; measured on a machine with vector instructions for counting bits."""
    return (m * m - start * start) / 2 * (8e-9 + masks * (2e-9 + words * 3e-10))


def singles(
    B: UInt[np.ndarray, "m W"], M: UInt[np.ndarray, "P W"], D: Int[np.ndarray, "P K"]
) -> Int[np.ndarray, "m K"]:
    """The cost of every answer on the rows of every test."""
    out = np.zeros((len(B), D.shape[1]), np.int64)
    loops.singles(B, M, D, out)
    return out


class Costed(NamedTuple):
    """Tests with what their cells cost.

    **Attributes:** `bits [m W]` and `masks [P W]`, packed; `values [P K]`; `single [m K]`, costs on the rows of a test; `total [K]`.
    """

    bits: UInt[np.ndarray, "m W"]
    masks: UInt[np.ndarray, "P W"]
    values: Int[np.ndarray, "P K"]
    single: Int[np.ndarray, "m K"]
    total: Int[np.ndarray, " K"]

    @property
    def weights(self) -> Int[np.ndarray, " P"]:
        """What a row of each mask costs at most."""
        return self.values.max(1, initial=0)

    @classmethod
    def create(
        cls, bits: UInt[np.ndarray, "m W"], masks: UInt[np.ndarray, "P W"], values: Int[np.ndarray, "P K"]
    ) -> "Costed":
        """Count the singles."""
        return cls(
            bits, masks, values, singles(bits, masks, values), singles(_everything(bits.shape[1]), masks, values)[0]
        )

    @property
    def leaves(self) -> Int[np.ndarray, "2 m"]:
        """The least cost of one answer on either side of every test."""
        return np.stack([self.single.min(1), (self.total[None, :] - self.single).min(1)])


def pairs(
    tests: Costed,
    known: Sides,
    start: int = 0,
    pool: Executor | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Try all pairs of which at least one test has a number ≥ `start`, and lower what is `known`.

    It works in the threads of `pool` if there is one; `tick` is called many times a second and may raise, in which case `known` holds
    what has been tried.
    """

    def run(part: tuple[int, int]) -> Sides:
        own = Sides.empty(len(tests.bits))
        _loop(tests)(*tests, np.arange(*part), False, *own)
        return own

    for own in _in_parts(run, tests, start, pool, tick):
        known.merge(own)


def _in_parts(
    run: Callable[[tuple[int, int]], Any], tests: Costed, start: int, pool: Executor | None, tick: Callable[[], None]
) -> Iterator[Any]:
    """`run` on first tests start..m−1 in parts of about `SLICE` seconds, a few of them side by side."""
    m, (P, W) = len(tests.bits), tests.masks.shape
    edges, f = [start], start
    while f < m:
        f = min(m, f + max(1, int(SLICE / max(work_of(f + 1, f, W, P), 1e-9))))
        edges.append(f)
    parts, width = list(pairwise(edges)), 1 if pool is None else 4
    for i in range(0, len(parts), width):
        tick()
        group = parts[i : i + width]
        yield from map(run, group) if pool is None or len(group) == 1 else pool.map(run, group)


def floors(
    tests: Costed,
    values: tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]],
    price: int,
    known: Int[np.ndarray, "2 m"],
    start: int = 0,
    pool: Executor | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Lower bounds of the two cells on either side of every test behind a second one, over all pairs as in `pairs`.

    `values`, of either side of each test with at most one more test; `known` is lowered.
    """
    weight = tests.weights[:, None]
    heavy = singles(tests.bits, tests.masks, weight), singles(_everything(tests.bits.shape[1]), tests.masks, weight)[0]
    D, single, total = (
        np.concatenate(pair, -1) for pair in ((tests.values, weight), (tests.single, heavy[0]), (tests.total, heavy[1]))
    )

    def run(part: tuple[int, int]) -> np.ndarray:
        own = np.full((2, len(tests.bits)), HUGE)
        loops.floors(tests.bits, tests.masks, D, single, total, *part, price, *values, *own)
        return own

    for own in _in_parts(run, tests, start, pool, tick):
        np.minimum(known, own, out=known)


def _everything(words: int) -> UInt[np.ndarray, "1 W"]:
    return np.full((1, words), 2**64 - 1, np.uint64)


def _loop(tests: Costed) -> Callable[..., None]:
    return loops.pairs_of_two if tests.values.shape == (2, 2) else loops.pairs


def rows(tests: Costed, roots: Int[np.ndarray, " r"], known: Sides, tick: Callable[[], None] = lambda: None) -> None:
    """The same as `pairs` for a few first tests, with every second one."""
    m, (P, W) = len(tests.bits), tests.masks.shape
    size = max(1, int(SLICE / max(2 * work_of(m, m - 1, W, P), 1e-9)))
    for i in range(0, len(roots), size):
        tick()
        _loop(tests)(*tests, roots[i : i + size], True, *known)


def compile_kernels() -> None:
    """Make the loops ready; they are kept on disk, so that this takes time once per installation."""
    words, numbers = np.zeros((2, 1), np.uint64), np.zeros((2, 2), np.int64)
    tests = Costed.create(words, words, numbers)
    for loop in (loops.pairs, loops.pairs_of_two):
        loop(*tests, np.arange(2), False, *Sides.empty(2))
    floors(tests, (numbers[0], numbers[0]), 0, numbers.copy())
