"""Learning a model of lags by gradients: its rows as logits, and its likelihood (see `fit_by_gradient`)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...models.lagged import LaggedHMM
from .filter import steps_of
from .kernels.recursions import filter_linear

SMALLEST = 1e-6  # probabilities below it start at it
_ROWS = ("initial", "transition", "emission", "weights", "emission_weights")


class LaggedLogits(eqx.Module):
    """A `LaggedHMM` by the logits of its rows, which are free, and its scores. Lags of states train like lags of tokens."""

    rows: dict[str, Float[Array, "..."]]
    scores: dict[str, Float[Array, "..."]]
    reads: str = eqx.field(static=True)
    window: int = eqx.field(static=True)

    @classmethod
    def of(cls, model: LaggedHMM) -> "LaggedLogits":
        given = {name: getattr(model, name) for name in _ROWS}
        rows = {name: jnp.log(jnp.maximum(p, SMALLEST)) for name, p in given.items() if p is not None}
        scores = {name: getattr(model, name) for name in ("attention", "emission_attention")}
        return cls(rows, {name: a for name, a in scores.items() if a is not None}, model.reads, model.window)

    def model(self) -> LaggedHMM:
        arrays: dict[str, Any] = {name: jax.nn.softmax(a) for name, a in self.rows.items()} | self.scores
        return LaggedHMM(**arrays, reads=self.reads, window=self.window)


def log_likelihoods(model: LaggedHMM, tokens: Int[Array, "T B"]) -> Float[Array, "T B"]:
    r"""$\log q_t$ of every token, by the linear recursion."""
    return filter_linear(model.initial, *steps_of(model, tokens))[1]
