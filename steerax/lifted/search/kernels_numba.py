"""The last layer and its read-outs as compiled loops: the same numbers as `kernels_numpy.terminal`, many times faster.

Surviving (state, matrix) pairs are collected into *lanes*; the innermost loops run over the lanes, so that the
compiler turns them into vector instructions. Threads share nothing but the tables.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int, UInt
from numba import njit
from numba.extending import intrinsic

from .tables import Tables, Target

LANES = 128


@intrinsic
@no_type_check
def _popcount(typing_context, x):
    """Bits set in a word: one machine instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return x(x), generate


@njit(cache=True, nogil=True)
@no_type_check
def attend(X, cells, normal, C, Z, D):
    """D[d, s]: the code of the rounded mean over the best tokens of sequence s, for direction d."""
    N, n = X.shape
    x0, x1 = np.empty((n, N), np.int32), np.empty((n, N), np.int32)
    token = np.empty((n, N), np.int32)  # 1, x₀ + C and x₁ + C side by side in one integer: counts and sums at once
    best, total = np.empty(N, np.int32), np.empty(N, np.int32)
    for i in range(n):
        for s in range(N):
            a, b = cells[X[s, i], 0], cells[X[s, i], 1]
            x0[i, s], x1[i, s] = a, b
            token[i, s] = (1 << 20) | ((a + C) << 10) | (b + C)
    for d in range(len(normal)):
        q0, q1 = np.int32(normal[d, 0]), np.int32(normal[d, 1])
        for s in range(N):
            best[s] = q0 * x0[0, s] + q1 * x1[0, s]
            total[s] = token[0, s]
        for i in range(1, n):
            for s in range(N):
                v, b = q0 * x0[i, s] + q1 * x1[i, s], best[s]
                kept = np.int32(0) if v > b else total[s]
                added = token[i, s] if v >= b else np.int32(0)
                total[s] = kept + added
                best[s] = max(v, b)
        for s in range(N):
            count = total[s] >> 20
            z0 = (8 * (((total[s] >> 10) & 1023) - count * C) + count) // (2 * count) + 4 * C
            z1 = (8 * ((total[s] & 1023) - count * C) + count) // (2 * count) + 4 * C
            D[d, s] = z0 * Z + z1


@njit(cache=True, nogil=True)
@no_type_check
def separated(first, D, net, ZZ, count, A, mass):
    """A[g, d]: Σ over the means z of |net mass| of the sequences whose first token is cell number g."""
    A[:count] = 0
    for d in range(len(D)):
        for s in range(len(first)):
            g = first[s]
            before = mass[g * ZZ + D[d, s]]
            mass[g * ZZ + D[d, s]] = before + net[s]
            A[g, d] += abs(before + net[s]) - abs(before)
        for s in range(len(first)):
            mass[first[s] * ZZ + D[d, s]] = 0


@njit(cache=True, nogil=True)
@no_type_check
def _fill_lane(T, y_cells, z, move, side, C, lane):
    """Thermometer masks {y ≥ v} of one lane, for every row of V; T is [row, threshold, word·LANES + lane]."""
    NR, levels, _ = T.shape
    words = T.shape[2] // LANES
    for k in range(NR):
        for v in range(levels):
            for w in range(words):
                T[k, v, w * LANES + lane] = 0
        for s in range(len(z)):
            y = min(max(y_cells[s] + move[k, z[s]], -C), C) + C
            T[k, y, (s >> 6) * LANES + lane] |= np.uint64(1) << np.uint64(s & 63)
        for v in range(side - 2, -1, -1):
            for w in range(words):
                T[k, v, w * LANES + lane] |= T[k, v + 1, w * LANES + lane]


@njit(cache=True, nogil=True)
@no_type_check
def _count_errors(a, target, wrong, best):
    """best[l] = min(best[l], errors of the labels a, errors of their complement) in every lane."""
    word, multiple, valid, label, total, _ = target
    if len(word) == 1 and multiple[0] == 1:
        y, m = label[0], valid[0]
        for l in range(LANES):
            e = np.int64(_popcount((a[l] ^ y) & m))
            best[l] = min(best[l], e, total - e)
        return
    wrong[:] = 0
    for j in range(len(word)):
        y, m, offset = label[j], valid[j], word[j] * LANES
        for l in range(LANES):
            wrong[l] += multiple[j] * np.int64(_popcount((a[offset + l] ^ y) & m))
    for l in range(LANES):
        best[l] = min(best[l], wrong[l], total - wrong[l])


