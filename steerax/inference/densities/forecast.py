"""Forecasts of hidden Markov models that emit numbers, with intervals by the quantiles of mixtures.

Where the emission reads the observations before, the first step is exact, and those beyond are means over simulated futures.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._bounds import COUNT, bounded
from ..._results import RESULTS
from ...maths.keys import as_key
from ...models.hmm import HiddenMarkovModel
from ..hmm.kernels.recursions import prior_distributions
from ..tokens import last_states
from .filter import FilteredObservations, filter_series
from .kernels.futures import futures
from .lags import last_pasts
from .observations import newest
from .predictive import Predictive, SimulatedPredictive


class MixtureForecast(eqx.Module):
    r"""Distributions of the next observations; a batch axis comes first for a `Sequences`.

    **Attributes:** `distribution`, a `Predictive` whose row `j` is that of $Z_{T+j}$ given $Z_{<T}$; `states` `[steps d]`, of the
    state $X_{T+j}$ that emits it; `result`.
    """

    distribution: Predictive
    states: Float[Array, "*batch steps d"]
    result: RESULTS

    @property
    def method(self) -> str:
        """`"exact"`, or `"simulated"`."""
        return "exact"

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


class SimulatedMixtureForecast(MixtureForecast):
    """A `MixtureForecast` from simulated futures, since observations to come move the emission: `standard_error` `[steps p]` of
    the means, zero for the first step, which is exact."""

    standard_error: Float[Array, "*batch steps p"]

    @property
    def method(self) -> str:
        return "simulated"


@bounded(samples=COUNT)
def forecast_series(
    hmm: HiddenMarkovModel,
    data: Any,
    steps: int,
    *,
    inputs: Any = None,
    samples: int = 2048,
    key: Any = 0,
    on_impossible: str = "raise",
) -> MixtureForecast:
    r"""$\pi_TA^j$ and the mixtures $\sum_x(\pi_TA^j)(x)\,p(\cdot\mid x)$ for $j=0\dots$ `steps`−1, from each sequence's own end.

    Of an emission that reads the past only the first step is exact. Beyond, the forecast is the mean over `samples` futures, drawn
    observation by observation with `key`, of the exact distribution after each (`method` says `"simulated"`, `standard_error` how
    far its means may be off). Other emissions use neither option. An emission that reads inputs needs those of the steps: `inputs`
    `[steps q]`, the same for every sequence, or `[B steps q]`.

    **Raises:** as `filter_series`; `DataError` where the past that the next observation reads is not complete; `ConfigurationError` for
    inputs that are needed and not given, or given and not read.
    """
    filtered = filter_series(hmm, data, on_impossible)
    states = prior_distributions(last_states(filtered.run, data), hmm.transition, steps - 1)
    states = jnp.moveaxis(states, 0, 1) if states.ndim == 3 else states
    given = None
    if hmm.emission.n_inputs or inputs is not None:
        given = hmm.known_inputs(inputs, states.shape[:-1], f"A forecast of {steps} steps")
    if hmm.emission.lags:
        return _simulated(filtered, data, states, samples, as_key(key))
    return MixtureForecast(Predictive(newest(states, hmm.transition), hmm.emission, given), states, filtered.result)


def _simulated(
    filtered: FilteredObservations, data: Any, states: Float[Array, "*batch steps d"], samples: int, key: Any
) -> SimulatedMixtureForecast:
    """The forecast by futures from each sequence's own end."""
    hmm, beliefs = filtered.model, last_states(filtered.run, data)
    past = last_pasts(filtered.given, filtered.lengths)
    steps = states.shape[-2]
    run = lambda belief, past, key: futures(belief, hmm.transition, hmm.emission, past, key, steps, samples)
    several = beliefs.ndim == 2
    p, read = jax.vmap(run)(beliefs, past, jax.random.split(key, len(beliefs))) if several else run(beliefs, past, key)
    weights = newest(p, hmm.transition)
    spread = jnp.std(Predictive(weights, hmm.emission, read).mean, axis=-2) / jnp.sqrt(samples)
    error = spread.at[..., 0, :].set(0)
    distribution = SimulatedPredictive(weights, hmm.emission, read)
    return SimulatedMixtureForecast(distribution, states, filtered.result, error)
