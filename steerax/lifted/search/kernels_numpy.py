"""The kernels of the search in NumPy: the last layer and its read-outs, many states at a time.

A *state* is the whole data set after some layers: cell codes `[N n]`. Every function takes a batch of P states.
"""

import numpy as np
from jaxtyping import Int, UInt

from .tables import Tables, Target, pack

BLOCK = 1 << 21  # elements of the largest intermediate array


def attended(states: UInt[np.ndarray, "P N n"], tables: Tables) -> Int[np.ndarray, "P ND N"]:
    """The code of the rounded mean z that a query of each direction class finds in each sequence."""
    P, N, n = states.shape
    score = tables.normal @ tables.cells.T  # [ND G]
    z = np.empty((P, len(score), N), np.int32)
    block = max(1, BLOCK // (N * n * len(score)))
    for start in range(0, P, block):
        X = states[start : start + block]
        s = score[:, X].transpose(1, 0, 2, 3)  # [p ND N n]
        best = s == s.max(-1, keepdims=True)
        count = best.sum(-1)
        codes = []
        for a in (0, 1):
            total = np.einsum("pdsi,psi->pds", best, tables.cells[X, a], dtype=np.int64)
            codes.append((8 * total + count) // (2 * count) + 4 * tables.levels)  # ⌊4 mean + 1/2⌋, from 0
        z[start : start + block] = codes[0] * tables.z_side + codes[1]
    return z


def group_masses(
    keys: Int[np.ndarray, "*axes N"], net: Int[np.ndarray, "N"]
) -> tuple[Int[np.ndarray, "*axes N"], Int[np.ndarray, "*axes N"]]:
    """Sequences with equal keys form a group. Returns an order by key, and in that order |net mass| of the group at
    its last member, 0 at the others."""
    order = np.argsort(keys, axis=-1, kind="stable")
    ordered = np.take_along_axis(keys, order, -1)
    last = np.ones(keys.shape, bool)
    last[..., :-1] = ordered[..., 1:] != ordered[..., :-1]
    mass = np.cumsum(net[order], axis=-1)
    before = np.maximum.accumulate(np.where(last, np.arange(keys.shape[-1]), -1), axis=-1)  # last group end so far
    before = np.concatenate([np.full((*keys.shape[:-1], 1), -1), before[..., :-1]], axis=-1)
    ended = np.where(before >= 0, np.take_along_axis(mass, np.maximum(before, 0), -1), 0)
    return order, np.where(last, np.abs(mass - ended), 0)


def last_layer_bounds(
    states: UInt[np.ndarray, "P N n"], z: Int[np.ndarray, "P ND N"], tables: Tables, target: Target
) -> Int[np.ndarray, "P NB"]:
    r"""Errors that no V and no read-out can avoid once the last layer has the matrix B.

    Sequences with the same first token (cell $g$) and the same attended mean $z$ end alike, so
    $\text{errors}\ge\frac12\big(W-\sum_gA[g][\mathrm{dir}(B,g)]\big)$, $A[g][d]=\sum_z|\text{net mass}|$.
    """
    P = len(z)
    first = states[:, :, 0].astype(np.int64)
    order, mass = group_masses(first[:, None, :] * tables.z_side**2 + z, target.net)
    cell = np.take_along_axis(np.broadcast_to(first[:, None, :], z.shape), order, -1)
    ND, G = len(tables.normal), len(tables.cells)
    slot = (np.arange(P)[:, None, None] * ND + np.arange(ND)[None, :, None]) * G + cell
    A = np.bincount(slot.ravel(), mass.ravel(), P * ND * G).astype(np.int64).reshape(P, ND, G)
    kept = np.zeros((P, len(tables.direction)), np.int64)
    for g in np.unique(first):
        kept += A[:, tables.direction[:, g], g]
    return (target.total - kept) // 2


def terminal(
    states: UInt[np.ndarray, "P N n"], tables: Tables, target: Target, upper: int, bound: bool, masks: bool
) -> tuple[Int[np.ndarray, "P"], int]:
    """The fewest errors of one more layer and a read-out on each state, or `upper` if that is not fewer.

    Returns the values and the number of (state, B) pairs whose read-outs were tried.
    """
    values = np.full(len(states), upper, np.int64)
    z = attended(states, tables)
    if bound:
        p, b = np.nonzero(last_layer_bounds(states, z, tables, target) < upper)
    else:
        p, b = (i.ravel() for i in np.indices((len(states), len(tables.matrices))))
    best = _best_by_masks if masks else _best_by_counting
    width = len(tables.rows) ** 2 * (states.shape[1] if not masks else target.words)
    block = max(1, BLOCK // width)
    for start in range(0, len(p), block):
        pi, bi = p[start : start + block], b[start : start + block]
        y = coordinates(
            states[pi],
            np.take_along_axis(z[pi], tables.direction[bi[:, None], states[pi, :, 0]][:, None], 1)[:, 0],
            tables,
        )
        np.minimum.at(values, pi, best(*y, tables, target))
    return values, len(p)


def coordinates(
    states: UInt[np.ndarray, "L N n"], z: Int[np.ndarray, "L N"], tables: Tables
) -> tuple[Int[np.ndarray, "L NR N"], Int[np.ndarray, "L NR N"]]:
    """Both coordinates of the first token, from 0, after each row of V."""
    x = tables.cells[states[:, :, 0]]  # [L N 2]
    move = tables.move[:, z].transpose(1, 0, 2)
    C = tables.levels
    return tuple(np.clip(x[:, None, :, a] + move, -C, C) + C for a in (0, 1))  # pyright: ignore[reportReturnType]


def _best_by_masks(
    y0: Int[np.ndarray, "L NR N"], y1: Int[np.ndarray, "L NR N"], tables: Tables, target: Target
) -> Int[np.ndarray, "L"]:
    r"""The fewest errors over V and all read-outs, by thermometer masks $\{y\ge v\}$, one bit a sequence.

    $\{y_0+y_1\ge t\}=\bigcup_v\{y_0\ge v\}\cap\{y_1\ge t-v\}$; differences by $2C-y_1$.
    """
    W = 2 * tables.levels
    over = [[pack(y >= v) for v in range(W + 1)] for y in (y0, y1, W - y1)]  # each [L NR words]
    best = np.full(len(y0), target.constant, np.int64)

    def try_masks(a: np.ndarray) -> None:
        wrong = np.bitwise_count((a[..., target.word] ^ target.label) & target.valid) @ target.multiple
        wrong = wrong.reshape(len(best), -1)
        np.minimum(best, np.minimum(wrong.min(1), target.total - wrong.max(1)), out=best)

    for w0, w1 in tables.readouts:
        if w0 == 0 or w1 == 0:
            for v in range(1, W + 1):
                try_masks(over[0 if w1 == 0 else 1][v])
            continue
        second = over[1] if w1 > 0 else over[2]
        for t in range(1, 2 * W + 1):
            union = [over[0][v][:, :, None] & second[t - v][:, None, :] for v in range(max(0, t - W), min(W, t) + 1)]
            try_masks(np.bitwise_or.reduce(union))
    return best


def _best_by_counting(
    y0: Int[np.ndarray, "L NR N"], y1: Int[np.ndarray, "L NR N"], tables: Tables, target: Target
) -> Int[np.ndarray, "L"]:
    """The same number, sequence by sequence."""
    return np.array([min(e for *_, e in readout_errors(a, b, tables, target)) for a, b in zip(y0, y1, strict=True)])


def readout_errors(y0: Int[np.ndarray, "NR N"], y1: Int[np.ndarray, "NR N"], tables: Tables, target: Target):
    """For each read-out direction: (index, threshold, flipped, rows k and m of V, errors) of its best threshold."""
    C, net = tables.levels, target.net
    ones = int(net[net > 0].sum())
    for i, (w0, w1) in enumerate(tables.readouts):
        score = w0 * (y0[:, None, :] - C) + w1 * (y1[None, :, :] - C)  # [NR NR N]
        for threshold in range(-2 * C, 2 * C + 2):
            wrong = ones - (score >= threshold) @ net
            for flipped, errors in ((False, wrong), (True, target.total - wrong)):
                k, m = np.unravel_index(np.argmin(errors), errors.shape)
                yield i, threshold, flipped, int(k), int(m), int(errors[k, m])
