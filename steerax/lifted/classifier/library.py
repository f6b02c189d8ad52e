"""The distinct tests of a context on data: columns equal up to complement are one, and constants are dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt

from .contexts import Context
from .heads import Shape, columns, number_of_tests, tests_of
from .kernels import packed
from .problem import Tree


@dataclass(frozen=True, eq=False)
class Library:
    """**Attributes:** `bits [m W]`, packed, each with bit 0 clear; `number [m]`, of a test in the order of `heads.tests_of`, those without
    context first; `flipped [m]`, whether the column is the complement of the test; `repeats [m]`, how many tests have this
    column; `base`, how many columns are of tests without context."""

    bits: UInt[np.ndarray, "m W"]
    number: Int[np.ndarray, " m"]
    flipped: Bool[np.ndarray, " m"]
    repeats: Int[np.ndarray, " m"]
    base: int

    @property
    def bytes(self) -> int:
        """Memory."""
        return self.bits.nbytes


def library(
    context: Context,
    shape: Shape,
    codes: Int[np.ndarray, "N n"],
    base: Library | None = None,
    tick: Callable[[], None] = lambda: None,
    room: Callable[[int], None] = lambda size: None,
) -> Library:
    """The tests that a context adds behind those of `base`, the library of no context; the first of equal ones in syntactic order.

    `room(size)` is told the bytes held so far and may raise.
    """
    known: dict[bytes, int] = {} if base is None else {row.tobytes(): i for i, row in enumerate(base.bits)}
    rows: list[bytes] = [] if base is None else list(known)
    number = [] if base is None else base.number.tolist()
    flipped = [] if base is None else base.flipped.tolist()
    repeats = [] if base is None else base.repeats.tolist()
    n_base, width = len(rows), (len(codes) + 63) // 64 * 8
    at = 0 if base is None else number_of_tests(Context("none"), shape)
    for part in columns(context, shape, codes, tick):
        flip = part[:, 0].copy()
        part = part ^ flip[:, None]
        words = packed(part)
        split = part.any(1)
        for i in np.flatnonzero(split).tolist():
            key = words[i].tobytes()
            place = known.setdefault(key, len(rows))
            if place == len(rows):
                rows.append(key)
                number.append(at + i)
                flipped.append(bool(flip[i]))
                repeats.append(0)
            repeats[place] += 1
        at += len(part)
        room(len(rows) * width)
    bits = np.frombuffer(b"".join(rows), np.uint64).reshape(len(rows), width // 8).copy()
    own = len(rows) if base is None else n_base
    return Library(bits, np.array(number, np.int64), np.array(flipped, bool), np.array(repeats, np.int64), own)


def as_heads(tree: Any, of: Library, context: Context, shape: Shape) -> Tree:
    """A tree of columns of a library as one of heads."""
    heads = tests_of(Context("none"), shape)
    if context.kind != "none":
        heads = [*heads, *tests_of(context, shape)]

    def turn(tree: Any) -> Tree:
        if not isinstance(tree, tuple):
            return int(tree)
        f, yes, no = tree
        yes, no = turn(yes), turn(no)
        head = heads[of.number[f]]
        return (head, no, yes) if of.flipped[f] else (head, yes, no)

    return turn(tree)
