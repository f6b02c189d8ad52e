"""Forecasts of a hidden Markov model."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ..results import check_coverage
from .filter import Tokens, filter_tokens
from .kernels.recursions import prior_distributions


class TokenForecast(eqx.Module):
    r"""Distributions of the next tokens; a batch axis comes first for a `Sequences`.

    **Attributes:** `probabilities` `[steps V]`, row `j` the distribution of $Z_{T+j}$ given $Z_{<T}$; `states` `[steps d]`,
    of the state $X_{T+j}$ that emits it; `result`.
    """

    probabilities: Float[Array, "*batch steps V"]
    states: Float[Array, "*batch steps d"]
    result: RESULTS

    def interval(self, coverage: float = 0.9) -> Bool[Array, "*batch steps V"]:
        """The smallest set of tokens with at least this probability at each step, as an indicator.

        **Raises:** `ConfigurationError` unless `0 < coverage <= 1`.
        """
        if coverage != 1:
            check_coverage(coverage)
        order = jnp.argsort(-self.probabilities, axis=-1)
        ranked = jnp.take_along_axis(self.probabilities, order, -1)
        before = jnp.cumsum(ranked, -1) - ranked
        rank = jnp.argsort(order, axis=-1)
        return jnp.take_along_axis(before < coverage * (1 - 1e-12), rank, -1)


def forecast_tokens(hmm: HiddenMarkovModel, data: Tokens, steps: int, *, on_impossible: str = "raise") -> TokenForecast:
    r"""$\pi_TA^j$ and $\pi_TA^jC$ for $j=0\dots$ `steps`−1, from each sequence's own end. **Raises:** as `filter_tokens`."""
    filtered = filter_tokens(hmm, data, on_impossible)
    if isinstance(data, Sequences):
        last = filtered.states[jnp.asarray(data.lengths), jnp.arange(data.number)]
    else:
        last = filtered.states[-1]
    states = prior_distributions(last, hmm.transition, steps - 1)
    states = jnp.moveaxis(states, 0, 1) if states.ndim == 3 else states
    return TokenForecast(states @ hmm.emission, states, filtered.result)
