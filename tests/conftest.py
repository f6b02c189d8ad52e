"""Tests assert mathematics: in float64, with fixed keys, with every warning an error."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

_hook = install_import_hook("steerax", "beartype.beartype")
_hook.__enter__()

import jax  # noqa: E402
import pytest  # noqa: E402

from steerax import _compiled  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# most of the time goes into compiling: what one run, or one worker, has compiled the next ones take from here
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Every compiled function keeps some memory maps, of which Linux allows 65 530: beyond, a compiler crashes."""
    yield
    _compiled.keep_few()


@pytest.fixture
def key():
    """A fixed typed random key."""
    return jax.random.key(20260311)
