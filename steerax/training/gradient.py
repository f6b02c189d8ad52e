"""Train a GPT by stochastic gradients: `train_gpt`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from .._bounds import COUNT, COUNT_OR_ZERO, POSITIVE, bounded
from .._errors import ConfigurationError
from .._results import RESULTS
from ..data.sequences import Sequences
from ..maths.keys import as_key
from ..runs import loop
from ..runs.files import content_hash
from ..runs.folder import RunFolder
from ..runs.models import fill, named_leaves
from ..transformer.gpt import GPT, GPTConfig
from . import throughput
from .batches import Source, source_of
from .evaluate import HeldOut
from .loss import PRECISIONS
from .optimizer import adamw, learning_rate_for
from .step import Chunk, Step, parts_for_cache, run_chunk


class TrainingRun(eqx.Module):
    """What `train_gpt` returns.

    **Attributes:** `model`, after the last step; `losses` [steps], nats per scored token of each step's batch before
    its update; `step`, how many steps were made; `held_out` [n 2], steps and losses on held-out data; `best_model`,
    the one with the lowest held-out loss (`model` without held-out data); `optimizer_state`; `result`, a member of
    `RESULTS`: `successful`, `stopped` (by a hook, such as the early stop), `interrupted` (Ctrl-C) or `diverged` (a loss that
    is not finite).
    """

    model: GPT
    losses: np.ndarray
    step: int
    held_out: np.ndarray
    best_model: GPT
    optimizer_state: Any
    result: RESULTS


@bounded(
    steps=COUNT_OR_ZERO,
    batch_size=COUNT,
    learning_rate=POSITIVE,
    accumulate=COUNT,
    patience=COUNT,
    every=COUNT,
    save_every=COUNT,
)
def train_gpt(
    gpt: GPT,
    data: Any,
    steps: int,
    key: Key[Array, ""] | int,
    optimizer: Any = None,
    *,
    batch_size: int = 64,
    learning_rate: float | None = None,
    accumulate: int | None = None,
    precision: str = "float32",
    held_out: Sequences | np.ndarray | None = None,
    patience: int | None = None,
    hooks: Sequence[loop.Hook] = (),
    every: int = 100,
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: int = 1000,
    progress: bool = True,
    devices: Sequence[Any] | None = None,
) -> TrainingRun:
    r"""Minimise the mean of $-\log p(z_{t+1}\mid z_0\dots z_t)$ over random windows of `data`.

    Batch $n$, dropout masks included, is a pure function of (key, $n$): a resumed run makes the same steps, bit for bit
    on the same device. The first token of a window is read and not scored. Ctrl-C ends the run early, with `result`
    interrupted and, with a run folder, a checkpoint.

    **Arguments:** `data`, one of: `Sequences` of tokens; a function `(key, step) -> tokens [B T+1]`, traced into the
    step; a 1-D integer array or the path of a token file (`.npy`, or `.bin` of uint16), which stays on disk. The target
    of a missing token (−1) is not scored. `key`, typed or an integer seed; `optimizer`, any optax transformation, by
    default AdamW with warm-up and cosine decay from `learning_rate` (by default that of the width). `accumulate`, parts a batch
    is taken in to save memory; `precision`, "float32" or "bfloat16" arithmetic; `held_out`, data evaluated every
    `every` steps; `patience`, evaluations without a new best before the run stops; `hooks`, called every `every` steps
    with a `Snapshot` (its state is `(model, optimizer_state)`); `run_folder`, where checkpoints go every `save_every`
    steps; `resume`, whether to continue the run in it, also for more `steps`, whose schedule the rate then follows; `devices`,
    to split each batch over.

    **Raises:** `DataError`, `ConfigurationError`, `CheckpointError` for data, settings, a run folder that do not fit.
    """
    key = as_key(key)
    source = source_of(data, batch_size, gpt.config.block_size + 1, gpt.config.vocab_size, gpt.config.missing)
    batch = _shape_of_batch(source, gpt.config.block_size)
    _check(precision)
    accumulate = _parts(batch, gpt.config, accumulate, devices)
    named = {"batch_size": batch_size, "accumulate": accumulate, "precision": precision, "optimizer": "given"}
    if optimizer is None:
        rate = learning_rate_for(gpt.config.n_embd) if learning_rate is None else learning_rate
        optimizer, named["optimizer"] = adamw(steps, rate), f"adamw {rate}"
    split = None if devices is None else NamedSharding(Mesh(np.asarray(devices), ("data",)), PartitionSpec("data"))
    state = _replicated(jax.tree.map(jnp.copy, (gpt, optimizer.init(gpt))), split)  # a chunk takes over its memory
    watch = None if held_out is None else HeldOut(held_out, patience, Path(run_folder) / "best" if run_folder else None)
    identity = _identity(gpt, data, steps, key) | named
    store = None if run_folder is None else _store(run_folder, identity, resume, state, split, save_every, watch)
    advance = _advancer(Step(optimizer, accumulate, precision, split), source, key)
    hooks = [_watch_loss, *([watch] if watch else []), *hooks]
    said = throughput.describer(gpt, batch[0] * (batch[1] - 1), devices)
    shown = {"title": "training", "shown": progress, "describe": said, "largest": source.longest_chunk}
    return _training_run(loop.run(advance, state, steps, every=every, hooks=hooks, store=store, **shown), watch)


def _shape_of_batch(source: Source, block_size: int) -> tuple[int, int]:
    """The shape of the batches of a source. **Raises:** `ConfigurationError` for one that a model cannot read."""
    key = jax.random.key(0)
    batch = lambda fetched, n: source.batch(fetched, key, n, n)
    shape = jax.eval_shape(batch, source.fetch(key, 0, 0), jnp.int32(0)).shape
    if len(shape) != 2 or not 2 <= shape[1] <= block_size + 1:
        raise ConfigurationError(f"Batches of shape {shape} are not [B N] tokens with N from 2 to {block_size + 1}.")
    return shape


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")


def _parts(batch: tuple[int, int], config: GPTConfig, accumulate: int | None, devices: Sequence[Any] | None) -> int:
    """The parts that a batch is taken in, by default what suits the cache of a single CPU.

    **Raises:** `ConfigurationError` if they cannot be equal on all devices.
    """
    if accumulate is None:
        alone = devices is None and jax.default_backend() == "cpu"
        accumulate = parts_for_cache(config, batch) if alone else 1
    parts = accumulate * len(devices or [None])
    if accumulate < 1 or batch[0] % parts:
        raise ConfigurationError(f"{batch[0]} sequences cannot be taken in {parts} equal parts (accumulate × devices).")
    return accumulate


def _replicated(tree: Any, split: NamedSharding | None) -> Any:
    """The tree with a copy on every device that batches are split over.

    Every process of a cluster calls it with the same values.
    """
    return tree if split is None else jax.device_put(tree, NamedSharding(split.mesh, PartitionSpec()))


def _identity(gpt: GPT, data: Any, steps: int, key: Key[Array, ""]) -> dict[str, Any]:
    """What makes two runs the same run. A function that generates data is known by its name only."""
    values = getattr(data, "values", data)
    named = values if isinstance(values, np.ndarray) else str(getattr(values, "__qualname__", values))
    return {
        "config": gpt.to_config(),
        "steps": steps,
        "key": content_hash(np.asarray(jax.random.key_data(key))),
        "initial": content_hash(*(np.asarray(leaf) for leaf in jax.tree.leaves(gpt))),
        "data": content_hash(named),
    }


def _store(
    run_folder: str | os.PathLike, identity: dict[str, Any], resume: bool, state: Any, split: NamedSharding | None,
    every: int, watch: HeldOut | None,
) -> loop.Store:  # fmt: skip
    """Where checkpoints go; `watch` takes up the evaluations of a run that is resumed."""
    folder = RunFolder(run_folder, identity, resume, jax.process_index() == 0, grows="steps")
    template = jax.eval_shape(lambda: state)
    if watch is not None and resume:
        folder.latest()  # cuts the log back to the checkpoint
        watch.restore(folder.records())
    pack = lambda state: {name: np.asarray(leaf) for name, leaf in named_leaves(state).items()}
    unpack = lambda arrays: _replicated(fill(template, arrays, str(folder.path)), split)
    return loop.Store(folder, pack, unpack, every)


def _advancer(step: Step, source: Source, key: Key[Array, ""]) -> loop.Advance:
    """`advance(state, first, count)` for the loop: fetch, run the compiled chunk, bring the losses to the host."""
    for_data = jax.random.split(key)[0]

    def advance(state, first, count):
        counters = jnp.asarray(first, jnp.int32), jnp.asarray(count, jnp.int32)
        chunk = Chunk(step, source, source.fetch(for_data, first, count), key, *counters)
        state, losses = run_chunk(chunk, state)
        return state, {"loss": np.asarray(losses)[:count]}

    return advance


def _watch_loss(snapshot: loop.Snapshot) -> dict[str, Any]:
    """Record the mean loss since the last record; end a run whose loss is not finite."""
    losses = snapshot.metrics["loss"]
    return {"loss": float(losses.mean())} | ({} if np.isfinite(losses[-1]) else {"stop": "diverged"})


def _training_run(done: loop.Finished, watch: HeldOut | None) -> TrainingRun:
    """What the loop reached, and the best model that was evaluated."""
    model, memory = done.state
    losses = done.metrics.get("loss", np.zeros(0, np.float32))
    diverged = bool(losses.size) and not np.isfinite(losses[-1])
    return TrainingRun(
        model=model,
        losses=losses,
        step=done.step,
        held_out=np.asarray(watch.losses if watch else [], np.float64).reshape(-1, 2),
        best_model=watch.best_model if watch and watch.best_model is not None else model,
        optimizer_state=memory,
        result=RESULTS.diverged if diverged else done.result,
    )
