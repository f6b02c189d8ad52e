"""Shapes of a matrix of weights [queries, steps], as numbers."""

import numpy as np


def verticality(weights: np.ndarray, first: int) -> float:
    """Share of the variance of the weights below the diagonal explained by one profile per column (R²).

    **Arguments:** `weights [T+1, T]`; `first`, the first query that counts.
    """
    q, s = _lower(weights, first)
    return _explained(weights[q, s], s)


def diagonality(weights: np.ndarray, first: int) -> float:
    """Share of the variance explained by one profile per lag `q - s` (R²)."""
    q, s = _lower(weights, first)
    return _explained(weights[q, s], q - s)


def within(weights: np.ndarray, lag: int, first: int) -> float:
    """Share of all weight (absolute values) at lags of at most `lag`, over the queries from `first` on."""
    q, s = _lower(weights, first)
    sizes = np.abs(weights[q, s])
    total = sizes.sum()
    return float(sizes[q - s <= lag].sum() / total) if total > 0 else float("nan")


def on_columns(weights: np.ndarray, columns: np.ndarray) -> float:
    """Share of all weight on some columns (bool `[T]`)."""
    sizes = np.abs(weights)
    return float(sizes[:, columns].sum() / sizes.sum()) if sizes.any() else float("nan")


def period(profile: np.ndarray, largest: int) -> tuple[int, float]:
    """(lag, correlation) of the largest autocorrelation of a sequence at lags 2 … `largest`."""
    centred = profile - profile.mean()
    correlations = []
    for lag in range(2, largest + 1):
        a, b = centred[:-lag], centred[lag:]
        size = np.sqrt((a**2).sum() * (b**2).sum())
        correlations.append(float((a * b).sum() / size) if size > 0 else 0.0)
    best = int(np.argmax(correlations))
    return best + 2, correlations[best]


def _lower(weights: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    q, s = np.tril_indices(len(weights), -1, weights.shape[1])
    kept = q >= first
    return q[kept], s[kept]


def _explained(values: np.ndarray, groups: np.ndarray) -> float:
    """1 - (variance within groups) / (variance)."""
    number = groups.max() + 1
    count = np.maximum(np.bincount(groups, minlength=number), 1)
    mean = np.bincount(groups, values, number) / count
    spread = np.sum((values - values.mean()) ** 2)
    return float(1 - np.sum((values - mean[groups]) ** 2) / spread) if spread > 0 else float("nan")
