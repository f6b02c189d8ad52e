"""Learning a hidden Markov model of tokens by gradients: its rows as logits (see `fit_by_gradient`)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition, as_transition
from .network import SMALLEST


class Logits(eqx.Module):
    """A hidden Markov model by the logits of its rows, which are free."""

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "b V"]

    @classmethod
    def of(cls, hmm: HiddenMarkovModel) -> "Logits":
        mu, A, C = hmm.arrays
        free = as_transition(A).free
        return cls(*(jnp.log(jnp.maximum(a, SMALLEST)) for a in (mu, free, C[: free.shape[-1]])))

    def model(self) -> HiddenMarkovModel:
        mu, A, C = (jax.nn.softmax(a) for a in (self.initial, self.transition, self.emission))
        if A.ndim == 2:
            return HiddenMarkovModel(mu, A, C)
        transition = OrderKTransition(A)
        return HiddenMarkovModel(mu, transition, transition.lifted_emission(C))
