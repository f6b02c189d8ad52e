"""Slow, obviously right twins of the hidden Markov algorithms: sums over all paths of states, over all strings."""

import itertools

import numpy as np


def joint_law(mu, A, C, z):
    """P(X_T = j, tokens) `[d]` by summing over every path of hidden states; −1 is summed out."""
    d, T = len(mu), len(z)
    law = np.zeros(d)
    for path in itertools.product(range(d), repeat=T + 1):
        p = mu[path[0]]
        for t in range(T):
            p *= (1.0 if z[t] < 0 else C[path[t], z[t]]) * A[path[t], path[t + 1]]
        law[path[-1]] += p
    return law


def filter_by_enumeration(mu, A, C, z):
    """π_0 … π_T, log-likelihood."""
    laws = [joint_law(mu, A, C, z[:t]) for t in range(len(z) + 1)]
    return np.stack([law / law.sum() for law in laws]), np.log(laws[-1].sum())


def smoother_by_enumeration(mu, A, C, z):
    """P(X_t = i | all tokens), `[T+1 d]`, expected transition counts `[d d]`, and the likeliest X_0 … X_{T-1}."""
    d, T = len(mu), len(z)
    law, counts, total, best, likeliest = np.zeros((T + 1, d)), np.zeros((d, d)), 0.0, -1.0, None
    for path in itertools.product(range(d), repeat=T + 1):
        p = mu[path[0]]
        emitted = mu[path[0]]
        for t in range(T):
            factor = 1.0 if z[t] < 0 else C[path[t], z[t]]
            p *= factor * A[path[t], path[t + 1]]
            emitted *= factor * (A[path[t], path[t + 1]] if t + 1 < T else 1.0)
        total += p
        for t in range(T + 1):
            law[t, path[t]] += p
        for t in range(T):
            counts[path[t], path[t + 1]] += p
        if emitted > best:
            best, likeliest = emitted, path[:T]
    return law / total, counts / total, np.array(likeliest)


def loop_filter(mu, A, C, z):
    """The textbook recursion in a loop: π_0 … π_T and q_0 … q_{T-1}; −1 has factor 1."""
    states, q = [mu], []
    for token in z:
        joint = states[-1] * (C[:, token] if token >= 0 else 1.0)
        q.append(joint.sum())
        states.append((joint / q[-1]) @ A)
    return np.stack(states), np.array(q)


def gain(rho, Cz):
    """k = (ρ⁺ − ρ⁻)/2, with the limits of a certain and of an impossible token."""
    seen, unseen = rho * Cz, rho * (1 - Cz)
    if unseen.sum() <= 0:
        return np.zeros_like(rho)
    plus = seen / seen.sum() if seen.sum() > 0 else Cz / Cz.sum()
    return (plus - unseen / unseen.sum()) / 2


def backward_controls(rho, mu, A, C, z, F):
    """The textbook dual filter, a backward pass per query: y_T = F, u_t = −k_t·A y_{t+1}, y_t = A y_{t+1} + c u_t.

    Returns `prior [T+1 k]`, `u [T+1 T k]`.
    """
    T, k = len(z), F.shape[1]
    prior, u = np.zeros((T + 1, k)), np.zeros((T + 1, T, k))
    for q in range(T + 1):
        y = F.copy()
        for s in reversed(range(q)):
            Ay = A @ y
            if z[s] < 0:
                y = Ay
                continue
            u[q, s] = -gain(rho[s], C[:, z[s]]) @ Ay
            y = Ay + np.outer(2 * C[:, z[s]] - 1, u[q, s])
        prior[q] = mu @ y
    return prior, u


def sparse_hmm(rng, d, V, zeros=0.0):
    """Random rows; each entry is zero with the given probability (never a whole row)."""

    def rows(n, m):
        keep = rng.random((n, m)) >= zeros
        keep[np.arange(n), rng.integers(m, size=n)] = True
        M = np.where(keep, rng.dirichlet(np.ones(m), size=n) + 1e-3, 0)
        return M / M.sum(1, keepdims=True)

    return rows(1, d)[0], rows(d, d), rows(d, V)


def draw(rng, mu, A, C, T):
    """Tokens `[T]` of the process."""
    x, z = rng.choice(len(mu), p=mu), []
    for _ in range(T):
        z.append(rng.choice(C.shape[1], p=C[x]))
        x = rng.choice(len(mu), p=A[x])
    return np.array(z, dtype=np.int32)
