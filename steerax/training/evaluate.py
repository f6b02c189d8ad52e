"""The loss on data that is not trained on, and when to stop."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError
from ..data.sequences import Sequences
from ..runs import models
from ..runs.loop import Snapshot
from ..transformer.gpt import GPT
from .batches import check_tokens
from .loss import negative_log_likelihoods


def consecutive_windows(data: Sequences | np.ndarray, block_size: int) -> np.ndarray:
    """Windows int32 [n block_size+1] that score every token but the first of each sequence once; padded with -1.

    Neighbouring windows share one token: the last target of one is the first input of the next.
    """
    parts = []
    for tokens in data if isinstance(data, Sequences) else [np.asarray(data)]:
        for start in range(0, len(tokens) - 1, block_size):
            part = np.full(block_size + 1, -1, np.int32)
            part[: len(tokens) - start] = tokens[start : start + block_size + 1]
            parts.append(part)
    return np.stack(parts)


@eqx.filter_jit
def _summed(gpt: GPT, tokens: Int[Array, "B N"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The summed loss and the number of scored tokens."""
    return negative_log_likelihoods(gpt, tokens).sum(), (tokens[:, 1:] >= 0).sum(dtype=jnp.int32)


def evaluate(gpt: GPT, data: Sequences | np.ndarray, batch_size: int = 64) -> float:
    """Mean nats per scored token over all of `data`, in consecutive windows of the block size.

    The first token of every sequence is not scored; a token early in a window is predicted from few tokens, as in
    training.

    **Raises:** `DataError` for data the model cannot read.
    """
    check_tokens(data, gpt.config.vocab_size, gpt.config.missing)
    windows = consecutive_windows(data, gpt.config.block_size)
    padding = np.full((-len(windows) % batch_size, windows.shape[1]), -1, np.int32)
    total, number = 0.0, 0
    for batch in np.concatenate([windows, padding]).reshape(-1, batch_size, windows.shape[1]):
        loss, scored = _summed(gpt, jnp.asarray(batch))
        total, number = total + float(loss), number + int(scored)
    return total / max(number, 1)


class HeldOut:
    """A hook that evaluates on held-out data, keeps the best model, and stops when it no longer improves.

    **Arguments:** `data`; `patience`, evaluations without a new best before the run stops (`None`: never); `folder`,
    where the best model is kept, so that a resumed run knows it.

    **Attributes:** `losses`, a list of (step, loss); `best_model`.
    """

    def __init__(self, data: Sequences | np.ndarray, patience: int | None = None, folder: Path | None = None):
        if patience is not None and patience < 1:
            raise ConfigurationError(f"patience is {patience}; it must be at least 1, or None.")
        self.data, self.patience, self.folder = data, patience, folder
        self.losses: list[tuple[int, float]] = []
        self.best_model: GPT | None = None

    def restore(self, records: list[dict[str, Any]]) -> None:
        """Take up the evaluations of an earlier part of the run from its log."""
        self.losses = [(r["step"], r["held_out"]) for r in records if "held_out" in r]
        if self.losses and self.folder is not None and (self.folder / "model.json").exists():
            self.best_model = models.load(self.folder)

    def __call__(self, snapshot: Snapshot) -> dict[str, Any]:
        gpt = snapshot.state[0]
        loss = evaluate(gpt, self.data)
        earlier = [value for _, value in self.losses]
        self.losses.append((snapshot.step, loss))
        if loss < min(earlier, default=np.inf):
            self.best_model = jax.tree.map(jnp.copy, gpt)
            if self.folder is not None:
                models.save(gpt, self.folder, overwrite=True)
        since_best = len(earlier) - int(np.argmin([*earlier, loss]))
        return {"held_out": loss, "stop": self.patience is not None and since_best >= self.patience}
