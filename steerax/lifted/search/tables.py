r"""What the search looks up: direction classes, rounded moves, labels as bit masks. Built once per problem.

**Direction classes.** A query at $x$ sees the other tokens only through the argmax set of $(B^\top x)\cdot x_j$. Two
directions with the same signs on every difference of two cells have the same argmax set on every sequence, so the
hundreds of matrices fall into a few dozen classes of directions per query cell.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, UInt

from ..problem.problem import Problem
from ..problem.r1 import QUARTERS, R1


@dataclass(frozen=True)
class Reductions:
    """What the search may leave out without changing the value; every one can be switched off.

    **Attributes:** `gauge`, matrices with the same directions at every cell are one; `directions`, directions with the
    same argmax sets are one; `merging`, equal states are one; `multisets`, tokens behind the first are a multiset;
    `swap`, exchanging the two coordinates (used only where the class is closed under it); `collision`, the bound by
    sequences that can no longer be told apart; `terminal`, the bound of every last-layer matrix; `masks`, read-outs by
    bit masks instead of counting.
    """

    gauge: bool = True
    directions: bool = True
    merging: bool = True
    multisets: bool = True
    swap: bool = True
    collision: bool = True
    terminal: bool = True
    masks: bool = True


@dataclass(frozen=True)
class Tables:
    """A class R1 as look-ups.

    **Attributes:** `matrices [NB 2 2]` and, for each and every query cell, the class of its direction,
    `direction [NB G]`, with representatives `normal [ND 2]`; `cells [G 2]`; `move [NR Z²]`, what row k of V adds for
    each code of z = (z₀, z₁); `rows [NR 2]`; `directions [NW 2]` of the read-out; `levels` C.
    """

    matrices: Int[np.ndarray, "NB 2 2"]
    direction: Int[np.ndarray, "NB G"]
    normal: Int[np.ndarray, "ND 2"]
    cells: Int[np.ndarray, "G 2"]
    move: Int[np.ndarray, "NR ZZ"]
    rows: Int[np.ndarray, "NR 2"]
    readouts: Int[np.ndarray, "NW 2"]
    levels: int

    @property
    def side(self) -> int:
        """2C + 1."""
        return 2 * self.levels + 1

    @property
    def z_side(self) -> int:
        """Codes of a rounded mean: 8C + 1."""
        return 2 * QUARTERS * self.levels + 1

    def take(self, matrices: Int[np.ndarray, "K"]) -> "Tables":
        """The class with some of the matrices only."""
        return replace(self, matrices=self.matrices[matrices], direction=self.direction[matrices])


def build_tables(model: R1, reductions: Reductions) -> Tables:
    """The look-ups of a class."""
    C, cells = model.levels, model.cells
    q = np.einsum("ga,bac->bgc", cells, model.matrices)  # the direction each matrix gives each query cell
    if reductions.directions:
        q = q // np.maximum(np.gcd.reduce(q, axis=-1, keepdims=True), 1)
    distinct, direction = np.unique(q.reshape(-1, 2), axis=0, return_inverse=True)
    direction = direction.reshape(q.shape[:2])
    if reductions.directions:
        span = np.arange(-2 * C, 2 * C + 1)
        differences = np.stack(np.meshgrid(span, span, indexing="ij"), -1).reshape(-1, 2)
        signs = np.sign(distinct @ differences.T).astype(np.int8)
        _, first, classes = np.unique(signs, axis=0, return_index=True, return_inverse=True)
        distinct, direction = distinct[first], classes.ravel()[direction]
    matrices = model.matrices
    if reductions.gauge:
        direction, kept = np.unique(direction, axis=0, return_index=True)
        matrices = matrices[kept]
    z = np.arange(-QUARTERS * C, QUARTERS * C + 1)
    v0, v1 = model.rows[:, 0, None, None], model.rows[:, 1, None, None]
    move = (2 * (v0 * z[:, None] + v1 * z[None, :]) + QUARTERS) // (2 * QUARTERS)
    return Tables(
        matrices=matrices,
        direction=direction.astype(np.int16),
        normal=distinct,
        cells=cells,
        move=np.clip(move, -2 * C, 2 * C).reshape(len(model.rows), -1).astype(np.int8),
        rows=model.rows,
        readouts=model.directions,
        levels=C,
    )


@dataclass(frozen=True)
class Target:
    """Labels and weights as the search reads them.

    A set of sequences is a row of 64-bit words, one bit a sequence. Weights are split into binary digits, so that the
    weight of a set is a sum of popcounts: item j counts `multiple[j]` for every bit of word `word[j]` under `valid[j]`.

    **Attributes:** `net [N]`, weight with the sign of the label (+ for 1); `total`; `constant`, the errors of the better
    constant label (thresholds beyond all scores); `words`, the words a row has; `word`, `multiple`, `valid`, `label [J]`.
    """

    net: Int[np.ndarray, "N"]
    total: int
    constant: int
    words: int
    word: Int[np.ndarray, "J"]
    multiple: Int[np.ndarray, "J"]
    valid: UInt[np.ndarray, "J"]
    label: UInt[np.ndarray, "J"]


def build_target(problem: Problem) -> Target:
    """The labels and weights of a problem."""
    weights, labels = problem.weights, problem.labels
    label_words = pack(labels == 1)
    word, multiple, valid = [], [], []
    for digit in range(int(weights.max()).bit_length()):
        for w, bits in enumerate(pack((weights >> digit) & 1 == 1)):
            if bits:
                word.append(w)
                multiple.append(1 << digit)
                valid.append(bits)
    word = np.array(word)
    return Target(
        net=np.where(labels == 1, weights, -weights),
        total=problem.total,
        constant=min(problem.errors(np.zeros_like(labels)), problem.errors(np.ones_like(labels))),
        words=len(label_words),
        word=word,
        multiple=np.array(multiple),
        valid=np.array(valid, np.uint64),
        label=label_words[word],
    )


def pack(members: np.ndarray) -> np.ndarray:
    """Sets of sequences `[... N]` (bool) as 64-bit words `[... ceil(N/64)]`; sequence s is bit s mod 64 of s // 64."""
    missing = -members.shape[-1] % 64
    padded = np.pad(members, [(0, 0)] * (members.ndim - 1) + [(0, missing)])
    octets = np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little"))
    return octets.view("<u8").astype(np.uint64)


def closed_under_swap(model: R1) -> bool:
    """Whether exchanging the two coordinates maps the class of last layers and read-outs to itself (tested, not assumed)."""

    def as_set(choices: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(c) for c in choices.reshape(len(choices), -1).tolist()}

    def primitive(B: np.ndarray) -> np.ndarray:
        flat = B.reshape(len(B), -1)
        return flat // np.maximum(np.gcd.reduce(flat, axis=1, keepdims=True), 1)

    swapped_w = model.directions[:, ::-1].copy()
    swapped_w[(swapped_w == (-1, 1)).all(1)] = (1, -1)  # the complement of a threshold
    return (
        as_set(primitive(model.matrices)) == as_set(primitive(model.matrices[:, ::-1, ::-1]))
        and as_set(model.rows) == as_set(model.rows[:, ::-1])
        and as_set(model.directions) == as_set(swapped_w)
    )
