"""Slow, obviously right twins of the belief room: dense normal equations, enumeration of strings, beliefs as exact fractions."""

import itertools
from fractions import Fraction

import numpy as np


def stationary(T):
    """The row vector that the sum of the operators keeps, of mass one under w = 1 or the right eigenvector."""
    values, vectors = np.linalg.eig(T.sum(0).T)
    p = np.real(vectors[:, np.abs(values - 1).argmin()])
    return p / p.sum()


def window_moments(pi, T, w, length):
    """Covariance `[LV LV]` of the one-hot window, and of the belief after it with the window `[d LV]`, term by term."""
    V, A = len(T), T.sum(0)
    p = np.array([pi @ M @ w for M in T])
    C = np.zeros((length * V, length * V))
    cross = np.zeros((len(w), length * V))
    power = [np.linalg.matrix_power(A, n) for n in range(length + 1)]
    for s in range(length):
        for a in range(V):
            cross[:, s * V + a] = pi @ T[a] @ power[length - s - 1] - p[a] * pi
            for t in range(length):
                for b in range(V):
                    if s == t:
                        joint = p[a] * (a == b)
                    elif s < t:
                        joint = pi @ T[a] @ power[t - s - 1] @ T[b] @ w
                    else:
                        joint = pi @ T[b] @ power[s - t - 1] @ T[a] @ w
                    C[s * V + a, t * V + b] = joint - p[a] * p[b]
    return C, cross


def dense_wiener(pi, T, w, length):
    """Weights `[length d V]` of the best linear estimate of the belief after so many tokens, oldest token first, and the
    covariance of the window."""
    C, cross = window_moments(pi, T, w, length)
    W = cross @ np.linalg.pinv(C, rcond=1e-11, hermitian=True)
    return W.reshape(len(w), length, len(T)).transpose(1, 0, 2), C


def strings_and_beliefs(p0, T, w, length):
    """All strings of positive probability, their probabilities, the exact beliefs after them."""
    strings, odds, beliefs = [], [], []
    for z in itertools.product(range(len(T)), repeat=length):
        p = p0
        for token in z:
            p = p @ T[token]
        if p @ w > 1e-14:
            strings.append(z)
            odds.append(p @ w)
            beliefs.append(p / (p @ w))
    return np.array(strings), np.array(odds), np.array(beliefs)


def block_entropies(p0, T, w, longest):
    """H(Z_0 … Z_{n-1}) for n = 0 … longest, from the probabilities of all strings."""
    out = []
    for n in range(longest + 1):
        _, odds, _ = strings_and_beliefs(p0, T, w, n)
        out.append(float(-(odds * np.log(odds)).sum()))
    return np.array(out)


def exact_beliefs(p0, T, depth):
    """Levels of beliefs as tuples of fractions: after 0, 1, … `depth` tokens the set of those of positive probability."""
    V, d = len(T), len(p0)
    levels = [{tuple(p0)}]
    for _ in range(depth):
        after = set()
        for p in levels[-1]:
            for z in range(V):
                moved = [sum(p[i] * T[z][i][j] for i in range(d)) for j in range(d)]
                if sum(moved):
                    after.add(tuple(x / sum(moved) for x in moved))
        levels.append(after)
    return levels


def as_fractions(array, denominator=10**6):
    """The simple fractions that the numbers of an array stand for."""
    array = np.asarray(array)
    if array.ndim == 0:
        return Fraction(float(array)).limit_denominator(denominator)
    return [as_fractions(part, denominator) for part in array]


def draw(p0, T, w, number, length, seed=0):
    """Strings `[number length]` of a process, token by token."""
    rng, out = np.random.default_rng(seed), np.zeros((number, length), int)
    for n in range(number):
        p = p0
        for t in range(length):
            q = np.maximum([p @ M @ w for M in T], 0)
            out[n, t] = rng.choice(len(T), p=q / q.sum())
            p = p @ T[out[n, t]]
            p = p / (p @ w)
    return out


def beliefs_along(p0, T, w, strings):
    """Exact beliefs after each token `[n T d]`, string by string."""
    out = np.zeros((*strings.shape, len(p0)))
    for n, z in enumerate(strings):
        p = p0
        for t, token in enumerate(z):
            p = p @ T[token]
            p = out[n, t] = p / (p @ w)
    return out
