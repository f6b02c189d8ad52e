"""Compiled functions are let go before a process has used up its memory maps."""

import gc
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from ._results import is_traced

MOST_MAPS = 40_000  # of the 65 530 that Linux allows a process; without one to spare, XLA's compiler crashes
_MAPS = Path("/proc/self/maps")
_looked = 0.0


def keep_few() -> None:
    """Forget JAX's compiled functions where they hold so many maps that the next ones could crash; they are compiled again
    when they are called. Verbs that compile for new shapes call this before; it looks once a second, never while tracing."""
    global _looked
    if time.monotonic() - _looked < 1 or not _MAPS.exists() or is_traced(jnp.zeros(())):
        return
    _looked = time.monotonic()
    if _MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
