"""Attributions by their definitions, in loops over products of matrices: what the kernels do by slopes and scans."""

import itertools
import math

import numpy as np
from scipy import integrate

WIDE = np.longdouble


def operators(model):
    """(p0, T [V d d], w) of a chain or of a generalised model."""
    if hasattr(model, "emission"):
        C, A = np.asarray(model.emission), np.asarray(model.dense_transition)
        return np.asarray(model.initial), C.T[:, :, None] * A[None], np.ones(len(A))
    return tuple(np.asarray(a) for a in model.arrays)


def value(model, z, F, a, b, q=None):
    """The prediction after soft evidence `(a, b)`; complex numbers and any float type welcome."""
    p, T, w = operators(model)
    A, kind = T.sum(0), np.result_type(np.asarray(a), np.asarray(b), F)
    p = p.astype(kind)
    for t, token in enumerate(z):
        M = A if token < 0 else a[t] * (T[token] / (1 if q is None else q[t])) + b[t] * A
        p = p @ M
        p = p / (p @ w)
    return p @ F


def of_subset(model, z, F, kept):
    """The prediction from the tokens at the positions `kept`, in long double."""
    seen = np.array([token if t in kept else -1 for t, token in enumerate(z)])
    one = np.ones(len(z), WIDE)
    return value(model, seen, np.asarray(F).astype(WIDE), one, 0 * one)


def prior(model, z, F):
    return of_subset(model, z, F, ())


def shapley(v, n):
    """Shapley values of any game on `n` players, from the formula with factorials."""
    found = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        total = 0
        for size in range(n):
            share = WIDE(math.factorial(size) * math.factorial(n - size - 1)) / WIDE(math.factorial(n))
            for S in itertools.combinations(others, size):
                total = total + share * (v((*S, i)) - v(S))
        found.append(total)
    return np.array(found)


def deletion(model, z, F):
    everything = range(len(z))
    full = of_subset(model, z, F, everything)
    return np.array([full - of_subset(model, z, F, [s for s in everything if s != t]) for t in everything])


def news(model, z, F):
    """Differences of forecasts as tokens arrive."""
    forecasts = [of_subset(model, z, F, range(t)) for t in range(len(z) + 1)]
    return np.diff(np.array(forecasts), axis=0)


def integrated(model, z, F):
    """Adaptive quadrature of complex-step slopes."""
    p0, T, w = operators(model)
    p, q = p0, []
    for token in z:
        after = p @ (T.sum(0) if token < 0 else T[token])
        q.append(after @ w)
        p = after / (after @ w)
    F = np.asarray(F)

    def slope(alpha, t, j):
        a = np.full(len(z), alpha, complex)
        a[t] += 1e-30j
        return value(model, z, F[:, j], a, 1 - a, q).imag / 1e-30

    at = lambda t, j: integrate.quad(slope, 0, 1, (t, j), epsabs=1e-12, epsrel=1e-12, limit=200)[0]
    return np.array([[at(t, j) if z[t] >= 0 else 0.0 for j in range(F.shape[1])] for t in range(len(z))])
