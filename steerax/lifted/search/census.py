r"""The census: every Boolean function of n bits that a class computes.

The class does not depend on the labels, so one pass marks all truth tables that occur. Afterwards the value of *any*
distribution of inputs and labels is one minimum over a list, $V(p)=\min_f\langle p,\ell_f\rangle$: an infimum of linear functions,
hence concave, positively homogeneous and Lipschitz in total variation.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from ..._bounds import COUNT, bounded
from ..._errors import ConfigurationError
from ..problem.r1 import R1
from ..problem.tasks import all_strings, parity
from .expand import expand
from .kernels_numpy import attended, coordinates
from .tables import Reductions, Tables, build_tables, build_target, closed_under_swap, pack

LARGEST = 4  # bits: 2^16 truth tables; five bits would need 2^32


@dataclass(frozen=True, eq=False)
class Census:
    """The functions a class computes. String s has bit i equal to (s >> i) & 1; function f has the value (f >> s) & 1.

    **Attributes:** `n` bits; `depth`; `functions [F]`, their truth tables as integers, ascending; `states`, distinct
    states before the last layer.
    """

    n: int
    depth: int
    functions: UInt[np.ndarray, "F"]
    states: int

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def missing(self) -> UInt[np.ndarray, "M"]:
        """The truth tables that no network of the class computes."""
        return np.setdiff1d(np.arange(2 ** (2**self.n), dtype=np.uint64), self.functions)

    @property
    def values(self) -> Bool[np.ndarray, "F N"]:
        """Every function at every string."""
        return (self.functions[:, None] >> np.arange(2**self.n, dtype=np.uint64)) & np.uint64(1) == 1

    def risks(self, p: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "F"]:
        """The probability that each function is wrong under a distribution p of (string, label)."""
        if p.shape != (2**self.n, 2) or p.min() < 0:
            raise ConfigurationError(f"A distribution of strings and labels is an array [{2**self.n} 2] of masses ≥ 0.")
        return p[:, 1].sum() + self.values @ (p[:, 0] - p[:, 1])

    def value(self, p: Float[np.ndarray, "N 2"]) -> float:
        """V(p): the smallest risk in the class."""
        return float(self.risks(p).min())

    def distance(self, function: int) -> int:
        """The fewest strings at which some function of the class differs from this one."""
        return int(np.bitwise_count(self.functions ^ np.uint64(function)).min())


@bounded(n=COUNT, depth=COUNT, devices=COUNT)
def census(n: int, depth: int, devices: int | None = None) -> Census:
    """Every Boolean function of n ≤ 4 bits that class R1 computes with `depth` ≤ 2 layers.

    Depth 2 on four bits takes about half a minute on two cores. Raises `ConfigurationError` beyond that.
    """
    if not 1 <= n <= LARGEST or not 1 <= depth <= 2:
        raise ConfigurationError(f"n={n}, depth={depth}: the census covers 1 to {LARGEST} bits and 1 or 2 layers.")
    model, strings = R1(n), all_strings(n)
    tables = build_tables(model, Reductions())
    states = model.codes(model.embedding)[np.arange(n), strings].astype(np.uint8)[None]
    if depth == 2:
        target = build_target(parity(n))  # labels play no part: only the states of the wave are used
        states = expand(states[0], tables, target, Reductions(collision=False), closed_under_swap(model)).states
    marks = np.zeros(2 ** (2**n), bool)
    if depth == 1:
        mark_states(states, tables, marks)
    else:
        from .kernels_numba import mark_all

        mark_all(states, tables, marks, devices)
    marks |= marks[::-1]  # the complement of every read-out
    return Census(n, depth, np.flatnonzero(marks).astype(np.uint64), len(states))


def mark_states(states: UInt[np.ndarray, "P N n"], tables: Tables, marks: Bool[np.ndarray, "F"]) -> None:
    """Mark the truth table of every last layer and read-out on every state, up to complements."""
    W = 2 * tables.levels
    for X, z in zip(states, attended(states, tables), strict=True):
        each = np.unique(z[tables.direction[:, X[:, 0]], np.arange(len(X))], axis=0)  # [b N]
        y0, y1 = coordinates(np.broadcast_to(X, (len(each), *X.shape)), each, tables)
        for w0, w1 in tables.readouts:
            score = w0 * y0[:, :, None] + w1 * y1[:, None, :]
            for threshold in range(-W, 2 * W + 2):
                marks[np.unique(pack(score >= threshold)).astype(np.int64)] = True


def uniform_distribution(labels: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N 2"]:
    """The uniform distribution of strings with deterministic labels."""
    p = np.zeros((len(labels), 2))
    p[np.arange(len(labels)), labels] = 1 / len(labels)
    return p
