"""Compiled functions are let go before a process has used up its memory maps; a forked process says why it cannot compute."""

import gc
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from ._errors import ConfigurationError
from ._results import is_traced

MOST_MAPS = 40_000  # of the 65 530 that Linux allows a process; without one to spare, XLA's compiler crashes
_MAPS = Path("/proc/self/maps")
_looked = 0.0


_forked = False  # from a process in which JAX had started: its threads are not there any more


def _note_fork() -> None:
    global _forked
    from jax._src import xla_bridge  # there is no public way to ask

    _forked = _forked or getattr(xla_bridge, "backends_are_initialized", bool)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def keep_few() -> None:
    """Forget JAX's compiled functions where they hold so many maps that the next ones could crash; they are compiled again
    when they are called. Verbs that compile for new shapes call this before; it looks once a second, never while tracing.

    **Raises:** `ConfigurationError` in a process that was forked after JAX had started.
    """
    global _looked
    if _forked:
        raise ConfigurationError(
            "This process was forked after JAX had started, and in such a process JAX never returns. Start processes by "
            "multiprocessing.get_context('spawn'), or fork before the first computation."
        )
    if time.monotonic() - _looked < 1 or not _MAPS.exists() or is_traced(jnp.zeros(())):
        return
    _looked = time.monotonic()
    if _MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
