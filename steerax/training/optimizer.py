"""The optimiser people train GPTs with: AdamW, warm-up, cosine decay, clipped gradients."""

import functools
from typing import Any

import jax

from .._bounds import POSITIVE
from .._errors import ConfigurationError


def learning_rate_for(n_embd: int) -> float:
    r"""A peak rate that suits a width, $0.01\,(8/D)^{0.6}$: 1e-2 at width 8, 1e-3 at 384, 6e-4 at 768.

    A rule of thumb through the settings that work for the two-cycle process and nanoGPT's, not a law.
    """
    return 0.01 * (8 / n_embd) ** 0.6


def decayed(parameters: Any) -> Any:
    """True for the matrices (`weight` of the linear maps, embeddings), False for biases and LayerNorms."""

    exempt = lambda name: name == "bias" or name.startswith("ln_")
    decays = lambda path, leaf: not any(exempt(getattr(p, "name", "")) for p in path)
    return jax.tree_util.tree_map_with_path(decays, parameters)


@functools.lru_cache(maxsize=64)
def adamw(
    steps: int,
    learning_rate: float,
    *,
    final: float | None = None,
    warmup: int | None = None,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.95,
):
    """AdamW with linear warm-up, cosine decay and clipping of the global gradient norm: an optax transformation,
    the same one for the same arguments, so that runs alike share what is compiled.

    **Arguments:** `steps` of the whole run; `learning_rate`, the peak; `final` rate (a two-hundredth of the peak);
    `warmup` steps (2 % of the run, at most 100); `weight_decay`, decoupled, on matrices only; `clip`, the largest
    global norm.

    **Raises:** `ConfigurationError` for a rate or a warm-up that cannot be.
    """
    import optax

    warmup = min(100, steps // 50) if warmup is None else warmup
    POSITIVE.check("learning_rate", learning_rate)
    if not 0 <= warmup < max(steps, 1):
        raise ConfigurationError(f"A warm-up of {warmup} steps does not fit into {steps} steps; make it shorter.")
    first, last = 0.0 if warmup else learning_rate, learning_rate / 200 if final is None else final
    schedule = optax.warmup_cosine_decay_schedule(first, learning_rate, warmup, max(steps, 1), last)
    descent = optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(clip), descent)
