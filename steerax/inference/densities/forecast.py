"""Forecasts of hidden Markov models that emit numbers, with intervals by the quantiles of mixtures."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._results import RESULTS
from ...models.hmm import HiddenMarkovModel
from ..hmm.kernels.recursions import prior_distributions
from ..tokens import last_states
from .filter import filter_series
from .observations import newest
from .predictive import Predictive


class MixtureForecast(eqx.Module):
    r"""Distributions of the next observations; a batch axis comes first for a `Sequences`.

    **Attributes:** `distribution`, a `Predictive` whose row `j` is that of $Z_{T+j}$ given $Z_{<T}$; `states` `[steps d]`, of the
    state $X_{T+j}$ that emits it; `result`.
    """

    distribution: Predictive
    states: Float[Array, "*batch steps d"]
    result: RESULTS

    @property
    def mean(self) -> Float[Array, "*batch steps p"]:
        """Means."""
        return self.distribution.mean

    @property
    def covariance(self) -> Float[Array, "*batch steps p p"]:
        """Covariances, that of the states included."""
        return self.distribution.covariance

    def interval(self, coverage: float = 0.9) -> Float[Array, "*batch steps p two"]:
        """Lower and upper ends, per channel, of the central interval with (for whole numbers at least) this probability; see
        `Predictive.interval`."""
        return self.distribution.interval(coverage)


def forecast_series(hmm: HiddenMarkovModel, data: Any, steps: int, *, on_impossible: str = "raise") -> MixtureForecast:
    r"""$\pi_TA^j$ and the mixtures $\sum_x(\pi_TA^j)(x)\,p(\cdot\mid x)$ for $j=0\dots$ `steps`−1, from each sequence's own end.

    **Raises:** as `filter_series`.
    """
    filtered = filter_series(hmm, data, on_impossible)
    states = prior_distributions(last_states(filtered.run, data), hmm.transition, steps - 1)
    states = jnp.moveaxis(states, 0, 1) if states.ndim == 3 else states
    return MixtureForecast(Predictive(newest(states, hmm.transition), hmm.emission), states, filtered.result)