@njit(cache=True, nogil=True)
@no_type_check
def _combine(T0, T1, k, m, t, W, sign, everything, a):
    """a = {y₀ ± y₁ ≥ threshold number t} as a union over v of {y₀ ≥ v} ∩ {y₁ ≥ t - v}, or of y₁ ≤ ..."""
    a[:] = 0
    for v in range(max(0, t - W), min(W, t) + 1):
        left = T0[k, v]
        if sign > 0:
            right = T1[m, t - v]
            for l in range(len(a)):
                a[l] |= left[l] & right[l]
        else:  # {W - y₁ ≥ u} is the complement of {y₁ ≥ W - u + 1}
            right = T1[m, W - (t - v) + 1]
            for l in range(len(a)):
                a[l] |= left[l] & ~right[l]


@njit(cache=True, nogil=True)
@no_type_check
def _try_readouts(T0, T1, readouts, W, target, a, wrong, best):
    """The fewest errors in every lane over both rows of V, all directions, thresholds and complements."""
    NR = len(T0)
    for w in range(len(readouts)):
        w0, w1 = readouts[w, 0], readouts[w, 1]
        if w0 == 0 or w1 == 0:
            for k in range(NR):
                for v in range(1, W + 1):
                    _count_errors(T0[k, v] if w1 == 0 else T1[k, v], target, wrong, best)
            continue
        for k in range(NR):
            for m in range(NR):
                for t in range(1, 2 * W + 1):
                    _combine(T0, T1, k, m, t, W, w1, 0, a)
                    _count_errors(a, target, wrong, best)


