"""Data from a process."""

from typing import Any

import jax
import numpy as np

from .._bounds import COUNT, COUNT_OR_ZERO, bounded
from ..data.sequences import Sequences
from ..maths.keys import as_key


@bounded(number=COUNT, length=COUNT_OR_ZERO)
def sample_batch(process: Any, key, number: int, length: int):
    """`number` independent sequences of a process, as one array `[B T]` (observations `[B T p]`).

    A pure function of the key (or seed) that stays on the device, so a training step can draw its own fresh data inside `jit`:
    `jax.jit(lambda key: sample_batch(process, key, 64, 65))`.
    """
    return jax.vmap(lambda k: process.sample(k, length)[1])(jax.random.split(as_key(key), number))


_sample_batch = jax.jit(sample_batch, static_argnums=(2, 3))


@bounded(number=COUNT, length=COUNT_OR_ZERO)
def sample_sequences(process: Any, key, number: int, length: int) -> Sequences:
    """`number` independent sequences of a process as a data set, with the vocabulary of the process if it has one."""
    values = np.asarray(_sample_batch(process, as_key(key), number, length))
    return Sequences.from_arrays(list(values), vocabulary=getattr(process, "vocabulary", None))
