"""How fast a training run goes: tokens per second and the share of the device's peak arithmetic (MFU)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..transformer.gpt import GPT

# dense bfloat16 peak in FLOP/s by the name JAX gives a device (vendors' data sheets)
_PEAK = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "TPU v4": 275e12, "TPU v5p": 459e12}


def flops_per_token(gpt: GPT) -> float:
    """FLOPs of a training step per token: $6N+12LDT$, with $N$ the parameters without position embeddings.

    Two per weight forward and four backward, and the same for the two products of attention over $T$ keys
    (PaLM, arXiv 2204.02311, appendix B; recomputation is not counted).
    """
    c = gpt.config
    placed = 0 if gpt.position_embedding is None else gpt.position_embedding.size
    return 6.0 * (gpt.n_parameters - placed) + 12.0 * c.n_layer * c.n_embd * c.block_size


def describer(
    gpt: GPT, tokens_per_step: int, devices: Sequence[Any] | None
) -> Callable[[dict[str, np.ndarray], float], str]:
    """The text beside the progress bar, from the metrics of a chunk and the seconds per step."""
    devices = jax.devices()[:1] if devices is None else devices
    work, kind = flops_per_token(gpt), devices[0].device_kind
    peak = next((peak * len(devices) for name, peak in _PEAK.items() if name in kind), None)  # unknown of processors

    def describe(metrics: dict[str, np.ndarray], seconds: float) -> str:
        rate = tokens_per_step / max(seconds, 1e-9)
        text = f"loss {metrics['loss'].mean():.4f}, {rate:,.0f} tokens/s"
        return text if peak is None else f"{text}, MFU {rate * work / peak:.0%}"

    return describe
