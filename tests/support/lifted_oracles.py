"""Slow, obviously right twins: everything by enumeration, in plain Python integers and fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np


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
