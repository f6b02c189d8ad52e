"""Forecasts of a hidden Markov model."""

import jax.numpy as jnp

from ...models.hmm import HiddenMarkovModel
from ..tokens import TokenForecast, Tokens, last_states
from .filter import filter_tokens
from .kernels.recursions import prior_distributions


def forecast_tokens(hmm: HiddenMarkovModel, data: Tokens, steps: int, *, on_impossible: str = "raise") -> TokenForecast:
    r"""$\pi_TA^j$ and $\pi_TA^jC$ for $j=0\dots$ `steps`−1, from each sequence's own end. **Raises:** as `filter_tokens`."""
    filtered = filter_tokens(hmm, data, on_impossible)
    states = prior_distributions(last_states(filtered, data), hmm.transition, steps - 1)
    states = jnp.moveaxis(states, 0, 1) if states.ndim == 3 else states
    return TokenForecast(states @ hmm.emission, states, filtered.result)
