"""Where the tokens of training step $n$ come from: always a pure function of (key, $n$).

A source has two halves: `fetch(key, first, count)` runs on the host before a chunk of at most `longest_chunk` steps and
returns arrays of a fixed shape (for token files that do not fit into memory); `batch(fetched, key, n, i)` runs inside the
compiled step and returns the tokens of step `n`, the `i`-th of its chunk: int32 `[B T+1]`, −1 where nothing is to be
predicted.
"""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .._errors import ConfigurationError, DataError
from ..data.convert import converted
from ..data.read import open_tokens
from ..data.sequences import Sequences

_LONGEST_FETCH = 16


class _Generated(eqx.Module):
    """Fresh sequences of a process: `function(key, n) -> tokens [B T+1]`, traced into the step."""

    function: Callable[..., Any] = eqx.field(static=True)
    longest_chunk: int = eqx.field(static=True, default=1024)

    def fetch(self, key, first, count):
        return None

    def batch(self, fetched, key, n, i):
        return jnp.asarray(self.function(jax.random.fold_in(key, n), n)).astype(jnp.int32)


class Windows(eqx.Module):
    """Windows of `length` tokens from sequences kept on the device, uniform over all starts in all sequences.

    A sequence shorter than a window is taken whole and padded with -1.
    """

    tokens: Int[Array, "N"]  # all sequences, end to end
    begin: Int[Array, "S"]  # first token of each sequence in `tokens`
    end: Int[Array, "S"]
    starts_before: Int[Array, "S"]  # number of window starts in earlier sequences
    number_of_starts: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    longest_chunk: int = eqx.field(static=True)

    def __init__(self, data: Sequences, batch_size: int, length: int):
        """Windows of a data set. **Raises:** `DataError` if no sequence has two tokens."""
        lengths = np.asarray(data.lengths)
        kept = np.flatnonzero(lengths >= 2)
        if not kept.size:
            raise DataError("Every sequence has fewer than two tokens, so there is no next token to predict.")
        lengths = lengths[kept]
        end, starts = np.cumsum(lengths), np.maximum(lengths - length + 1, 1)
        as_int = lambda a: jnp.asarray(np.asarray(a, np.int32))
        self.tokens = as_int(np.concatenate([data[int(i)] for i in kept]))
        self.begin, self.end = as_int(end - lengths), as_int(end)
        self.starts_before = as_int(np.cumsum(starts) - starts)
        self.number_of_starts, self.batch_size, self.length = int(starts.sum()), batch_size, length
        self.longest_chunk = 1024

    def fetch(self, key, first, count):
        return None

    def batch(self, fetched, key, n, i):
        key = jax.random.fold_in(key, n)
        draw = jax.random.randint(key, (self.batch_size,), 0, self.number_of_starts, dtype=jnp.int32)
        sequence = jnp.searchsorted(self.starts_before, draw, side="right") - 1
        first = self.begin[sequence] + draw - self.starts_before[sequence]
        place = first[:, None] + jnp.arange(self.length, dtype=jnp.int32)[None, :]
        inside = place < self.end[sequence][:, None]
        return jnp.where(inside, self.tokens[jnp.minimum(place, self.tokens.shape[0] - 1)], -1)


class TokenFile:
    """Windows of one long token array that stays on disk (or in the host's memory)."""

    longest_chunk = _LONGEST_FETCH

    def __init__(self, tokens: np.ndarray, batch_size: int, length: int, vocab_size: int):
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise DataError(f"A token array is one row of integers, not {tokens.dtype} of shape {tokens.shape}.")
        if len(tokens) < length:
            raise DataError(f"{len(tokens)} tokens are fewer than one window of {length}; use a shorter block.")
        self.tokens, self.batch_size, self.length, self.vocab_size = tokens, batch_size, length, vocab_size

    def __eq__(self, other: object) -> bool:
        """All are the same to a compiled step, which sees what was fetched only."""
        return isinstance(other, TokenFile)

    def __hash__(self) -> int:
        return hash(TokenFile)

    def fetch(self, key, first, count):
        chunk = np.full((_LONGEST_FETCH, self.batch_size, self.length), -1, np.int32)
        words = [int(w) for w in np.asarray(jax.random.key_data(key)).ravel()]
        for i in range(count):
            rng = np.random.default_rng([*words, first + i])
            for row, s in enumerate(rng.integers(0, len(self.tokens) - self.length + 1, self.batch_size)):
                chunk[i, row] = self.tokens[s : s + self.length]
        # A file may be larger than memory, so tokens are checked as they are read.
        if count and not 0 <= chunk[:count].min() <= chunk[:count].max() < self.vocab_size:
            wrong = chunk[:count][(chunk[:count] < 0) | (chunk[:count] >= self.vocab_size)][0]
            raise DataError(f"The token array holds token {wrong}; the model knows 0 to {self.vocab_size - 1}.")
        return chunk

    def batch(self, fetched, key, n, i):
        return fetched[i]


Source = _Generated | Windows | TokenFile


def check_tokens(data: Sequences | np.ndarray, vocab_size: int, missing: bool) -> None:
    """**Raises:** `DataError` for sequences that a model cannot read."""
    if isinstance(data, Sequences) and not data.is_tokens:
        raise DataError("The data are observations, not tokens; a GPT reads tokens.")
    values = data.values if isinstance(data, Sequences) else data
    highest = int(values.max(initial=0))
    if highest >= vocab_size:
        raise DataError(f"The data hold token {highest} and the model knows 0 to {vocab_size - 1}.")
    if not missing and (data.has_gaps if isinstance(data, Sequences) else bool((values < 0).any())):
        raise DataError("The data have missing tokens; build the model with GPTConfig(..., missing=True).")


def source_of(data: Any, batch_size: int, length: int, vocab_size: int, missing: bool) -> Source:
    """The source behind whatever a user passes as `data`; see `train_gpt`. **Raises:** `DataError`."""
    if isinstance(data, (str, os.PathLike)):
        return TokenFile(open_tokens(data), batch_size, length, vocab_size)
    if callable(data):
        return _Generated(data)
    found = converted(data, "tokens")
    if isinstance(found, Sequences):
        check_tokens(found, vocab_size, missing)
        return Windows(found, batch_size, length)
    found = np.asarray(found)
    if found.dtype == object or not found.ndim:
        raise ConfigurationError(f"data is a {type(data).__name__}; give Sequences, a function, an array or a path.")
    return TokenFile(found, batch_size, length, vocab_size)
