"""Slow, obviously right twins: everything by enumeration, in plain Python integers and fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np

from steerax.lifted.certificate.check import moved, rounded_means


def half_up(q):
    return math.floor(q + Fraction(1, 2))


def round_away(q):
    return half_up(abs(q)) * (1 if q >= 0 else -1)


def pool(step, query, key, value):
    """One Pool on one sequence, as an integral against its tokens: codes in, codes out."""
    n, u, out = len(query), step.values.tolist(), []
    for i in range(n):
        js = range(i + 1) if step.causal else range(n)
        s = {j: int(step.score[query[i], key[j]]) for j in js}
        if step.weights is None:
            w = s
        else:
            w = {j: int(step.weights[min(max(s.values()) - s[j], len(step.weights) - 1)]) for j in js}
        mass = sum(w.values())
        mean = Fraction(sum(w[j] * u[value[j]] for j in js), mass) if mass else Fraction(0)
        z = half_up(mean) if step.rounding == "up" else round_away(mean)
        out.append(max(min(u), min(max(u), z)) - min(u))
    return out


def r1_labels(model, weights, tokens):
    """A network of class R1 on token sequences, in fractions."""
    C, labels = model.levels, []
    clip = lambda v: max(-C, min(C, v))
    for sequence in tokens.tolist():
        last = len(sequence) - 1
        positions = [clip(round_away(Fraction((2 * i - last) * C, max(last, 1)))) for i in range(last + 1)]
        x = [[2 * b - (model.vocabulary - 1), p] for b, p in zip(sequence, positions, strict=True)]
        for B, V in weights.layers:
            after = []
            for xi in x:
                score = [sum(xi[a] * B[a][c] * xj[c] for a in (0, 1) for c in (0, 1)) for xj in x]
                best = [xj for xj, s in zip(x, score, strict=True) if s == max(score)]
                z = [Fraction(half_up(4 * Fraction(sum(xj[c] for xj in best), len(best))), 4) for c in (0, 1)]
                after.append([clip(xi[a] + half_up(V[a][0] * z[0] + V[a][1] * z[1])) for a in (0, 1)])
            x = after
        r = weights.readout
        labels.append(int((r.w[0] * x[0][0] + r.w[1] * x[0][1] >= r.threshold) != r.flipped))
    return np.array(labels)


def r1_optimum(problem, depth):
    """The fewest errors over every network of a (small) class R1: no bound, no merging, no symmetry."""
    model, C = problem.model, problem.model.levels
    wrong = {0: problem.labels == 1, 1: problem.labels == 0}

    def layer(x, B, V):
        s = np.einsum("sia,ac,sjc->sij", x, B, x)
        best = (s == s.max(-1, keepdims=True)).astype(int)
        z4 = np.floor(4 * np.einsum("sij,sjc->sic", best, x) / best.sum(-1, keepdims=True) + 0.5).astype(int)
        return np.clip(x + np.floor(z4 @ V.T / 4 + 0.5).astype(int), -C, C)

    def readouts(x):
        best = problem.total
        for w in model.directions:
            one = (x[:, 0] @ w)[:, None] >= np.arange(-2 * C, 2 * C + 2)
            errors = problem.weights @ np.where(one, wrong[1][:, None], wrong[0][:, None])
            best = min(best, int(errors.min()), problem.total - int(errors.max()))
        return best

    def value(x, left):
        if left == 0:
            return readouts(x)
        layers = itertools.product(model.matrices, model.rows, model.rows)
        return min(value(layer(x, B, np.stack([r, s])), left - 1) for B, r, s in layers)

    return value(model.embedding[np.arange(model.length), problem.tokens], depth)


def best_last_layer(x, problem):
    """The fewest errors of one more layer and a read-out on the tokens `x [N n 2]`, by matrix products: for every B and
    both rows of V, the signed distribution of (y0, y1); sums along its axes and diagonals from above are all thresholds."""
    model, C, W = problem.model, problem.model.levels, 2 * problem.model.levels + 1
    net = np.where(problem.labels == 1, problem.weights, -problem.weights)
    ones = int(problem.weights[problem.labels == 1].sum())
    z4 = np.unique(rounded_means(x, model.matrices, slice(0, 1))[:, :, 0], axis=0)  # [b N 2]
    reached = []
    for a in (0, 1):
        y = np.stack([moved(x[:, 0, a], z4, v, C) for v in model.rows], 1) + C  # [b NR N]
        reached.append((y[:, :, None, :] == np.arange(W)[:, None]).astype(np.float64).reshape(len(z4), -1, len(net)))
    distribution = np.einsum("bks,bms->bkm", reached[0] * net, reached[1], optimize=True)
    distribution = (
        np.rint(distribution).astype(np.int64).reshape(len(z4), len(model.rows), W, len(model.rows), W).swapaxes(2, 3)
    )
    v = np.arange(W)
    best = problem.total
    for w0, w1 in model.directions:
        score = (w0 * (v[:, None] - C) + w1 * (v[None, :] - C)).ravel()
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.diff(score[order], append=-(10**6)))
        above = np.cumsum(distribution.reshape(-1, W * W)[:, order], axis=1)[
            :, ends
        ]  # net mass of {w·y ≥ τ} for every τ
        best = min(best, ones - max(0, int(above.max())), problem.total - ones + min(0, int(above.min())))
    return best
