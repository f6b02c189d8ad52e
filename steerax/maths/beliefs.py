r"""Clouds of beliefs: distributions of a hidden state with weights, merged where they coincide. Host arrays.

A belief $b$ is a distribution on $d$ states. A token $z$ of probability $b\cdot C_z>0$ moves it to
$A^\top(b\odot C_z)/(b\cdot C_z)$. Many token strings lead to the same belief, so sums over all strings become sums over few beliefs: exactly, whenever only
finitely many beliefs are reachable.
"""

from collections.abc import Callable

import numpy as np

_Product = Callable[[np.ndarray], np.ndarray]


def distinct(beliefs: np.ndarray, tolerance: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """`(representatives [m d], index [n])` of beliefs `[n d]`, or of their logarithms, that agree when rounded to the
    tolerance."""
    rounded = np.where(np.isneginf(beliefs), -np.inf, np.round(beliefs / tolerance))
    _, first, index = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return beliefs[first], index.ravel()


def log_product(log_beliefs: np.ndarray, M: np.ndarray) -> np.ndarray:
    r"""$\log(e^bM)$ of rows $b$ `[n d]` and a matrix `[d k]` that is not negative; nothing that is positive becomes zero."""
    top = log_beliefs.max(axis=1, keepdims=True)
    shifted = log_beliefs - np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        log_M, out = np.log(M), np.log(np.exp(shifted) @ M)
        least = log_M[log_M > -np.inf].min(initial=0.0)
        far = ((shifted > -np.inf) & (shifted + least < -700)).any(axis=1)  # some product underflows
        if far.any():
            out[far] = np.logaddexp.reduce(np.stack([shifted[far, x, None] + log_M[x] for x in range(len(M))]), axis=0)
    return out + top


def merge(beliefs: np.ndarray, weights: np.ndarray, tolerance: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs `[n d]` that agree to the tolerance become one, weights `[n]` add up; zero weight is dropped.

    The merged belief is the weighted mean, so that sums of linear functions keep their value at any tolerance.
    """
    kept = weights > 0
    beliefs, weights = beliefs[kept], weights[kept]
    first, index = distinct(beliefs, tolerance)
    merged = np.bincount(index, weights, len(first))
    mean = np.zeros_like(first)
    np.add.at(mean, index, beliefs * weights[:, None])
    return mean / merged[:, None], merged


def children(beliefs: np.ndarray, times_A: _Product, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""`(next [V n d], q [n V])`: the belief after each token and the token's probability.

    Where a token is impossible the belief moves as if nothing had been seen, $A^\top b$.
    """
    q = beliefs @ C
    joint = np.where(q.T[:, :, None] > 0, beliefs * C.T[:, None, :], beliefs)
    mass = joint.sum(-1, keepdims=True)
    return times_A(joint / mass), q


def spread(beliefs: np.ndarray, weights: np.ndarray, times_A: _Product, C: np.ndarray):
    """One step of a cloud: every belief `[n d]` with weight `[n]` goes to its children, with their probabilities."""
    after, q = children(beliefs, times_A, C)
    return merge(after.reshape(-1, beliefs.shape[1]), (weights * q.T).ravel())
