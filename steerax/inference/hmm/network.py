"""A network of dual-filter layers whose weights are learned: the filter without a single generating model behind it."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from .kernels.layers import layer
from .kernels.recursions import prior_laws

# smallest probability that a log-parameter of a network started from a model may stand for
SMALLEST = 1e-6


class DualFilterNetwork(eqx.Module):
    """A stack of dual-filter layers, each with its own transition and emission, trained on next-token loss.

    With `ρ^0_t = μ A^t` of the first layer, layer `l` is `ρ^{l+1} = N(ρ^l; μ_l, A_l, C_l)` (see `layers.py`) and the
    law of the next token is `ρ^L_t C_out`. All rows are softmaxes of free parameters, so every layer keeps its laws on
    the simplex. With equal parameters in all layers this is the dual filter of one hidden Markov model, exactly the
    filter after as many layers as tokens; untied layers are no model's filter and may predict better than any filter
    of `d` states. Causal: the output at `t` uses the first `t` tokens.

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
        if layers < 1 or isinstance(hmm.transition, OrderKTransition):
            raise ConfigurationError("A network needs at least one layer and a model of order one.")
        mu, A, C = (jnp.log(jnp.maximum(a, SMALLEST)) for a in (hmm.initial, hmm.dense_transition, hmm.emission))
        return cls(jnp.stack([mu] * layers), jnp.stack([A] * layers), jnp.stack([C] * layers), C)

    @classmethod
    def random(cls, key, n_states: int, n_tokens: int, layers: int, scale: float = 1.0) -> "DualFilterNetwork":
        """Independent normal logits with the given standard deviation, different in every layer."""
        if min(n_states, n_tokens, layers) < 1:
            raise ConfigurationError("A network needs at least one state, one token and one layer.")
        shapes = (layers, n_states), (layers, n_states, n_states), (layers, n_states, n_tokens), (n_states, n_tokens)
        keys = jax.random.split(key, 4)
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

    def state_probabilities(self, tokens: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch d"]:
        """The output of the last layer, for tokens with time first; −1 is a missing token."""
        layers = [jax.nn.softmax(a) for a in (self.initial, self.transition, self.emission)]
        start = prior_laws(layers[0][0], layers[1][0], tokens.shape[0])
        start = jnp.expand_dims(start, tuple(range(1, tokens.ndim)))
        rho = jnp.broadcast_to(start, (tokens.shape[0] + 1, *tokens.shape[1:], start.shape[-1]))
        return jax.lax.scan(lambda rho, a: (layer(rho, *a, tokens), None), rho, tuple(layers))[0]

    def next_token_probabilities(self, tokens: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch V"]:
        """`p(z | Z_{1:t})` for `t = 0 … T`."""
        return self.state_probabilities(tokens) @ jax.nn.softmax(self.readout)

    def __call__(self, tokens: Int[Array, " T"]) -> Float[Array, "T V"]:
        """Logits `[T V]`, row `t` for the token after `tokens[t]`, as a GPT returns them."""
        return jnp.log(self.next_token_probabilities(tokens)[1:])


def next_token_log_likelihoods(model: DualFilterNetwork, tokens: Int[Array, "T *batch"]) -> Float[Array, "T *batch"]:
    """`log p(Z_{t+1} | Z_{1:t})`, zero where a token is missing."""
    seen = tokens >= 0
    law = model.next_token_probabilities(tokens)[:-1]
    q = jnp.take_along_axis(law, jnp.where(seen, tokens, 0)[..., None], -1)[..., 0]
    return jnp.where(seen, jnp.log(q), 0)


@eqx.filter_jit
def _log_likelihoods(model, tokens):
    return next_token_log_likelihoods(model, tokens)


def score_network(model: DualFilterNetwork, data: Sequences, *, chunk: int = 256) -> TokenScores:
    """Next-token log-likelihoods of a whole data set under a network, as `score_tokens` gives them for a model.

    **Raises:** `DataError` for tokens outside its vocabulary.
    """
    if not data.is_tokens or data.n_tokens > model.n_tokens:
        raise DataError(f"The network reads codes 0 … {model.n_tokens - 1}; the data hold others.")
    parts = [data.values[i : i + chunk] for i in range(0, data.number, chunk)]
    scores = [np.asarray(_log_likelihoods(model, jnp.asarray(part.T))).T for part in parts]
    return TokenScores(np.concatenate(scores), data.mask)


def mean_loss(model: Any, tokens: Int[Array, "T B"]) -> Float[Array, ""]:
    """Nats per observed token of a batch."""
    seen = jnp.maximum((tokens >= 0).sum(), 1)
    return -next_token_log_likelihoods(model, tokens).sum() / seen
