"""Affine read-outs, always held out: every string is predicted by a map that was fitted without it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CUTOFF = 1e-4  # smallest singular value that a read-out uses, as a share of the largest
CUTOFF_OF_WEIGHTS = 0.01  # where the weights of the map are what is looked at


class Map(NamedTuple):
    """An affine map $x\\mapsto(x-c)W+o$."""

    center: Float[np.ndarray, " D"]
    weight: Float[np.ndarray, "D k"]
    offset: Float[np.ndarray, " k"]

    def __call__(self, X: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n k"]:
        return (X - self.center) @ self.weight + self.offset


def fit_map(
    X: Float[np.ndarray, "n D"], Y: Float[np.ndarray, "n k"], w: Float[np.ndarray, " n"], cutoff: float = CUTOFF
) -> Map:
    r"""Weighted least squares through the directions of `X` with singular values above `cutoff` times the largest.

    A small cutoff hardly changes what a map predicts, but it puts weight on directions that are nearly empty, and what the map then
    says of contributions is noise: `CUTOFF_OF_WEIGHTS` is for those.
    """
    total = w.sum()
    center, offset = w @ X / total, w @ Y / total
    root = np.sqrt(w)[:, None]
    values, V = np.linalg.eigh((root * (X - center)).T @ (root * (X - center)))
    kept = values > max(cutoff**2, 1e-14) * values[-1]
    V = V[:, kept]
    return Map(center, V @ (V.T @ ((w[:, None] * (X - center)).T @ (Y - offset)) / values[kept][:, None]), offset)


def folds_of(strings: Int[np.ndarray, "B T"], seed: int) -> Bool[np.ndarray, " B"]:
    """Half of the strings; equal strings are in the same half, so that none is fitted and predicted."""
    _, index = np.unique(strings, axis=0, return_inverse=True)
    half = np.random.default_rng(seed).permutation(index.max() + 1) % 2 == 0
    return half[index.ravel()]


def held_out(
    X: Float[np.ndarray, "B T D"],
    Y: Float[np.ndarray, "B T k"],
    weights: Float[np.ndarray, "B T"],
    half: Bool[np.ndarray, " B"],
    cutoff: float = CUTOFF,
) -> Float[np.ndarray, "B T k"]:
    """Predictions of `Y`, each half of the strings by the map of the other half."""
    out = np.empty(Y.shape)
    X = X.astype(np.float64)
    for fold in (half, ~half):
        flat = lambda a, fold=fold: a[fold].reshape(-1, *a.shape[2:])
        out[~fold] = fit_map(flat(X), flat(Y), flat(weights), cutoff)(X[~fold])
    return out


class Score(NamedTuple):
    """Share of the variance that is explained, its standard error over strings, the root-mean-square error, and the share at
    each position."""

    r2: float
    error: float
    rmse: float
    by_position: Float[np.ndarray, " T"]


def score_of(
    found: Float[np.ndarray, "B T k"], Y: Float[np.ndarray, "B T k"], weights: Float[np.ndarray, "B T"]
) -> Score:
    r"""$R^2=1-\sum w|f-y|^2/\sum w|y-\bar y|^2$ of held-out predictions. NaN where `Y` does not vary."""
    total = weights.sum()
    mean = np.einsum("bt,btk->k", weights, Y) / total
    lost = weights * ((found - Y) ** 2).sum(-1)
    spread = weights * ((Y - mean) ** 2).sum(-1)
    if spread.sum() <= 1e-24 * total:
        nothing = np.full(Y.shape[1], np.nan)
        return Score(float("nan"), float("nan"), float(np.sqrt(lost.sum() / total)), nothing)
    ratio = lost.sum() / spread.sum()
    a, c = lost.sum(1), spread.sum(1)
    error = np.sqrt(((a - ratio * c) ** 2).sum()) / c.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        by_position = 1 - lost.sum(0) / np.where(spread.sum(0) > 1e-12 * spread.sum(), spread.sum(0), np.nan)
    return Score(float(1 - ratio), float(error), float(np.sqrt(lost.sum() / total)), by_position)
