"""How far matrices of weights agree, and how far the predictions of two predictors differ."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from ...inference.score import next_token_log_probabilities
from ...transformer.gpt import GPT
from .sources import Process, Source
from .window import Window


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two matrices of weights agree, over the queries that see at least `2k` tokens.

    **Attributes:** `same_strongest`, share of queries at which both have their largest weight on the same token, and
    `same_by_chance`; `overlap`, share of the `k` largest weights they have in common, and `overlap_by_chance`, for two
    unrelated rankings; `rank_correlation` (Spearman of sizes, mean over queries); `correlation` (Pearson, all entries).
    """

    one: str
    other: str
    k: int
    same_strongest: float
    same_by_chance: float
    overlap: float
    overlap_by_chance: float
    rank_correlation: float
    correlation: float


def agreements(window: Window) -> list[Agreement]:
    """Every pair of kinds of weights in the window."""
    weights = {"control of the dual filter": window.control, "attention of the GPT": window.mean_attention()}
    weights |= {f"change of expectation, {name}": matrix for name, matrix in window.contributions.items()}
    names = list(weights)
    return [agree(a, weights[a], b, weights[b]) for i, a in enumerate(names) for b in names[i + 1 :]]


def agree(one: str, a: Float[np.ndarray, "T1 T"], other: str, b: Float[np.ndarray, "T1 T"], k: int = 5) -> Agreement:
    """Compare two matrices of weights; sizes are ranked by absolute value, the correlation keeps the sign."""
    T = a.shape[1]
    k = max(1, min(k, T // 2))
    rows = []
    top = lambda sizes, n: set(np.argsort(-sizes, kind="stable")[:n].tolist())
    for q in range(2 * k, T + 1):
        x, y = np.abs(a[q, :q]), np.abs(b[q, :q])
        if x.any() and y.any():
            common = [len(top(x, n) & top(y, n)) / n for n in (1, k)]
            rows.append([common[0], 1 / q, common[1], k / q, correlation(rankdata(x), rankdata(y))])
    same, same_chance, overlap, chance, ranks = np.nanmean(rows, axis=0).tolist() if rows else [float("nan")] * 5
    lower = np.tril_indices(T + 1, -1, T)
    return Agreement(one, other, k, same, same_chance, overlap, chance, ranks, correlation(a[lower], b[lower]))


def correlation(a: Float[np.ndarray, "*n"], b: Float[np.ndarray, "*n"]) -> float:
    """Pearson's correlation of two arrays; NaN if one is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else float("nan")


def facts_about(source: Source, hmm: Process, gpt: GPT, window: Window) -> dict[str, float | int]:
    """Sentence → number: differences of the predictions on all held-out sequences, and the control in the window."""
    strings, mask = source.held_out.values[:, :-1], source.held_out.mask[:, 1:]
    log_p = next_token_log_probabilities(hmm, strings)[:, 1:]
    log_q = next_token_log_probabilities(gpt, strings)
    p, q = np.exp(log_p), np.exp(log_q)
    divergence = np.sum(p * np.where(p > 0, log_p - log_q, 0), axis=2)[mask]
    largest = np.abs(p - q).max(2)[mask]
    facts: dict[str, float | int] = {
        "Divergence of the GPT from the HMM filter, nats per token (Kullback-Leibler, mean)": float(divergence.mean()),
        "Largest difference of a probability": float(largest.max()),
        "Mean of the largest difference at each token": float(largest.mean()),
    }
    if window.certain.any():
        where = window.certain
        facts["Largest control where the exact filter is certain of the token"] = float(window.control[:, where].max())
        facts["Steps of the window where it is certain"] = int(where.sum())
    return facts
