"""Clouds of beliefs: laws of a hidden state with weights, merged where they coincide. Host arrays.

A belief `b` is a law on `d` states. A token `z` of probability `b·C_z > 0` moves it to `A^⊤(b ⊙ C_z) / (b·C_z)`. Many
token strings lead to the same belief, so sums over all strings become sums over few beliefs: exactly, whenever only
finitely many beliefs are reachable.
"""

from collections.abc import Callable

import numpy as np

Product = Callable[[np.ndarray], np.ndarray]


def merge(beliefs: np.ndarray, weights: np.ndarray, tolerance: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs `[n d]` that agree to the tolerance become one, weights `[r n]` add up; zero weight is dropped.

    The merged belief is the weighted mean, so that sums of linear functions keep their value at any tolerance.
    """
    kept = weights.any(0)
    beliefs, weights = beliefs[kept], weights[:, kept]
    _, index = np.unique(np.round(beliefs / tolerance).astype(np.int64), axis=0, return_inverse=True)
    index = index.ravel()
    n = index.max() + 1 if len(index) else 0
    merged = np.zeros((len(weights), n))
    np.add.at(merged.T, index, weights.T)
    size = weights.sum(0)
    mean = np.zeros((n, beliefs.shape[1]))
    np.add.at(mean, index, beliefs * size[:, None])
    return mean / np.bincount(index, size, n)[:, None], merged


def children(beliefs: np.ndarray, times_A: Product, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(next [V n d], q [n V])`: the belief after each token and the token's probability.

    Where a token is impossible the belief moves as if nothing had been seen, `A^⊤ b`.
    """
    q = beliefs @ C
    joint = np.where(q.T[:, :, None] > 0, beliefs * C.T[:, None, :], beliefs)
    mass = joint.sum(-1, keepdims=True)
    return times_A(joint / mass), q


def spread(beliefs: np.ndarray, weights: np.ndarray, times_A: Product, C: np.ndarray, law: np.ndarray | None = None):
    """One step of a cloud: every belief `[n d]` goes to its children, its weights `[r n]` shared by `law` `[n V]`.

    Without a law a token has its own probability `b·C_z`. Returns merged `(beliefs, weights)`.
    """
    after, q = children(beliefs, times_A, C)
    share = q if law is None else law
    n, V = share.shape
    return merge(after.reshape(V * n, -1), (weights[:, None, :] * share.T[None]).reshape(len(weights), V * n))
