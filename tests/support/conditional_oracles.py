"""Slow, obviously right twins of conditionally Markov models: the formulas in loops, all paths of states, laws of full memory."""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import steerax as sx


def lagged(rng, d, V, m, attention=True, emission_lags=0, zeros=0.0):
    """A random `LaggedHMM`; each probability is zero with a given chance (never a whole row)."""

    def rows(*shape):
        p = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
        keep = rng.random(shape) >= zeros
        np.put_along_axis(keep, rng.integers(shape[-1], size=(*shape[:-1], 1)), True, -1)
        p = np.where(keep, p + 1e-3, 0)
        return p / p.sum(-1, keepdims=True)

    emission = rows(emission_lags, V, d, V) if emission_lags else rows(d, V)
    more = {}
    if emission_lags:
        more = {"emission_weights": rows(emission_lags), "emission_attention": rng.normal(size=(emission_lags, V))}
    scores = 2 * rng.normal(size=(m, V)) if attention else None
    return sx.LaggedHMM(rows(d), rows(m, V, d, d), emission, rows(m), scores, **more)


def weights_by_hand(w, a, codes):
    """λ over the lags whose token is there, in extended precision; −1: not there. `None` if no lag is."""
    scores = [
        None if z < 0 else np.longdouble(w[j]) * np.exp(np.longdouble(0 if a is None else a[j, z]))
        for j, z in enumerate(codes)
    ]
    total = sum(s for s in scores if s is not None)
    return None if not total else [0 if s is None else s / total for s in scores]


def mixed_by_hand(tables, w, a, codes):
    weights = weights_by_hand(w, a, codes)
    if weights is None:
        return sum(np.longdouble(w[j]) * tables[j].mean(0) for j in range(len(w)))
    return sum(l * tables[j, z] for j, (l, z) in enumerate(zip(weights, codes, strict=True)) if z >= 0)


def at_lags(z, t, m):
    return [z[t - j] if t - j >= 0 else -1 for j in range(m)]


def steps_by_hand(model, z):
    """K_0 … K_{T-1} and C_0 … C_T of a `LaggedHMM`, in extended precision."""
    a, w = np.asarray, model.weights
    attention = None if model.attention is None else a(model.attention)
    K = [mixed_by_hand(a(model.transition), a(w), attention, at_lags(z, t, len(w))) for t in range(len(z))]
    if model.emission_weights is None:
        return K, [a(model.emission).astype(np.longdouble)] * (len(z) + 1)
    E, v, b = a(model.emission), a(model.emission_weights), model.emission_attention
    return K, [mixed_by_hand(E, v, None if b is None else a(b), at_lags(z, t - 1, len(v))) for t in range(len(z) + 1)]


def by_paths(mu, K, C, z):
    """Every path of states: beliefs π_0 … π_T, next-token distributions, log-likelihood, smoothed distributions `[T d]` and the
    likeliest X_0 … X_{T-1}."""
    d, T = len(mu), len(z)
    laws, smoothed, best, likeliest = np.zeros((T + 1, d), np.longdouble), np.zeros((T, d), np.longdouble), -1.0, None
    for t in range(T + 1):
        for path in itertools.product(range(d), repeat=t + 1):
            p = np.longdouble(mu[path[0]])
            for s in range(t):
                p *= (1 if z[s] < 0 else C[s][path[s], z[s]]) * K[s][path[s], path[s + 1]]
            laws[t, path[-1]] += p
            if t == T:
                for s in range(T):
                    smoothed[s, path[s]] += p
    for path in itertools.product(range(d), repeat=T):
        p = np.longdouble(mu[path[0]])
        for s in range(T):
            p *= (1 if z[s] < 0 else C[s][path[s], z[s]]) * (K[s][path[s], path[s + 1]] if s + 1 < T else 1)
        if p > best:
            best, likeliest = p, path
    total = laws.sum(1)
    beliefs = laws / total[:, None]
    following = np.array([b @ c for b, c in zip(beliefs, C, strict=True)])
    out = beliefs, following, np.log(total[-1]), smoothed / total[-1], likeliest
    return tuple(np.asarray(x, np.float64 if x is not likeliest else int) for x in out)


class Tabulated(sx.AbstractConditionalHMM):
    """A user's model: kernels and emissions looked up in tables of all strings; it reads every token so far."""

    initial: Float[Array, " d"]
    emission: Float[Array, "d V"]  # of the first token
    C: list  # [V^t d V] after each string of length t
    K: list  # [V^(t+1) d d]

    def kernels(self, tokens):
        return jnp.stack([self.K[t][self.number(tokens[: t + 1])] for t in range(len(tokens))])

    def emissions(self, tokens):
        last = len(self.C) - 1  # beyond the tables: the last one again, which no test reads
        return jnp.stack([self.C[min(t, last)][self.number(tokens[: min(t, last)])] for t in range(len(tokens) + 1)])

    def number(self, string):
        n = jnp.zeros((), int)
        for z in string:
            n = n * self.n_tokens + jnp.maximum(z, 0)
        return n


def law_of_full_memory(rng, d, V, T, zeros=0.0):
    """A random process whose next state and token depend on all its past states and tokens: `(mu, step)` with
    `step(states, tokens)` the joint distribution `[V d]` of the token now and the next state."""
    memo = {}

    def step(states, tokens):
        if (states, tokens) not in memo:
            p = rng.dirichlet(np.full(V * d, 0.5)) * (rng.random(V * d) >= zeros)
            p[rng.integers(V * d)] += 0.1
            memo[states, tokens] = (p / p.sum()).reshape(V, d)
        return memo[states, tokens]

    return rng.dirichlet(np.ones(d)), step


def enumerated(mu, step, V, T):
    """Every history: `laws[t] [V^t d]`, P(tokens so far, X_t), and the process as a `Tabulated` model of its adapted kernels
    P(token, X_{t+1} | X_t, tokens so far)."""
    d = len(mu)
    histories = {((x,), ()): mu[x] for x in range(d)}
    laws, Cs, Ks = [np.asarray(mu)[None]], [], []
    for t in range(T):
        joint, new = np.zeros((V**t, V, d, d)), {}
        for (states, tokens), p in histories.items():
            n = int(np.ravel_multi_index(tokens, (V,) * t)) if t else 0
            q = p * step(states, tokens)
            joint[n, :, states[-1]] += q
            for z, y in itertools.product(range(V), range(d)):
                new[(*states, y), (*tokens, z)] = q[z, y]
        histories = new
        here = joint.sum((1, 3))[:, None, :, None]  # [string, 1, x, 1]
        T_z = np.where(here > 0, joint / np.where(here > 0, here, 1), 1 / (V * d))
        C = T_z.sum(3)  # [string, z, x]
        K = np.where(C[..., None] > 0, T_z / np.where(C > 0, C, 1)[..., None], 1 / d)
        Cs.append(jnp.asarray(C.transpose(0, 2, 1)))
        Ks.append(jnp.asarray(K.reshape(-1, d, d)))
        laws.append(joint.sum(2).reshape(-1, d))
    return laws, Tabulated(jnp.asarray(mu), Cs[0][0], Cs, Ks)
