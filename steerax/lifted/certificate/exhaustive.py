"""The fewest errors of one more layer and a read-out, by trying every one of them: no bound, no pruning.

Written for checks, apart from the search: it shares no line with it, works on single sequences where the search works
on bit masks, and counts errors of a read-out from the mass at each of its scores.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Int
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def _attend(x, matrix, out):
    N, n, _ = x.shape
    for s in range(N):
        q0 = x[s, 0, 0] * matrix[0, 0] + x[s, 0, 1] * matrix[1, 0]
        q1 = x[s, 0, 0] * matrix[0, 1] + x[s, 0, 1] * matrix[1, 1]
        best, count, sum0, sum1 = q0 * x[s, 0, 0] + q1 * x[s, 0, 1], 0, 0, 0
        for j in range(n):
            score = q0 * x[s, j, 0] + q1 * x[s, j, 1]
            if score > best:
                best, count, sum0, sum1 = score, 0, 0, 0
            if score == best:
                count, sum0, sum1 = count + 1, sum0 + x[s, j, 0], sum1 + x[s, j, 1]
        out[s, 0] = (8 * sum0 + count) // (2 * count)
        out[s, 1] = (8 * sum1 + count) // (2 * count)


@njit(cache=True, nogil=True)
@no_type_check
def _attended(x, matrices):
    """4 z of the first token of every sequence, for every matrix `[b N 2]`: four times the mean of the tokens of largest
    score, halves up."""
    means = np.empty((len(matrices), len(x), 2), np.int64)
    for b in range(len(matrices)):
        _attend(x, matrices[b], means[b])
    return means


@njit(cache=True, nogil=True)
@no_type_check
def _grouped(x, z, net, kinds, mass):
    """How many kinds of sequences there are: those of one first token and one attended mean move alike, whatever V is. Fills
    `kinds`, the first token and 4 z of each, and its `mass`."""
    K = 0
    for s in range(len(x)):
        k = 0
        while k < K and not (
            kinds[k, 0] == x[s, 0, 0]
            and kinds[k, 1] == x[s, 0, 1]
            and kinds[k, 2] == z[s, 0]
            and kinds[k, 3] == z[s, 1]
        ):
            k += 1
        if k == K:
            kinds[k, 0], kinds[k, 1], kinds[k, 2], kinds[k, 3], mass[k] = x[s, 0, 0], x[s, 0, 1], z[s, 0], z[s, 1], 0
            K += 1
        mass[k] += net[s]
    return K


@njit(cache=True, nogil=True)
@no_type_check
def _is_among(y, count, K):
    """Whether the first `K` entries of row `count` are those of an earlier row."""
    for r in range(count):
        k = 0
        while k < K and y[r, k] == y[count, k]:
            k += 1
        if k == K:
            return True
    return False


@njit(cache=True, nogil=True)
@no_type_check
def _from_above(at_score, most, least):
    """The extreme weights above a threshold, with those known so far: label 1 there, and label 0 there."""
    above = 0
    for score in range(len(at_score) - 1, -1, -1):
        above += at_score[score]
        most, least = max(most, above), min(least, above)
    return most, least


@njit(cache=True, nogil=True)
@no_type_check
def _fewest(x, means, rows, directions, net, ones, total, C):
    """The fewest errors behind one state `x [N n 2]`; `net`, weights with the sign of the label; `ones`, weight of label 1."""
    N, count, alone, of_sum, of_difference = len(x), np.zeros(2, np.int64), np.zeros(2, np.bool_), False, False
    for w in directions:  # the class has no others
        alone[0], alone[1] = alone[0] or w[1] == 0, alone[1] or w[0] == 0
        of_sum, of_difference = of_sum or w[0] * w[1] == 1, of_difference or w[0] * w[1] == -1
    kinds, mass = np.empty((N, 4), np.int64), np.empty(N, np.int64)
    y, at_sum = np.empty((2, len(rows), N), np.int32), np.empty(4 * C + 1, np.int64)
    at_difference = np.empty(4 * C + 1, np.int64)
    most, least = 0, 0  # weight of label 1 less that of label 0, where a read-out says 1
    for z in means:
        K = _grouped(x, z, net, kinds, mass)
        for a in range(2):
            count[a] = 0  # of the coordinates after the layer that differ
            for row in rows:
                here = y[a, count[a]]
                for k in range(K):
                    v = kinds[k, a] + (2 * (row[0] * kinds[k, 2] + row[1] * kinds[k, 3]) + 4) // 8
                    here[k] = min(max(v, -C), C)
                count[a] += not _is_among(y[a], count[a], K)
        for a in range(2):
            if alone[a]:
                for r in range(count[a]):
                    at_sum[:] = 0
                    for k in range(K):
                        at_sum[y[a, r, k] + 2 * C] += mass[k]
                    most, least = _from_above(at_sum, most, least)
        for r0 in range(count[0] if of_sum or of_difference else 0):
            for r1 in range(count[1]):
                at_sum[:] = 0
                at_difference[:] = 0
                for k in range(K):
                    at_sum[y[0, r0, k] + y[1, r1, k] + 2 * C] += mass[k]
                    at_difference[y[0, r0, k] - y[1, r1, k] + 2 * C] += mass[k]
                if of_sum:
                    most, least = _from_above(at_sum, most, least)
                if of_difference:
                    most, least = _from_above(at_difference, most, least)
    return min(ones - most, total - ones + least)


def fewest_errors(
    x: Int[np.ndarray, "N n 2"], model, labels: Int[np.ndarray, " N"], weights: Int[np.ndarray, " N"]
) -> int:
    """The least total weight of mislabelled sequences of all networks of one layer on the tokens `x`."""
    net, integers = np.where(labels == 1, weights, -weights), lambda a: np.ascontiguousarray(a, np.int64)
    x = integers(x)
    means = {z.tobytes(): z for z in _attended(x, integers(model.matrices))}  # those that differ
    ones, total = int(weights[labels == 1].sum()), int(weights.sum())
    alphabets = integers(model.rows), integers(model.directions)
    return int(_fewest(x, np.stack(list(means.values())), *alphabets, integers(net), ones, total, int(model.levels)))
