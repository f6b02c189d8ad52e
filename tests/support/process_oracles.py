"""Slow, obviously right twins of generalised hidden Markov models, and every process of the zoo by name."""

import itertools

import jax
import numpy as np
import pytest

import steerax as sx

MODELS = sx.models

# chains and machines, whose paths can be enumerated; HMMs stand as they are, to be compared with their operators
CLASSICAL = {
    "coin": lambda: MODELS.coin(0.3),
    "zero_one_random": lambda: MODELS.zero_one_random(0.3),
    "golden_mean": lambda: MODELS.golden_mean(0.3),
    "even": lambda: MODELS.even(0.3),
    "sns": lambda: MODELS.sns(0.4, 0.7),
    "rrxor": lambda: MODELS.rrxor(0.4, 0.6),
    "leaky_rrxor": lambda: MODELS.leaky_rrxor(),
    "days_of_week": lambda: MODELS.days_of_week(),
    "parentheses": lambda: MODELS.parentheses((1.0, 0.5, 0.4)),
    "mr_name": lambda: MODELS.mr_name(),
    "mess3": lambda: MODELS.mess3(),
    "casino": lambda: MODELS.casino(),
    "two_cycle": lambda: MODELS.two_cycle(4, 2, 0.3),
    "left_right": lambda: MODELS.left_right(3, 4),
    "product": lambda: MODELS.product(MODELS.even(0.3), MODELS.golden_mean(0.6)),
    "mixture": lambda: MODELS.mixture([MODELS.even(0.3), MODELS.golden_mean(0.6)], [0.25, 0.75]),
}
SIGNED = {
    "tom_quantum": lambda: MODELS.tom_quantum(),
    "fanizza": lambda: MODELS.fanizza(),
    "post_quantum": lambda: MODELS.post_quantum(),
    "random_quantum": lambda: MODELS.random_quantum(3),
    "qutrit": lambda: MODELS.random_quantum(1, 3, 2),
    "product with a quantum process": lambda: MODELS.product(MODELS.even(0.3), MODELS.tom_quantum(1.0, 2.0)),
    "mixture of quantum processes": lambda: MODELS.mixture([MODELS.random_quantum(0), MODELS.random_quantum(1)]),
}
ALL = CLASSICAL | SIGNED


_OFTEN = {"even", "tom_quantum", "mixture", "casino"}  # the others are tried with the slow tests


def cases(names):
    """Names of processes for `parametrize`, most of them slow: each compiles functions of its own shapes."""
    return [pytest.param(name, marks=() if name in _OFTEN else pytest.mark.slow) for name in names]


def operators_of(model):
    """p_0, T, w as plain arrays, by another way than `as_generalised` for a hidden Markov model."""
    if isinstance(model, sx.GeneralisedHMM):
        return tuple(np.asarray(a, np.float64) for a in model.arrays)
    mu, A, C = (np.asarray(a, np.float64) for a in (model.initial, model.dense_transition, model.emission))
    T = np.array([[[C[i, z] * A[i, j] for j in range(len(mu))] for i in range(len(mu))] for z in range(C.shape[1])])
    return mu, T, np.ones(len(mu))


def drawn(model, length, key=0):
    return np.array(sx.sample(model, key, length)[1])


def by_paths(model, z):
    """Beliefs π_0 … π_T and next-token probabilities at each time, by summing over every path of edges; −1 sums over tokens."""
    p0, T, _ = operators_of(model)
    T = T.astype(np.longdouble)
    d = len(p0)
    beliefs, following = [], []
    for t in range(len(z) + 1):
        law, nexts = np.zeros(d, np.longdouble), np.zeros(len(T), np.longdouble)
        for path in _paths(T.sum(0) > 0, p0, t):
            odds = np.longdouble(p0[path[0]])
            for i, j, token in zip(path, path[1:], z[:t], strict=False):
                odds *= T[token, i, j] if token >= 0 else sum(T[v, i, j] for v in range(len(T)))
            law[path[-1]] += odds
            for v in range(len(T)):
                nexts[v] += odds * sum(T[v, path[-1], j] for j in range(d))
        beliefs.append(law / law.sum())
        following.append(nexts / law.sum())
    return np.array(beliefs, np.float64), np.array(following, np.float64)


