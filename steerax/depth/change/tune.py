r"""Train on: after a change of depth, or until a network is the same at several depths.

*Flow tuning* draws the number of sub-steps of every layer anew at each training step. A network that works at $k=1$
and at $k=2$ is nearer to a flow than one that only knows its own depth, and can be run deeper without training.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._bounds import COUNT, NOT_NEGATIVE, POSITIVE, bounded
from ..._errors import ConfigurationError
from ..._results import RESULTS
from ...runs import loop
from ...training.batches import Source, source_of
from ...transformer.gpt import GPT
from ..measure.costate import token_losses
from ..measure.refinement import substeps as in_substeps
from ..measure.scoring import in_full_precision
from .grouped import GroupedGPT
from .prune import Pruned
from .resample import Resampled


class TuningRun(eqx.Module):
    """`model` after tuning; `losses` `[steps]` before each update; `result`, a member of `RESULTS`."""

    model: Any
    losses: np.ndarray
    result: RESULTS


def batch_loss(network: GPT | GroupedGPT, tokens: Int[Array, "B N"], k: int) -> Float[Array, ""]:
    """Mean loss per scored token with every layer in `k` Lie–Trotter sub-steps."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    if isinstance(network, GroupedGPT):
        X = jax.vmap(lambda t: network.hidden_states(t)[-1])(inputs)
        head = network.gpt
    else:
        layer = jax.checkpoint(lambda X, block: (in_substeps("lie_trotter", block, X, k), None))
        X = jax.vmap(lambda t: jax.lax.scan(layer, network.embed(t), network.blocks)[0])(inputs)
        head = network
    return token_losses(head, X, targets).sum() / jnp.maximum((targets >= 0).sum(), 1)


@functools.lru_cache(maxsize=64)  # the compiled step belongs to the optimiser
def _optimizer(steps: int, learning_rate: float, weight_decay: float):
    import optax

    schedule = optax.linear_schedule(learning_rate, learning_rate / 100, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay))


@eqx.filter_jit
def _step(optimizer: Any, state: tuple[Any, Any], source: Source, batch: tuple[Any, ...], k: int):
    """(network, memory of the optimiser) after a step on `source.batch(*batch)` with `k` sub-steps a layer, and the loss
    before it."""
    (network, memory), tokens = state, source.batch(*batch)
    loss, gradient = eqx.filter_value_and_grad(batch_loss)(network, tokens, k)
    updates, memory = optimizer.update(gradient, memory, network)
    return (eqx.apply_updates(network, updates), memory), loss


def _check(network: Any, substeps: Sequence[int]) -> None:
    if not substeps:
        raise ConfigurationError("Tuning needs at least one number of sub-steps.")
    for number in substeps:
        COUNT.check("a number of sub-steps", number)
    if isinstance(network, GroupedGPT) and tuple(substeps) != (1,):
        raise ConfigurationError("A grouped network is tuned with one sub-step per layer.")


@bounded(steps=COUNT, learning_rate=POSITIVE, weight_decay=NOT_NEGATIVE, batch_size=COUNT)
def tune(
    network: GPT | GroupedGPT | Resampled | Pruned,
    data: Any,
    steps: int,
    key: PRNGKeyArray,
    *,
    substeps: Sequence[int] = (1,),
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    batch_size: int = 16,
    progress: bool = True,
) -> TuningRun:
    """AdamW with a rate that falls linearly to 1 % and clipped gradients, on random windows of `data`.

    **Arguments:** `data` as for `train_gpt`; `substeps`, from which the number of sub-steps per layer is drawn for
    every step ((1,) is ordinary training; (1, 2) is flow tuning). A grouped network has only one sub-step.

    **Raises:** `ConfigurationError`, `DataError`.
    """
    inner: Any = in_full_precision(network.network if isinstance(network, Resampled | Pruned) else network)
    _check(inner, substeps)
    config = inner.config
    source = source_of(data, batch_size, config.block_size + 1, config.vocab_size, config.missing)
    optimizer = _optimizer(steps, learning_rate, weight_decay)
    for_data, for_depth = jax.random.split(key)
    depths = np.asarray(jax.random.choice(for_depth, np.asarray(substeps), (steps,)))

    def advance(state, first, count):
        fetched, losses = source.fetch(for_data, first, count), []
        for i in range(count):
            batch = fetched, for_data, jnp.int32(first + i), jnp.int32(i)
            state, loss = _step(optimizer, state, source, batch, int(depths[first + i]))
            losses.append(loss)
        return state, {"loss": np.asarray(losses)}

    done = loop.run(
        advance,
        (inner, optimizer.init(inner)),  # pyright: ignore[reportArgumentType]
        steps,
        title="tuning",
        shown=progress,
        describe=lambda metrics, seconds: f"loss {metrics['loss'].mean():.4f}",
        largest=source.longest_chunk,
    )
    losses = done.metrics["loss"]
    model = done.state[0]
    if isinstance(network, Resampled | Pruned):
        model = dataclasses.replace(network, network=model)
    finished = RESULTS.successful if np.isfinite(losses[-1]) else RESULTS.diverged
    return TuningRun(model, losses, finished if done.result == RESULTS.successful else done.result)
