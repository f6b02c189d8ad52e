"""Watch depth while a GPT trains: a hook for the training loop."""

import json
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..._errors import DataError
from ...training.telemetry import Telemetry
from ...transformer.gpt import GPT
from .costate import backward, half_step_states, token_losses
from .scoring import check_architecture, scored_tokens
from .stationarity import from_gradients


def telemetry(tokens: Any, optimizer: Any, path: str | os.PathLike | None = None, batches: int = 8) -> Telemetry:
    r"""A hook for `train_gpt(..., optimizer=optimizer, hooks=[telemetry(tokens, optimizer, "depth.jsonl")])`.

    At each call it records what `Telemetry` does (norms of gradient and weights, update over weight) and per layer:
    `costate_norm` `[L+1]`, $|\nabla_{X_l}\ell|$ of the whole probe; `signal` `[L]`, the unbiased
    $|\mathbb E\,\partial\ell/\partial\theta_l|^2$, so that $L^2$ times it is the squared stationarity residual
    $|\partial_\theta H_l|^2$; `signal_se`; `batch`, $\mathbb E|g|^2$ of one batch; `meter`, signal over batch (near 0:
    only noise is left to learn from); `effective_decay`, $-\langle g,\theta\rangle/|\theta|^2$.

    **Arguments:** `tokens` int `[B N]`, a fixed probe, best held out; it is cut into `batches` disjoint ones, and about
    three forward and backward passes over it are made at each call. `optimizer`, the one of the run; `path` of a file
    with one JSON record per line, for `write_html`. **Raises:** `DataError` for fewer sequences than batches.
    """
    tokens = np.asarray(tokens)
    size = len(tokens) // max(batches, 1)
    if size < 1 or batches < 2:
        raise DataError(
            f"Telemetry needs at least two batches of sequences; {len(tokens)} sequences cannot be cut into {batches}."
        )

    def probe(gpt: GPT, tokens: Int[Array, "B N"]) -> dict[str, Any]:
        check_architecture(gpt)
        parts = [_examine(gpt, *scored_tokens(gpt, tokens[i * size : (i + 1) * size])) for i in range(batches)]
        squares, gradients = zip(*parts, strict=True)
        found = from_gradients(gpt.blocks, [jax.tree.map(np.asarray, g) for g in gradients])
        return {
            "costate_norm": np.sqrt(np.sum(squares, axis=0)) / batches,
            "signal": found.signal,
            "signal_se": found.se,
            "batch": found.batch,
            "meter": found.meter,
            "effective_decay": found.effective_decay,
        }

    return Telemetry(tokens[: size * batches], optimizer, path, (probe,))


@eqx.filter_jit
def _examine(gpt: GPT, tokens: Int[Array, "b T"], targets: Int[Array, "b T"]) -> tuple[Array, Any]:
    r"""$|P_l|^2$ `[L+1]` of one batch, and the gradient of its mean loss in the blocks."""
    X = half_step_states(gpt, tokens)
    N = jnp.maximum((targets >= 0).sum(), 1)
    P = jax.grad(lambda X: token_losses(gpt, X, targets).sum() / N)(X[-1])
    found = backward(gpt, X, P, gradient=True)
    return (found.costates[::2] ** 2).sum((1, 2, 3)), found.gradient


PER_LAYER = ("costate_norm", "signal", "meter", "update_ratio")


def history(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """What a `telemetry` hook wrote: `step` `[n]` and every quantity of `PER_LAYER` `[n L]` (costates `[n L+1]`).

    Other records in the file (a run folder's progress.jsonl holds several kinds) are left out; of a step that was made
    twice, after a resumption, the last record counts. **Raises:** `DataError` if the file holds none.
    """
    found = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The telemetry in {path} cannot be read ({error}).") from None
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # torn by a crash
            continue
        if isinstance(record, dict) and {"step", *PER_LAYER} <= set(record):
            found[record["step"]] = record
    if not found:
        raise DataError(
            f"{path} holds no telemetry of depth; write it with steerax.depth.measure.telemetry while training."
        )
    steps = sorted(found)
    values = {name: np.asarray([found[step][name] for step in steps], float) for name in PER_LAYER}
    return {"step": np.asarray(steps)} | values