def _paths(possible, p0, length):
    """Paths of states along edges that exist."""
    paths = [(i,) for i in np.flatnonzero(p0 > 0)]
    for _ in range(length):
        paths = [(*path, j) for path in paths for j in np.flatnonzero(possible[path[-1]])]
    return paths


def by_products(model, z):
    """The same by plain products of matrices in long double, from the start for every prefix."""
    p0, T, w = (a.astype(np.longdouble) for a in operators_of(model))
    A = T.sum(0)
    beliefs, following = [], []
    for t in range(len(z) + 1):
        p = p0
        for token in z[:t]:
            p = p @ (A if token < 0 else T[token])
        beliefs.append(p / (p @ w))
        following.append(np.array([p @ M @ w for M in T]) / (p @ w))
    return np.array(beliefs, np.float64), np.array(following, np.float64)


def by_density(kraus, rho, z):
    """Density matrices after each prefix, and the probabilities of the next outcome."""
    out, following = [], []
    for token in [*z, None]:
        out.append(rho)
        following.append([np.trace(K @ rho @ K.conj().T).real for K in kraus])
        if token is not None:
            rho = kraus[token] @ rho @ kraus[token].conj().T
            rho = rho / np.trace(rho)
    return np.array(out), np.array(following)


def string_probabilities(model, length):
    """Every string of a length and its probability."""
    p0, T, w = operators_of(model)
    for z in itertools.product(range(len(T)), repeat=length):
        p = p0
        for token in z:
            p = p @ T[token]
        yield z, float(p @ w)


def plain_layer(p0, T, w, z, rho):
    """One layer, token by token, in the letters of the theorem, without any care; tokens are possible and not certain. Of a model
    without negative entries negative parts are cut, as the layer says."""
    A, p, out = T.sum(0), p0, [p0]
    plain = min(T.min(), p0.min(), w.min()) >= 0
    for t, token in enumerate(z):
        if token < 0:
            p = p @ A
        else:
            seen, other = rho[t] @ T[token], rho[t] @ (A - T[token])
            plus, minus = seen / (seen @ w), other / (other @ w)
            p = p @ A + (p @ (A - T[token]) @ w) * (plus - minus)
        p = np.maximum(p, 0) if plain else p
        p = p / (p @ w)
        out.append(p)
    return np.array(out)


def plain_controls(p0, T, w, z, pi, F):
    """Prior and terms of the prediction after all tokens, by the backward pass of the control system."""
    A, y, terms = T.sum(0), np.asarray(F, float), []
    for t in reversed(range(len(z))):
        u = 0.0 * y[0]
        c = np.zeros(len(w))
        if z[t] >= 0:
            seen, other = pi[t] @ T[z[t]], pi[t] @ (A - T[z[t]])
            certain = other @ w < 1e-13
            k = 0 * w if certain else 0.5 * (seen / (seen @ w) - other / (other @ w))
            u, c = -k @ y, 2 * T[z[t]] @ w - w
        terms.append(-u)
        y = A @ y + np.outer(c, u).reshape(y.shape)
    return p0 @ y, np.array(terms[::-1])


def in_another_basis(model, key=0):
    """The same process with T → S⁻¹TS, and S."""
    p0, T, w = operators_of(model)
    S = np.asarray(jax.random.normal(jax.random.key(key), (len(w), len(w)))) + 2 * np.eye(len(w))
    inverse = np.linalg.inv(S)
    return sx.GeneralisedHMM(p0 @ S, inverse @ T @ S, evaluation=inverse @ w), S
