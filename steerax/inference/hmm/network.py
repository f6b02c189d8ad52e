"""A network of dual-filter layers: like the filter, but with separate parameters in each layer, so it need not match any
single hidden Markov model."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError
from ...maths.keys import as_key
from ...maths.nll import nll_of_probabilities
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition
from .kernels.layers import layer
from .kernels.recursions import prior_distributions

# smallest probability that a log-parameter of a network started from a model may stand for
SMALLEST = 1e-6


class DualFilterNetwork(eqx.Module):
    r"""A stack of dual-filter layers, each with its own transition and emission, trained on next-token loss.

    With $\rho^0_t=\mu A^t$ of the first layer, layer $l$ is $\rho^{l+1}=N(\rho^l;\mu_l,A_l,C_l)$ (see `kernels/layers.py`)
    and the distribution of the next token is $\rho^L_tC_{out}$. All rows are softmaxes of free parameters, so every layer
    stays on the simplex. With equal parameters in all layers this is the dual filter of one hidden Markov model, exactly
    the filter after as many layers as tokens; untied layers need not match any single model and may predict better than
    any filter of $d$ states. Causal: the output at $t$ uses the first $t$ tokens.

    **Attributes:** logits `initial` `[L d]`, `transition` `[L d d]`, `emission` `[L d V]`, `readout` `[d V]`.
    """

    initial: Float[Array, "L d"]
    transition: Float[Array, "L d d"]
    emission: Float[Array, "L d V"]
    readout: Float[Array, "d V"]

    @classmethod
    def of(cls, hmm: HiddenMarkovModel, layers: int) -> "DualFilterNetwork":
        """The dual filter of a model with `layers` layers (probabilities below 1e-6 are raised to it).

        **Raises:** `ConfigurationError` for fewer than one layer or an order above one.
        """
        if layers < 1 or as_transition(hmm.transition).order > 1:
            raise ConfigurationError("A network needs at least one layer and a model of order one.")
        mu, A, C = (jnp.log(jnp.maximum(a, SMALLEST)) for a in (hmm.initial, hmm.dense_transition, hmm.emission_matrix))
        return cls(jnp.stack([mu] * layers), jnp.stack([A] * layers), jnp.stack([C] * layers), C)

    @classmethod
    def random(cls, key, n_states: int, n_tokens: int, layers: int, scale: float = 1.0) -> "DualFilterNetwork":
        """Independent normal logits with the given standard deviation, different in every layer."""
        if min(n_states, n_tokens, layers) < 1:
            raise ConfigurationError("A network needs at least one state, one token and one layer.")
        shapes = (layers, n_states), (layers, n_states, n_states), (layers, n_states, n_tokens), (n_states, n_tokens)
        keys = jax.random.split(as_key(key), 4)
        return cls(*(scale * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)))

    def to_config(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        layers, states, tokens = self.emission.shape
        return {"n_states": states, "n_tokens": tokens, "layers": layers}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "DualFilterNetwork":
        """A network from a configuration and its named arrays. Raises `CheckpointError` where they disagree."""
        from ...runs.models import fill

        return fill(eqx.filter_eval_shape(lambda: cls.random(jax.random.key(0), **config)), arrays)

    @property
    def n_tokens(self) -> int:
        return self.readout.shape[1]

    def states(self, tokens: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch d"]:
        """The output of the last layer, for tokens with time first; −1 is a missing token."""
        layers = [jax.nn.softmax(a) for a in (self.initial, self.transition, self.emission)]
        start = prior_distributions(layers[0][0], layers[1][0], tokens.shape[0])
        start = jnp.expand_dims(start, tuple(range(1, tokens.ndim)))
        rho = jnp.broadcast_to(start, (tokens.shape[0] + 1, *tokens.shape[1:], start.shape[-1]))
        return jax.lax.scan(lambda rho, a: (layer(rho, *a, tokens), None), rho, tuple(layers))[0]

    def next_all(self, tokens: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch V"]:
        r"""$p(Z_t=z\mid Z_{<t})$ for $t=0\dots T$."""
        return self.states(tokens) @ jax.nn.softmax(self.readout)

    def __call__(self, tokens: Int[Array, " T"]) -> Float[Array, "T V"]:
        """Logits `[T V]`, row `t` for the token after `tokens[t]`, as a GPT returns them."""
        return jnp.log(self.next_all(tokens)[1:])


def mean_loss(network: DualFilterNetwork, tokens: Int[Array, "T B"]) -> Float[Array, ""]:
    """Nats per observed token of a batch, first tokens included."""
    losses = nll_of_probabilities(network.next_all(tokens)[:-1], tokens)
    return losses.sum() / jnp.maximum((tokens >= 0).sum(), 1)
