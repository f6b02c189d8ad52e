"""The losses that a network has to beat: token frequencies, and predicting the next token from the last one alone."""

import numpy as np
from jaxtyping import Float

from .scores import TokenScores
from .sequences import Sequences


def baseline_scores(training: Sequences, data: Sequences, size: int) -> dict[str, TokenScores]:
    """The unigram and the bigram of the training data on every token but the first of each sequence.

    A token whose predecessor is missing is scored by the unigram.
    """
    first, second = unigram(training, size), bigram(training, size)
    before, after = data.values[:, :-1], np.maximum(data.values[:, 1:], 0)
    scored = data.mask & (np.arange(data.max_length) > 0)
    p = {"unigram": first[after], "bigram": np.where(before >= 0, second[np.maximum(before, 0), after], first[after])}
    start = np.zeros((data.number, 1))
    return {name: TokenScores(np.concatenate([start, np.log(each)], 1), scored).on(scored) for name, each in p.items()}


def unigram(training: Sequences, size: int) -> Float[np.ndarray, " V"]:
    """Token frequencies of the training data, with half a count added to each token."""
    return _rows(np.bincount(training.values[training.mask], minlength=size) + 0.5)


def bigram(training: Sequences, size: int) -> Float[np.ndarray, "V V"]:
    """Transition frequencies, smoothed towards the unigram with the weight of one count per row."""
    before, after = training.values[:, :-1], training.values[:, 1:]
    both = training.mask[:, :-1] & training.mask[:, 1:]
    pairs = np.bincount(before[both].astype(np.int64) * size + after[both], minlength=size * size)
    return _rows(pairs.reshape(size, size) + unigram(training, size))


def _rows(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(-1, keepdims=True)
