r"""Clouds of beliefs: row vectors with weights, merged where they coincide. Host arrays.

A token $z$ of probability $bT^zw>0$ moves a belief $b$, $bw=1$, to $bT^z/bT^zw$; for a hidden Markov model $T^z=\mathrm{diag}(C_z)A$
and $w=\mathbf 1$, and $b$ is a distribution on $d$ states. Many token strings lead to the same belief, so sums over all strings
become sums over few beliefs: exactly, whenever only finitely many beliefs are reachable.

Operators are one for each token: matrices `[d d]`, or functions from rows to rows that are products with matrices without
negative entries.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

_Operators = np.ndarray | Sequence[np.ndarray | Callable[[np.ndarray], np.ndarray]]
_ROOM = 64 * np.finfo(float).eps  # a sum that is a smaller share of its absolute terms is rounding


def distinct(beliefs: np.ndarray, tolerance: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """`(representatives [m d], index [n])` of beliefs `[n d]`, or of their logarithms, that agree when rounded to the
    tolerance."""
    rounded = np.where(np.isneginf(beliefs), -np.inf, np.round(beliefs / tolerance))
    _, first, index = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return beliefs[first], index.ravel()


def log_product(log_beliefs: np.ndarray, M: np.ndarray) -> np.ndarray:
    r"""$\log(e^bM)$ of rows $b$ `[n d]` and a matrix `[d k]` that is not negative; nothing that is positive becomes zero."""
    top = log_beliefs.max(axis=1, keepdims=True)
    shifted = log_beliefs - np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        log_M, out = np.log(M), np.log(np.exp(shifted) @ M)
        least = log_M[log_M > -np.inf].min(initial=0.0)
        far = ((shifted > -np.inf) & (shifted + least < -700)).any(axis=1)  # some product underflows
        if far.any():
            out[far] = np.logaddexp.reduce(np.stack([shifted[far, x, None] + log_M[x] for x in range(len(M))]), axis=0)
    return out + top


def merge(beliefs: np.ndarray, weights: np.ndarray, tolerance: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs `[n d]` that agree to the tolerance become one, weights `[n]` add up; zero weight is dropped.

    The merged belief is the weighted mean, so that sums of linear functions keep their value at any tolerance (a share of the
    largest entry where that is above one).
    """
    kept = weights > 0
    beliefs, weights = beliefs[kept], weights[kept]
    first, index = distinct(beliefs, tolerance * max(1.0, np.abs(beliefs).max(initial=0)))
    merged = np.bincount(index, weights, len(first))
    mean = np.zeros_like(first)
    np.add.at(mean, index, beliefs * weights[:, None])
    return mean / merged[:, None], merged


def moved_by(beliefs: Float[np.ndarray, "n d"], operators: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "n d"]:
    """Each belief times its own operator."""
    return np.einsum("ni,nij->nj", beliefs, operators)


def positive(beliefs: Float[np.ndarray, "n d"], operators: Float[np.ndarray, "V d d"], w) -> Float[np.ndarray, "n V"]:
    r"""$bT^zw$, the probabilities of tokens; exactly zero where they are no more than rounding of terms of both signs."""
    q, size = beliefs @ (operators @ w).T, np.abs(beliefs) @ (np.abs(operators) @ np.abs(w)).T
    return np.where(q > _ROOM * size, q, 0)


def _matrices(operators: _Operators) -> list[np.ndarray]:
    return [T for T in operators if isinstance(T, np.ndarray)]


def _has_signs(beliefs: np.ndarray, operators: _Operators) -> bool:
    return bool((beliefs < 0).any()) or any((T < 0).any() for T in _matrices(operators))


def children(beliefs: np.ndarray, operators: _Operators, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(next [V n d], q [n V])`: the belief after each token and the token's probability.

    Where a token is impossible its probability is exactly zero, and the belief moves as if nothing had been seen.
    """
    after = np.stack([beliefs @ T if isinstance(T, np.ndarray) else T(beliefs) for T in operators])
    q = after @ w  # [V n]
    if _has_signs(beliefs, operators):
        sizes = np.stack([np.abs(T) @ np.abs(w) for T in _matrices(operators)])  # [V d]
        q = np.where(q > _ROOM * (sizes @ np.abs(beliefs).T), q, 0)
    after = np.where(q[..., None] > 0, after, after.sum(0))
    return after / (after @ w)[..., None], q.T


def reachable(
    points: np.ndarray,
    operators: _Operators,
    w: np.ndarray,
    max_beliefs: int = 4096,
    tolerance: float = 1e-11,
    depth: int | None = None,
) -> tuple[np.ndarray, list[tuple[int, int, int, float]], bool]:
    """Every belief that tokens of positive probability lead to from `points` `[m d]`, of mass one.

    Two are one where their coordinates agree when rounded to a relative `tolerance`: as logarithms where none is negative, so
    that small probabilities count as much as large ones, and else as shares of the belief's largest entry.

    `(beliefs [n d], edges, closed)`: the given ones first, then in the order of discovery; edges (from, token, to, probability);
    and whether all were found. The search ends with the last level of at most `depth` tokens, or before the one that would
    bring more than `max_beliefs`.
    """
    signed = _has_signs(points, operators)
    index: tuple[dict[bytes, int], ...] = ({}, {})
    found: list[np.ndarray] = []
    edges: list[tuple[int, int, int, float]] = []

    def number(belief, names) -> int:
        # names on two grids, one between the other's lines: what two roundings separate on one is together on the other
        to = next((known[name] for known, name in zip(index, names, strict=True) if name in known), len(found))
        if to == len(found):
            found.append(belief)
        for known, name in zip(index, names, strict=True):
            known.setdefault(name, to)
        return to

    for belief, *names in zip(points, *_names(points, signed, tolerance), strict=True):
        number(belief, names)
    frontier = range(len(found))
    while len(frontier) and depth != 0:
        start, known = len(found), len(edges)
        after, q = children(np.stack([found[i] for i in frontier]), operators, w)
        named = [_names(part, signed, tolerance) for part in after]
        for row, at in enumerate(frontier):
            for z in np.flatnonzero(q[row] > 0):
                to = number(after[z, row], (named[z][0][row], named[z][1][row]))
                edges.append((at, int(z), to, float(q[row, z])))
            if len(found) > max_beliefs:
                return np.stack(found[:start]), edges[:known], False
        frontier = range(start, len(found))
        depth = None if depth is None else depth - 1
    return np.stack(found), edges, not len(frontier)


def _names(beliefs: np.ndarray, signed: bool, tolerance: float) -> tuple[list[bytes], list[bytes]]:
    """Rounded coordinates as bytes, on two grids."""
    with np.errstate(divide="ignore"):
        x = beliefs / np.abs(beliefs).max(1, keepdims=True) if signed else np.log(beliefs)
    scaled = np.where(np.isneginf(x), -np.inf, x / tolerance)
    return tuple([row.tobytes() for row in np.floor(scaled + shift) + 0.0] for shift in (0.5, 1.0))  # pyright: ignore[reportReturnType]
