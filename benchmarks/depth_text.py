"""The trained character GPTs that the benchmarks of depth look at. Not a benchmark itself."""

import functools

import jax
import numpy as np

import steerax as sx
from steerax.training.optimizer import adamw


@functools.cache
def codes() -> np.ndarray:
    """Python's own documentation as character codes, int32 [N]."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    index = {symbol: code for code, symbol in enumerate(sorted(set(text)))}
    return np.asarray([index[symbol] for symbol in text], np.int32)


def training() -> sx.Sequences:
    """The first nine tenths as one sequence."""
    return sx.Sequences.from_arrays([codes()[: int(0.9 * len(codes()))]])


def windows(gpt: sx.GPT, tokens: np.ndarray) -> np.ndarray:
    """Disjoint windows of block_size + 1 tokens in a fixed random order, int32 [B N]."""
    length = gpt.config.block_size + 1
    rows = tokens[: len(tokens) // length * length].reshape(-1, length)
    return rows[np.random.default_rng(3).permutation(len(rows))]


def held_out(gpt: sx.GPT) -> np.ndarray:
    """Windows of the last tenth."""
    return windows(gpt, codes()[int(0.9 * len(codes())) :])


def model(folder: str | None, steps: int, seed: int, layers: int = 6, width: int = 64) -> sx.GPT:
    """A GPT from a folder, or one trained here: block 64, 4 heads, batch 32, AdamW at 3e-3 with decay 0.1."""
    if folder:
        return sx.load(folder)
    vocabulary = int(codes().max()) + 1
    gpt = sx.GPT(sx.GPTConfig(vocabulary, 64, layers, 4, width), key=jax.random.key(seed))
    optimizer = adamw(steps, 3e-3, weight_decay=0.1)
    return sx.train_gpt(gpt, training(), steps, jax.random.key(seed + 100), optimizer, batch_size=32).model
