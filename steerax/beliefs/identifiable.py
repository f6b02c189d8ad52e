"""Which rates nobody could tell apart: the loss of the best predictor that knows one exponentially weighted sum."""

import numpy as np
from jaxtyping import Float

from ..data.sequences import Sequences
from ..inference.verbs import filter as exact_filter
from ..models.generalised import GeneralisedHMM
from ..models.sampling import sample_sequences

_LENGTH, _CELLS = 24, 40
_GRID = np.round(np.arange(0.0, 0.976, 0.025), 3)


def identifiable_rates(
    model: GeneralisedHMM, first: Float[np.ndarray, "d V"], sign: float, room: float, strings: int, key: int = 1
) -> tuple[float, float]:
    r"""The rates $r$, on a grid of 0.025, whose best predictor from the last token and $\sum_{k\ge1}r^{k-1}h_1(e_{z_{-k}}-p)$ loses
    at most `room` nats more than the best of all of them.

    "Best predictor": any function of the last token and of the sum, here its cell among 40 quantiles along each of its first
    two principal axes; `first` is $h_1$, and rates have the given `sign`. Losses are divergences from the exact predictive
    distribution on so many `strings` of 24 tokens.
    """
    tokens = sample_sequences(model, key, strings, _LENGTH).values
    beliefs = np.concatenate([_last_belief(model, tokens[i : i + 8192]) for i in range(0, len(tokens), 8192)])
    T, w = (np.asarray(a, np.float64) for a in model.arrays[1:])
    exact = np.maximum(beliefs @ (T @ w).T, 1e-300)
    p = T @ w @ np.asarray(model.initial, np.float64)
    seen = (first.T - first @ p)[tokens[:, -2::-1]]  # newest first, without the last token
    losses = np.array([_loss(exact, tokens[:, -1], seen, sign * r) for r in _GRID])
    good = sign * _GRID[losses <= losses.min() + room]
    return float(good.min()), float(good.max())


def _last_belief(model: GeneralisedHMM, tokens: np.ndarray) -> Float[np.ndarray, "n d"]:
    return np.asarray(exact_filter(model, Sequences.from_arrays(list(tokens))).predicted[:, -1], np.float64)


def _loss(exact: Float[np.ndarray, "n V"], last: np.ndarray, seen: Float[np.ndarray, "n k d"], r: float) -> float:
    """Mean divergence of the exact predictive distribution from its mean within a cell."""
    total = np.einsum("k,nkd->nd", r ** np.arange(seen.shape[1]), seen)
    axes = np.linalg.svd(total[:4096] - total[:4096].mean(0), full_matrices=False)[2][:2]
    along = (total - total.mean(0)) @ axes.T
    cell = last.astype(np.int64)
    for column in along.T:
        if column.std() > 1e-9:
            edges = np.quantile(column, np.linspace(0, 1, _CELLS + 1)[1:-1])
            cell = cell * _CELLS + np.searchsorted(edges, column)
    _, cell = np.unique(cell, return_inverse=True)
    counts = np.bincount(cell)
    mean = np.stack([np.bincount(cell, column) for column in exact.T], 1) / counts[:, None]
    return float((exact * (np.log(exact) - np.log(mean[cell]))).sum(1).mean())
