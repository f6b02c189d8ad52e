"""What happens in each layer during training: a hook that writes one record per call."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..runs.loop import Snapshot
from ..transformer.gpt import GPT
from .loss import loss_and_gradient

# More quantities per layer, from the model and the probe batch [B T+1]: name -> array [L] (costates, stationarity, …).
_Probe = Callable[[GPT, Int[Array, "B N"]], dict[str, Float[Array, "..."]]]


def _norm_per_layer(gpt: GPT) -> Float[Array, "L"]:
    r"""$|\theta_l|_2$ of every block, all of its parameters together."""
    leaves = [leaf.astype(jnp.float32).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gpt.blocks)]
    return jnp.sqrt(sum((leaf**2).sum(-1) for leaf in leaves))


class Telemetry:
    """Per layer, on a fixed probe batch: the norm of the gradient, of the weights, and update over weight.

    The update is what the optimiser would do with the probe's gradient in its present state: its norm over that of
    the weights is the relative step of the layer, which healthy runs keep near 1e-3.

    **Arguments:** `tokens` int `[B T+1]`, the probe; `optimizer`, the one the run uses; `path` of a JSONL file (`None`:
    only the run folder's log); `probes`, functions `(gpt, tokens) -> {name: array}` whose results join the record:
    the place for costates and stationarity. Give it to `train_gpt(..., hooks=[telemetry])`.
    """

    def __init__(
        self,
        tokens: Int[Array, "B N"] | Int[np.ndarray, "B N"],
        optimizer: Any,
        path: str | os.PathLike | None = None,
        probes: tuple[_Probe, ...] = (),
    ):
        self.tokens, self.path, self.probes = jnp.asarray(tokens, jnp.int32), path, probes

        @eqx.filter_jit
        def measure(gpt, memory, tokens):
            loss, gradient = loss_and_gradient(gpt, tokens, jax.random.key(0))
            update, _ = optimizer.update(gradient, memory, gpt)
            weight = _norm_per_layer(gpt)
            return {
                "probe_loss": loss,
                "gradient_norm": _norm_per_layer(gradient),
                "weight_norm": weight,
                "update_ratio": _norm_per_layer(update) / weight,
            }

        self._measure = measure

    def __call__(self, snapshot: Snapshot) -> dict[str, Any]:
        gpt, memory = snapshot.state
        found = self._measure(gpt, memory, self.tokens)
        for probe in self.probes:
            found |= probe(gpt, self.tokens)
        record = {name: np.asarray(value).tolist() for name, value in found.items()}
        if self.path is not None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": snapshot.step, **record}) + "\n")
        return record
