"""Learning a model of numbers by gradients: its parameters as numbers without bounds, and its likelihood (see `fit_by_gradient`)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...data.convert import as_sequences
from ...data.sequences import Sequences
from ...models.emissions.base import AbstractEmission, logs
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition, as_transition
from ..hmm.kernels.scaled import filter_traced
from .inputs import with_inputs
from .observations import as_observations, numbers_of, seen_chain


class SeriesLogits(eqx.Module):
    """A hidden Markov model of numbers by the logits of its rows and the `free` parameters of its emission; `kind` is the emission
    with shapes in place of arrays."""

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Any
    kind: AbstractEmission = eqx.field(static=True)
    channels: tuple[str, ...] | None = eqx.field(static=True)

    @classmethod
    def of(cls, model: HiddenMarkovModel) -> "SeriesLogits":
        kind = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), model.emission)
        rows = logs(model.initial), logs(as_transition(model.transition).free)
        return cls(*rows, model.emission.free, kind, model.channels)

    def model(self) -> HiddenMarkovModel:
        mu, A = jax.nn.softmax(self.initial), jax.nn.softmax(self.transition)
        emission = self.kind.with_free(self.emission)
        return HiddenMarkovModel(mu, A if A.ndim == 2 else OrderKTransition(A), emission, channels=self.channels)


def read_series(model: Any, data: Any) -> tuple[Sequences, Float[Array, "B T p"]]:
    """The data, and their observations. **Raises:** `DataError`, as `as_observations`."""
    data = with_inputs(as_sequences(data, "observations"), model.emission.n_inputs)
    return data, jnp.swapaxes(jnp.asarray(as_observations(model, data)), 0, 1)


def mean_series_loss(model: HiddenMarkovModel, z: Float[Array, "T B p"]) -> Float[Array, ""]:
    """Minus the log-likelihood, in nats per observation."""
    chain, factors = seen_chain(model, z)
    log_likelihood = filter_traced(*chain.arrays, numbers_of(z, model.emission))[1].sum() + factors.sum()
    return -log_likelihood / jnp.maximum((~jnp.isnan(z[..., : model.n_channels])).any(-1).sum(), 1)
