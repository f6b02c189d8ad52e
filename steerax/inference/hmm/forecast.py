"""Forecasts of a hidden Markov model."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._errors import ConfigurationError
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .filter import forward_filter
from .kernels.recursions import prior_laws


class TokenForecast(eqx.Module):
    """Laws of the next tokens; a batch axis comes first for a `Sequences`.

    **Attributes:** `probabilities` `[steps V]`, row `j` the law of `Z_{T+1+j}` given `Z_{1:T}`; `state_probabilities`
    `[steps d]`, of the state `X_{T+j}` that emits it.
    """

    probabilities: Float[Array, "*batch steps V"]
    state_probabilities: Float[Array, "*batch steps d"]

    def interval(self, coverage: float = 0.9) -> Bool[Array, "*batch steps V"]:
        """The smallest set of tokens with at least this probability at each step, as an indicator.

        **Raises:** `ConfigurationError` unless `0 < coverage <= 1`.
        """
        if not 0 < coverage <= 1:
            raise ConfigurationError(f"A coverage lies between 0 and 1, but {coverage} was given.")
        order = jnp.argsort(-self.probabilities, axis=-1)
        ranked = jnp.take_along_axis(self.probabilities, order, -1)
        before = jnp.cumsum(ranked, -1) - ranked
        rank = jnp.argsort(order, axis=-1)
        return jnp.take_along_axis(before < coverage * (1 - 1e-12), rank, -1)


def forecast_tokens(hmm: HiddenMarkovModel, tokens: Array | np.ndarray | Sequences, steps: int) -> TokenForecast:
    """`π_T A^j` and `π_T A^j C` for `j = 0 … steps-1`, from each sequence's own end. **Raises** as the filter."""
    states = forward_filter(hmm, tokens).states
    if isinstance(tokens, Sequences):
        last = states[jnp.asarray(tokens.lengths), jnp.arange(tokens.number)]
    else:
        last = states[-1]
    laws = prior_laws(last, hmm.transition, steps - 1)
    laws = jnp.moveaxis(laws, 0, 1) if laws.ndim == 3 else laws
    return TokenForecast(laws @ hmm.emission, laws)
