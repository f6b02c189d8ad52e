"""Train a GPT by stochastic gradients: `train_gpt`."""

import os
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._errors import ConfigurationError
from .._results import RESULTS
from ..runs import loop
from ..runs.files import RunFolder, content_hash
from ..runs.models import fill, named_leaves
from ..transformer.gpt import GPT
from . import optimiser
from .batches import source_of

PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}


class TrainingRun(eqx.Module):
    """What `train_gpt` returns.

    **Attributes:** `model`, after the last step; `losses` [steps], nats per scored token of each step's batch before
    its update; `step`, how many steps were made; `optimizer_state`; `result`, a member of [`RESULTS`][]:
    `successful`, `interrupted` (Ctrl-C) or `diverged` (a loss that is not finite); `stopped`, whether a hook ended
    the run before its last step.
    """

    model: GPT
    losses: np.ndarray
    step: int
    optimizer_state: Any
    result: RESULTS
    stopped: bool


def negative_log_likelihoods(
    gpt: GPT, tokens: Int[Array, "B N"], keys: Key[Array, "B"] | None = None
) -> Float[Array, "B T"]:
    """-log p(tokens[b, t+1] | tokens[b, :t+1]) in nats, at least float32; 0 where the target is missing. T = N - 1."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = jax.vmap(lambda t, k: gpt(t, key=k))(inputs, keys)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    at_target = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(targets >= 0, jax.nn.logsumexp(logits, axis=-1) - at_target, 0)


def loss_and_gradient(
    gpt: GPT, tokens: Int[Array, "B N"], key: Key[Array, ""], accumulate: int = 1, precision: str = "float32"
) -> tuple[Float[Array, ""], GPT]:
    """Mean loss per scored token and its gradient, the batch taken in `accumulate` equal parts one after another.

    The parts are summed before dividing by the number of scored tokens, so the result does not depend on the cut
    (up to rounding). In bfloat16 the parameters are rounded for the forward and backward pass; LayerNorm statistics,
    softmax, loss and the gradient's sum stay in float32.
    """
    lower = PRECISIONS[precision]
    keys = jax.random.split(key, tokens.shape[0]) if gpt.config.dropout > 0 else None
    n_scored = jnp.maximum((tokens[:, 1:] >= 0).sum(dtype=jnp.int32), 1)

    def part(gpt, tokens, keys):
        used = gpt if lower is None else gpt.astype(lower)
        total = negative_log_likelihoods(used, tokens, keys).sum()
        return total / n_scored.astype(total.dtype)

    if accumulate == 1:
        return jax.value_and_grad(part)(gpt, tokens, keys)

    def add(carry, part_of_batch):
        return jax.tree.map(jnp.add, carry, jax.value_and_grad(part)(gpt, *part_of_batch)), None

    cut = lambda a: None if a is None else a.reshape(accumulate, -1, *a.shape[1:])
    dtype = jnp.promote_types(gpt.token_embedding.dtype, jnp.float32)
    zero = (jnp.zeros((), dtype), jax.tree.map(jnp.zeros_like, gpt))
    return jax.lax.scan(add, zero, (cut(tokens), cut(keys)))[0]


class Step(eqx.Module):
    """One training step, as a function of the state, the tokens and a key."""

    optimizer: Any = eqx.field(static=True)
    accumulate: int = eqx.field(static=True)
    precision: str = eqx.field(static=True)
    sharding: Any = eqx.field(static=True)

    def __call__(self, state: tuple[GPT, Any], tokens: Int[Array, "B N"], key: Key[Array, ""]):
        """(model, optimiser state) after the step, and the loss before it."""
        gpt, memory = state
        if self.sharding is not None:
            tokens = jax.lax.with_sharding_constraint(tokens, self.sharding)
        loss, gradient = loss_and_gradient(gpt, tokens, key, self.accumulate, self.precision)
        updates, memory = self.optimizer.update(gradient, memory, gpt)
        return (eqx.apply_updates(gpt, updates), memory), loss


class Chunk(eqx.Module):
    """`count` steps from step `first`. The count is traced, so every chunk runs the same compiled step."""

    step: Step
    source: Any
    fetched: Any
    key: Key[Array, ""]
    first: Int[Array, ""]
    count: Int[Array, ""]


@eqx.filter_jit(donate="all-except-first")
def run_chunk(chunk: Chunk, state: tuple[GPT, Any]) -> tuple[tuple[GPT, Any], Float[Array, "n"]]:
    """The state after the chunk and the losses of its steps (the rest of the buffer is 0)."""
    for_data, for_dropout = jax.random.split(chunk.key)

    def step(i, carry):
        state, losses = carry
        n = chunk.first + i
        tokens = chunk.source.batch(chunk.fetched, for_data, n, i)
        state, loss = chunk.step(state, tokens, jax.random.fold_in(for_dropout, n))
        return state, losses.at[i].set(loss)

    dtype = jnp.promote_types(state[0].token_embedding.dtype, jnp.float32)
    losses = jnp.zeros(chunk.source.longest_chunk, dtype)
    return jax.lax.fori_loop(jnp.int32(0), chunk.count, step, (state, losses))


def train_gpt(
    gpt: GPT,
    data: Any,
    steps: int,
    key: Key[Array, ""],
    optimizer: Any = None,
    *,
    batch_size: int = 64,
    learning_rate: float | None = None,
    accumulate: int = 1,
    precision: str = "float32",
    hooks: Sequence[loop.Hook] = (),
    every: int = 100,
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: int = 1000,
    progress: bool = True,
    devices: Sequence[Any] | None = None,
) -> TrainingRun:
    """Minimise the mean of -log p(token t+1 | tokens up to t) over random windows of `data`.

    Batch n, dropout masks included, is a pure function of (key, n): a resumed run makes the same steps, bit for bit on
    the same device. The first token of a window is read and not scored.

    **Arguments:** `data`, one of: `Sequences` of tokens (windows drawn uniformly over all starts); a function
    `(key, step) -> tokens [B T+1]`, traced into the step, for fresh sequences of a process; a 1-D integer array or
    the path of a token file (`.npy`, or `.bin` of uint16), which stays on disk. A token -1 is missing: its target is
    not scored. `optimizer`, any optax transformation; by default AdamW with warm-up and cosine decay from
    `learning_rate` (by default what suits the width). `batch_size`, where the data do not fix it; `accumulate`, parts
    a batch is taken in to save memory; `precision`, "float32" or "bfloat16" arithmetic (parameters stay float32);
    `hooks`, called every `every` steps with a [`Snapshot`][] (its state is `(model, optimizer_state)`, its metrics
    hold the losses); `run_folder`, where checkpoints go every `save_every` steps; `resume`, whether to continue a run
    found there; `progress`, a bar on a terminal; `devices`, to split each batch over.

    **Returns:** [`TrainingRun`][]. Ctrl-C ends the run after the current steps with `result` interrupted and, with a
    run folder, a checkpoint. Raises `DataError`, `ConfigurationError`, `CheckpointError`.
    """
    source = source_of(data, batch_size, gpt.config.block_size + 1, gpt.config.vocab_size, gpt.config.missing)
    check(gpt, steps, batch_size, accumulate, precision, devices)
    if optimizer is None:
        optimizer = optimiser.adamw(steps, learning_rate or optimiser.learning_rate_for(gpt.config.n_embd))
    step = Step(optimizer, accumulate, precision, None)
    # The chunk gives its memory back to the state it returns, so it works on a copy of the caller's model.
    state = jax.tree.map(jnp.copy, (gpt, optimizer.init(gpt)))

    def advance(state, first, count):
        fetched = source.fetch(jax.random.split(key)[0], first, count)
        chunk = Chunk(step, source, fetched, key, jnp.asarray(first, jnp.int32), jnp.asarray(count, jnp.int32))
        state, losses = run_chunk(chunk, state)
        return state, {"loss": np.asarray(losses)[:count]}

    store = None
    if run_folder is not None:
        identity = run_identity(gpt, data, steps, key, batch_size, accumulate, precision)
        folder = RunFolder(run_folder, identity, resume)
        template = jax.eval_shape(lambda: state)
        store = loop.Store(folder, pack, lambda arrays: fill(template, arrays, str(folder.path)), save_every)
    done = loop.run(
        advance,
        state,
        steps,
        every=every,
        hooks=[log_loss, *hooks, stop_if_diverged],
        store=store,
        title="training",
        shown=progress,
        describe=lambda metrics, seconds: f"loss {metrics['loss'].mean():.4f}",
        largest=source.longest_chunk,
    )
    model, memory = done.state
    losses = done.metrics.get("loss", np.zeros(0, np.float32))
    diverged = bool(losses.size) and not np.isfinite(losses[-1])
    result = (
        RESULTS.diverged if diverged else RESULTS.interrupted if done.reason == "interrupted" else RESULTS.successful
    )
    return TrainingRun(model, losses, done.step, memory, result, done.reason == "stopped" and not diverged)


def check(gpt: GPT, steps: int, batch_size: int, accumulate: int, precision: str, devices) -> None:
    """Raise `ConfigurationError` for a setting that cannot work."""
    if steps < 0:
        raise ConfigurationError(f"steps is {steps}; it cannot be negative.")
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if accumulate < 1 or batch_size < 1 or batch_size % accumulate:
        raise ConfigurationError(f"A batch of {batch_size} cannot be taken in {accumulate} equal parts.")


def pack(state: tuple[GPT, Any]) -> dict[str, np.ndarray]:
    """The arrays of a training state by name."""
    return {name: np.asarray(leaf) for name, leaf in named_leaves(state).items()}


def run_identity(
    gpt: GPT, data: Any, steps: int, key, batch_size: int, accumulate: int, precision: str
) -> dict[str, Any]:
    """What makes two runs the same run."""
    values = getattr(data, "values", data if isinstance(data, np.ndarray) else str(data))
    return {
        "config": gpt.to_config(),
        "steps": steps,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "precision": precision,
        "key": content_hash(np.asarray(jax.random.key_data(key))),
        "initial": content_hash(*(np.asarray(leaf) for leaf in jax.tree.leaves(gpt))),
        "data": content_hash(values),
    }


def log_loss(snapshot: loop.Snapshot) -> dict[str, Any]:
    """Record the mean loss since the last record."""
    return {"loss": float(snapshot.metrics["loss"].mean())}


def stop_if_diverged(snapshot: loop.Snapshot) -> str | None:
    """End a run whose loss is not finite."""
    return None if np.isfinite(snapshot.metrics["loss"][-1]) else "stop"
