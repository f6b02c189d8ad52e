"""Cross-entropies on held-out sequences. Every predictor is scored on the same tokens: all observed but the first."""

import dataclasses

import numpy as np

from ...data.scores import TokenScores
from ...data.sequences import Sequences


@dataclasses.dataclass(frozen=True)
class Score:
    """Cross-entropy of a predictor in nats per token, infinite if it held a token impossible."""

    name: str
    role: str
    scores: TokenScores

    @property
    def value(self) -> float:
        """Mean of `-log p` over the scored tokens."""
        return self.scores.cross_entropy

    @property
    def error(self) -> float:
        """Its standard error over sequences; NaN if the value is infinite."""
        return self.scores.standard_error if np.isfinite(self.value) else float("nan")


def score(name: str, role: str, log_p: np.ndarray, data: Sequences) -> Score:
    """The score of `log_p [B T-1]`, the log-probability given to each token from the second on."""
    mask = data.mask[:, 1:]
    return Score(name, role, TokenScores(np.where(mask, log_p, 0.0), mask))


def unigram(training: Sequences, size: int) -> np.ndarray:
    """Token frequencies `[V]` of the training data, half a count added to each token."""
    return _rows(np.bincount(training.values[training.mask], minlength=size) + 0.5)


def bigram(training: Sequences, size: int) -> np.ndarray:
    """Transition frequencies `[V V]`, smoothed towards the unigram with the weight of one count per row."""
    before, after = training.values[:, :-1], training.values[:, 1:]
    both = training.mask[:, :-1] & training.mask[:, 1:]
    pairs = np.bincount(before[both].astype(np.int64) * size + after[both], minlength=size * size)
    return _rows(pairs.reshape(size, size) + unigram(training, size))


def _rows(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(-1, keepdims=True)


def count_log_probabilities(data: Sequences, first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """`[B T-1]` under the unigram `first`, or under the bigram `second` wherever the token before is observed."""
    before, after = data.values[:, :-1], np.maximum(data.values[:, 1:], 0)
    p = first[after]
    if second is not None:
        p = np.where(before >= 0, second[np.maximum(before, 0), after], p)
    return np.log(p)