@njit(cache=True, nogil=True)
@no_type_check
def _search_last_layer(states, direction, normal, cells, move, readouts, C, net, target, words, upper, bound, values):
    """values[p] = min(upper, fewest errors of one more layer on state p); returns the pairs (state, B) tried."""
    P, N, _ = states.shape
    side, Z, total, constant = 2 * C + 1, 8 * C + 1, target[4], target[5]
    W, ZZ, NR, ND, G = 2 * C, Z * Z, len(move), len(normal), len(cells)
    D = np.empty((ND, N), np.int32)
    A, mass = np.empty((G, ND), np.int64), np.zeros(G * ZZ, np.int64)
    number, first, cell = np.full(G, -1, np.int64), np.empty(N, np.int64), np.empty(G, np.int64)
    T0, T1 = np.zeros((NR, W + 2, words * LANES), np.uint64), np.zeros((NR, W + 2, words * LANES), np.uint64)
    a, wrong, best = np.empty(words * LANES, np.uint64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    owner, z = np.empty(LANES, np.int64), np.empty(N, np.int64)
    x0, x1 = np.empty(N, np.int64), np.empty(N, np.int64)
    lane = tried = 0
    for p in range(P):
        X = states[p]
        attend(X, cells, normal, C, Z, D)
        count = 0
        for s in range(N):
            c = X[s, 0]
            x0[s], x1[s] = cells[c, 0], cells[c, 1]
            if number[c] < 0:
                number[c] = count
                cell[count] = c
                count += 1
            first[s] = number[c]
        for g in range(count):
            number[cell[g]] = -1
        if bound:
            separated(first, D, net, ZZ, count, A, mass)
        for b in range(len(direction)):
            if bound:
                kept = 0
                for g in range(count):
                    kept += A[g, direction[b, cell[g]]]
                if (total - kept) // 2 >= upper:
                    continue
            for s in range(N):
                z[s] = D[direction[b, X[s, 0]], s]
            _fill_lane(T0, x0, z, move, side, C, lane)
            _fill_lane(T1, x1, z, move, side, C, lane)
            owner[lane] = p
            lane += 1
            tried += 1
            if lane == LANES:
                best[:] = constant
                _try_readouts(T0, T1, readouts, W, target, a, wrong, best)
                for l in range(lane):
                    values[owner[l]] = min(values[owner[l]], best[l])
                lane = 0
    if lane:
        best[:] = constant
        _try_readouts(T0, T1, readouts, W, target, a, wrong, best)
        for l in range(lane):
            values[owner[l]] = min(values[owner[l]], best[l])
    return tried


def terminal(
    states: UInt[np.ndarray, "P N n"], tables: Tables, target: Target, upper: int, bound: bool, workers: int
) -> tuple[Int[np.ndarray, "P"], int]:
    """As `kernels_numpy.terminal`, on several threads."""
    values = np.full(len(states), upper, np.int64)
    items = (target.word, target.multiple, target.valid, target.label, target.total, target.constant)

    def work(part: slice) -> int:
        return _search_last_layer(
            states[part], tables.direction, tables.normal, tables.cells, tables.move, tables.readouts, tables.levels,
            target.net, items, target.words, upper, bound, values[part],
        )  # fmt: skip

    edges = np.linspace(0, len(states), max(1, min(workers, len(states))) + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    if len(parts) == 1:
        return values, work(parts[0])
    with ThreadPoolExecutor(len(parts)) as pool:
        return values, sum(pool.map(work, parts))


@njit(cache=True, nogil=True)
@no_type_check
def _mark_readouts(T0, T1, readouts, W, lanes, a, marks):
    """Mark every set {w·y ≥ τ} of the first `lanes` lanes (one word each) as a truth table."""
    for w in range(len(readouts)):
        w0, w1 = readouts[w, 0], readouts[w, 1]
        for k in range(len(T0)):
            if w0 == 0 or w1 == 0:
                for v in range(1, W + 1):
                    row = T0[k, v] if w1 == 0 else T1[k, v]
                    for l in range(lanes):
                        marks[row[l]] = True
                continue
            for m in range(len(T1)):
                for t in range(1, 2 * W + 1):
                    _combine(T0, T1, k, m, t, W, w1, 0, a)
                    for l in range(lanes):
                        marks[a[l]] = True


@njit(cache=True, nogil=True)
@no_type_check
def mark_states(states, direction, normal, cells, move, readouts, C, marks):
    """`census.mark_states` for up to 64 sequences: distinct attended means fill the lanes."""
    N, side, Z, W, NR = states.shape[1], 2 * C + 1, 8 * C + 1, 2 * C, len(move)
    D = np.empty((len(normal), N), np.int32)
    T0, T1 = np.zeros((NR, W + 2, LANES), np.uint64), np.zeros((NR, W + 2, LANES), np.uint64)
    a, seen = np.empty(LANES, np.uint64), np.empty((len(direction), N), np.int64)
    x0, x1 = np.empty(N, np.int64), np.empty(N, np.int64)
    lane = 0
    for p in range(len(states)):
        X, distinct = states[p], 0
        attend(X, cells, normal, C, Z, D)
        for s in range(N):
            x0[s], x1[s] = cells[X[s, 0], 0], cells[X[s, 0], 1]
        for b in range(len(direction)):
            z = seen[distinct]
            for s in range(N):
                z[s] = D[direction[b, X[s, 0]], s]
            known = False
            for other in range(distinct):
                known = True
                for s in range(N):
                    if seen[other, s] != z[s]:
                        known = False
                        break
                if known:
                    break
            if known:
                continue
            distinct += 1
            _fill_lane(T0, x0, z, move, side, C, lane)
            _fill_lane(T1, x1, z, move, side, C, lane)
            lane += 1
            if lane == LANES:
                _mark_readouts(T0, T1, readouts, W, lane, a, marks)
                lane = 0
    _mark_readouts(T0, T1, readouts, W, lane, a, marks)


def mark_all(
    states: UInt[np.ndarray, "P N n"], tables: Tables, marks: Bool[np.ndarray, "F"], devices: int | None
) -> None:
    """`census.mark_states` on several threads; they only ever set marks, so they may share them."""
    parts = np.array_split(states, devices or os.cpu_count() or 1)
    marks[0] = True  # the constant labels

    def work(part: np.ndarray) -> None:
        mark_states(
            part, tables.direction, tables.normal, tables.cells, tables.move, tables.readouts, tables.levels, marks
        )

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts))
