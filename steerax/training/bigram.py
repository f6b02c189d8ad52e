"""The loss a network has to beat: predicting the next token from the last one alone."""

import numpy as np
from jaxtyping import Int

from .._errors import DataError


def bigram_loss(
    train: Int[np.ndarray, "N"], held_out: Int[np.ndarray, "M"], n_tokens: int, pseudo_count: float = 1.0
) -> float:
    """Mean nats per token of the bigram model counted on `train`, over `held_out` from its second token on.

    p(z' | z) = (n(z, z') + α p(z')) / (n(z) + α), with p the smoothed frequencies and α the `pseudo_count`, so that no
    pair is impossible. Raises `DataError` for fewer than two tokens.
    """
    if min(len(train), len(held_out)) < 2:
        raise DataError("A bigram model needs at least two tokens to count and two to score.")
    pairs = np.asarray(train[:-1], np.int64) * n_tokens + train[1:]
    counts = np.bincount(pairs, minlength=n_tokens**2).reshape(n_tokens, n_tokens).astype(np.float64)
    frequencies = np.bincount(train, minlength=n_tokens) + 1.0
    frequencies /= frequencies.sum()
    p = (counts + pseudo_count * frequencies) / (counts.sum(1, keepdims=True) + pseudo_count)
    return float(-np.log(p[held_out[:-1], held_out[1:]]).mean())
