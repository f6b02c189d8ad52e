"""Tokens and targets as the analysis takes them, and the mean loss of any network on them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError
from ...data.convert import converted
from ...data.sequences import Sequences
from ...maths.nll import nll


def check_architecture(network: Any) -> None:
    """Raises `ConfigurationError` for a GPT without MLP, LayerNorm or learned positions, which depth does not know."""
    if variant := getattr(getattr(network, "config", None), "variant", ""):
        raise ConfigurationError(f"The analysis of depth reads the architecture of GPT-2; this network has {variant}.")


def in_full_precision(network: Any) -> Any:
    """The same network with parameters of at least float32, which hold those of a narrower type exactly: as every function of
    this wing takes it.

    **Raises:** `ConfigurationError` for an architecture that the wing does not know.
    """
    check_architecture(network)

    def wide(leaf):
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(wide, network)


def scored_tokens(network: Any, data: Any, targets: Any = None) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """Inputs and targets int32 `[B T]`; a target of −1 is not scored.

    Without targets every token after the first is predicted: the targets are the tokens shifted by one, and the last
    position predicts nothing. A row of block_size + 1 tokens loses its last one as an input. Padding (−1 to the end of
    a row) is read as token 0 and never scored, which no earlier position can see.

    **Raises:** `DataError` for observations, wrong shapes, foreign tokens, gaps the model has no input row for, rows
    longer than the model reads, or nothing to predict.
    """
    config = network.config
    data = converted(data, "tokens")
    tokens = np.asarray(data.values if isinstance(data, Sequences) else data)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise DataError(f"The tokens are {tokens.dtype} of shape {tokens.shape}; the analysis takes integers [B T].")
    if targets is None:
        last = np.full((len(tokens), 1), -1, tokens.dtype)
        targets = np.concatenate([tokens[:, 1:], last], axis=1)
        if tokens.shape[1] == config.block_size + 1:
            tokens, targets = tokens[:, :-1], targets[:, :-1]
    targets = np.asarray(targets)
    if targets.shape != tokens.shape or targets.dtype.kind not in "iu":
        raise DataError(f"The targets have shape {targets.shape}; they need that of the tokens, {tokens.shape}.")
    if tokens.shape[1] > config.block_size:
        raise DataError(
            f"A row has {tokens.shape[1]} tokens and the model reads {config.block_size}; cut it into windows."
        )
    for name, values in (("token", tokens), ("target", targets)):
        if values.size and values.max() >= config.vocab_size:
            raise DataError(f"There is a {name} {values.max()} and the model knows 0 to {config.vocab_size - 1}.")
    if not (targets >= 0).any():
        raise DataError("There is nothing to predict: no position has a target.")
    if not config.missing:
        later = np.flip(np.maximum.accumulate(np.flip(tokens >= 0, 1), axis=1), 1)  # a token stands here or later
        if ((tokens < 0) & later).any():
            raise DataError("The tokens have gaps; the model was built without an input row for missing tokens.")
        tokens = np.maximum(tokens, 0)
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(np.maximum(targets, -1), jnp.int32)


@eqx.filter_jit
def summed_loss(network: Callable, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Float[Array, ""]:
    """Summed −log p(target) in nats of a network `tokens [T] -> logits [T V]`, one sequence at a time."""

    def one(now):
        t, y = now
        return nll(network(t), y).sum()

    return jax.lax.map(one, (tokens, targets), batch_size=8).sum()


def mean_loss(network: Any, data: Any, targets: Any = None) -> float:
    """Mean nats per scored token of a GPT, a `GroupedGPT` or a `Resampled` network, in float32 at least. Raises
    `DataError`."""
    inner = in_full_precision(getattr(network, "network", network))
    tokens, targets = scored_tokens(inner, data, targets)
    return float(summed_loss(inner, tokens, targets)) / int((np.asarray(targets) >= 0).sum())
