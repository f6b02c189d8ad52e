"""One held-out window under the glass: where three predictors take their prediction of the next token from.

Query `q` asks for the prediction after the first `q` tokens. All matrices are `[T+1, T]`: row `q`, column `s` for the
token `Z_{s+1}`, zero for `s >= q`.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
    """What is shown of one window.

    **Attributes:** `tokens [T]`; `targets [T+1]`, the token whose probability is explained at each query;
    `control`, norms over the hidden states of the path weights of the dual filter; `control_target`, the weights for
    the target alone; `probability`, name → `[T+1]` probability of the target (NaN where a predictor gives none);
    `contributions` and `errors`, name → path contributions to that probability and their standard errors;
    `attention`, "layer l, head h" → attention; `steps`, name → `U` of the last query `[V-1 T]`; `certain [T]`, whether
    the exact filter was certain of the token at that step.
    """

    tokens: np.ndarray
    targets: np.ndarray
    control: np.ndarray
    control_target: np.ndarray
    probability: dict[str, np.ndarray]
    contributions: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
    certain: np.ndarray
    reference: str

    @property
    def length(self) -> int:
        """T, the number of tokens."""
        return len(self.tokens)

    def mean_attention(self) -> np.ndarray:
        """Attention averaged over layers and heads."""
        return np.mean(list(self.attention.values()), axis=0)


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


def agree(one: str, a: np.ndarray, other: str, b: np.ndarray, k: int = 5) -> Agreement:
    """Compare two `[T+1, T]` matrices; sizes are ranked by absolute value, the correlation keeps the sign."""
    T = a.shape[1]
    k = max(1, min(k, T // 2))
    rows = []
    top = lambda sizes, n: set(np.argsort(-sizes, kind="stable")[:n].tolist())
    for q in range(2 * k, T + 1):
        x, y = np.abs(a[q, :q]), np.abs(b[q, :q])
        if x.any() and y.any():
            common = [len(top(x, n) & top(y, n)) / n for n in (1, k)]
            rows.append([common[0], 1 / q, common[1], k / q, correlation(_ranks(x), _ranks(y))])
    same, same_chance, overlap, chance, ranks = np.nanmean(rows, axis=0).tolist() if rows else [float("nan")] * 5
    lower = np.tril_indices(T + 1, -1, T)
    return Agreement(one, other, k, same, same_chance, overlap, chance, ranks, correlation(a[lower], b[lower]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 0 … n−1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two arrays; NaN if one is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else float("nan")
