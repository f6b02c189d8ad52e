"""The dual filter layer by layer: how many layers make it the exact filter."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ...inference.verbs import dual_filter
from ...inference.verbs import filter as exact_filter
from ...maths.nll import nll_of_probabilities
from ...models.generalised import token_columns
from .sources import Process, Source

_SEQUENCES = 64
_EQUAL = 64 * float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class ByLayers:
    """The dual filter after 0, 1, 2 … layers, from the prior.

    **Attributes:** `cross_entropy_by_layers`, nats per token on some held-out sequences, and
    `cross_entropy_of_the_filter` on the same ones; `residuals`, largest change made by each layer; `layers_needed`, after
    which the distributions along one window are those of the exact filter; `difference_to_filter`, the largest one left
    after as many layers as tokens.
    """

    difference_to_filter: float
    layers_needed: int
    cross_entropy_by_layers: Float[np.ndarray, " L1"]
    cross_entropy_of_the_filter: float
    residuals: Float[np.ndarray, " L"]


def by_layers(source: Source, hmm: Process, window: Int[np.ndarray, " T"]) -> ByLayers:
    """Losses and residuals on some held-out sequences, and the layers that a window needs."""
    some = source.held_out.select(np.arange(min(_SEQUENCES, source.held_out.number)))
    layered = dual_filter(hmm, some, layers=some.max_length, initial="prior", keep=True)
    assert layered.history is not None
    tokens = jnp.asarray(some.values[:, 1:])

    def loss(states) -> float:
        return float(nll_of_probabilities(states[:, 1:-1] @ token_columns(hmm), tokens).sum() / (tokens >= 0).sum())

    exact = exact_filter(hmm, window).predicted
    outputs = dual_filter(hmm, window, layers=len(window), initial="prior", keep=True).history
    apart = np.abs(np.asarray(outputs) - np.asarray(exact))
    reached = np.flatnonzero(apart.sum(-1).max(-1) <= _EQUAL)
    return ByLayers(
        difference_to_filter=float(apart[-1].max()),
        layers_needed=int(reached[0]) if len(reached) else len(window),
        cross_entropy_by_layers=np.array([loss(states) for states in layered.history]),
        cross_entropy_of_the_filter=loss(exact_filter(hmm, some).predicted),
        residuals=np.asarray(layered.residuals),
    )
