"""The innermost loops of the search, over packed bits. All costs are integers."""

from typing import no_type_check

import numpy as np
from numba import njit
from numba.extending import intrinsic

HUGE = 2**62


@intrinsic
@no_type_check
def _popcount(typing_context, x):
    """Bits set in a word: one machine instruction."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return x(x), generate


@njit(cache=True, nogil=True)
@no_type_check
def singles(B, M, D, out):
    """The costs of every answer where a test holds, `[m K]`."""
    for f in range(B.shape[0]):
        for p in range(M.shape[0]):
            count = np.int64(0)
            for w in range(B.shape[1]):
                count += np.int64(_popcount(B[f, w] & M[p, w]))
            for k in range(D.shape[1]):
                out[f, k] += D[p, k] * count


@njit(cache=True, nogil=True)
@no_type_check
def pairs(B, M, D, single, total, roots, all_others, inside, outside, by_inside, by_outside):
    """For f in `roots` and all g < f: lowers inside[f], outside[f], the least cost of the two cells on either side of f, by g, and those of
    g, by f. With `all_others`: for f in `roots` and all g ≠ f, those of f only. `single [m K]`, costs of the tests' own cells."""
    W, P, K = B.shape[1], M.shape[0], D.shape[1]
    A = np.empty((P, W), np.uint64)
    counts = np.empty(P, np.int64)
    for f in roots:
        for p in range(P):
            for w in range(W):
                A[p, w] = B[f, w] & M[p, w]
        in_f, out_f, at_in, at_out = inside[f], outside[f], by_inside[f], by_outside[f]
        for g in range(len(B) if all_others else f):
            if g == f:
                continue
            for p in range(P):
                count = np.int64(0)
                for w in range(W):
                    count += np.int64(_popcount(A[p, w] & B[g, w]))
                counts[p] = count
            e11 = e10 = e01 = e00 = np.int64(HUGE)
            for k in range(K):
                c11 = np.int64(0)
                for p in range(P):
                    c11 += D[p, k] * counts[p]
                c10, c01 = single[f, k] - c11, single[g, k] - c11
                c00 = total[k] - c11 - c10 - c01
                e11, e10, e01, e00 = min(e11, c11), min(e10, c10), min(e01, c01), min(e00, c00)
            if e11 + e10 < in_f:
                in_f, at_in = e11 + e10, g
            if e01 + e00 < out_f:
                out_f, at_out = e01 + e00, g
            if not all_others:
                if e11 + e01 < inside[g]:
                    inside[g], by_inside[g] = e11 + e01, f
                if e10 + e00 < outside[g]:
                    outside[g], by_outside[g] = e10 + e00, f
        inside[f], outside[f], by_inside[f], by_outside[f] = in_f, out_f, at_in, at_out


@njit(cache=True, nogil=True)
@no_type_check
def floors(B, M, D, single, total, start, stop, price, v, u, inside, outside):
    """For f in start..stop−1 and all g < f: lowers inside[f], outside[f], inside[g], outside[g] to a bound of the two cells there.

    The last column of D, `single` and `total` is the weight, what rows cost at most. `v`, `u [m]` are the values of either side of each test
    with at most one more test: a cell is worth min(leaf, price) at least, and what either side it is part of is worth, less the
    weight of the rest of that side."""
    W, P, K = B.shape[1], M.shape[0], D.shape[1] - 1
    A = np.empty((P, W), np.uint64)
    counts = np.empty(P, np.int64)
    for f in range(start, stop):
        for p in range(P):
            for w in range(W):
                A[p, w] = B[f, w] & M[p, w]
        for g in range(f):
            for p in range(P):
                count = np.int64(0)
                for w in range(W):
                    count += np.int64(_popcount(A[p, w] & B[g, w]))
                counts[p] = count
            e11 = e10 = e01 = e00 = np.int64(price)
            c11 = c10 = c01 = c00 = np.int64(0)
            for k in range(K + 1):
                c11 = np.int64(0)
                for p in range(P):
                    c11 += D[p, k] * counts[p]
                c10, c01 = single[f, k] - c11, single[g, k] - c11
                c00 = total[k] - c11 - c10 - c01
                if k < K:
                    e11, e10, e01, e00 = min(e11, c11), min(e10, c10), min(e01, c01), min(e00, c00)
            e11 = max(e11, v[f] - c10, v[g] - c01)
            e10 = max(e10, v[f] - c11, u[g] - c00)
            e01 = max(e01, u[f] - c00, v[g] - c11)
            e00 = max(e00, u[f] - c01, u[g] - c10)
            inside[f], outside[f] = min(inside[f], e11 + e10), min(outside[f], e01 + e00)
            inside[g], outside[g] = min(inside[g], e11 + e01), min(outside[g], e10 + e00)


@njit(cache=True, nogil=True)
@no_type_check
def pairs_of_two(B, M, D, single, total, roots, all_others, inside, outside, by_inside, by_outside):
    """`pairs` for two masks and two answers, where the loops over them cost more than the bits."""
    W = B.shape[1]
    A0, A1 = np.empty(W, np.uint64), np.empty(W, np.uint64)
    d00, d01, d10, d11 = D[0, 0], D[0, 1], D[1, 0], D[1, 1]
    for f in roots:
        for w in range(W):
            A0[w], A1[w] = B[f, w] & M[0, w], B[f, w] & M[1, w]
        in_f, out_f, at_in, at_out = inside[f], outside[f], by_inside[f], by_outside[f]
        f0, f1 = single[f, 0], single[f, 1]
        rest0, rest1 = total[0] - f0, total[1] - f1
        for g in range(len(B) if all_others else f):
            if g == f:
                continue
            n0 = n1 = np.int64(0)
            for w in range(W):
                n0 += np.int64(_popcount(A0[w] & B[g, w]))
                n1 += np.int64(_popcount(A1[w] & B[g, w]))
            a0, a1 = d00 * n0 + d10 * n1, d01 * n0 + d11 * n1
            b0, b1 = single[g, 0] - a0, single[g, 1] - a1
            e11, e10 = min(a0, a1), min(f0 - a0, f1 - a1)
            e01, e00 = min(b0, b1), min(rest0 - b0, rest1 - b1)
            if e11 + e10 < in_f:
                in_f, at_in = e11 + e10, g
            if e01 + e00 < out_f:
                out_f, at_out = e01 + e00, g
            if not all_others:
                if e11 + e01 < inside[g]:
                    inside[g], by_inside[g] = e11 + e01, f
                if e10 + e00 < outside[g]:
                    outside[g], by_outside[g] = e10 + e00, f
        inside[f], outside[f], by_inside[f], by_outside[f] = in_f, out_f, at_in, at_out
