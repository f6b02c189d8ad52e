"""Forecasts of a generalised hidden Markov model."""

import jax.numpy as jnp

from ...models.generalised import GeneralisedHMM
from ..hmm.kernels.recursions import prior_distributions
from ..tokens import TokenForecast, Tokens, last_states
from .filter import filter_tokens
from .kernels.recursions import next_probabilities


def forecast_tokens(model: GeneralisedHMM, data: Tokens, steps: int, *, on_impossible: str = "raise") -> TokenForecast:
    r"""$\pi_TA^j$ and $\pi_TA^jT^zw$ for $j=0\dots$ `steps`−1, from each sequence's own end. **Raises:** as `filter_tokens`."""
    filtered = filter_tokens(model, data, on_impossible)
    _, T, w = model.arrays
    states = prior_distributions(last_states(filtered, data), T.sum(0), steps - 1)
    states = jnp.moveaxis(states, 0, 1) if states.ndim == 3 else states
    return TokenForecast(next_probabilities(states, T, w), states, filtered.result)
