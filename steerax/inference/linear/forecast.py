"""Forecasts of linear-Gaussian models."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from ..._results import RESULTS, first_failure
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..devices import mesh_of, over_devices
from ..results import Gaussian, check_coverage
from .dual import as_target
from .explain import terms_at
from .filter import FilteredSeries, observed, run_filter, series_to_spread
from .solvers import ClosedLoop

_MOST_STATES = 256  # order times dimension up to which the Kalman filter forecasts


class SeriesForecast(eqx.Module):
    r"""Distributions of the next observations; a batch axis comes first for a `Sequences`.

    **Attributes:** `mean` `[steps p]` and `covariance` `[steps p p]`: row `j` is the distribution of $Z_{T+j}$ given
    $Z_{<T}$, its noise included; `result`.
    """

    mean: Float[Array, "*batch steps p"]
    covariance: Float[Array, "*batch steps p p"]
    result: RESULTS

    def interval(self, coverage: float = 0.9) -> Float[Array, "*batch steps p two"]:
        """Lower and upper ends, per channel, of the central interval with this probability.

        **Raises:** `ConfigurationError` unless `0 < coverage < 1`.
        """
        check_coverage(coverage)
        sd = jnp.sqrt(jnp.diagonal(self.covariance, axis1=-2, axis2=-1))
        half = ndtri(0.5 + coverage / 2) * sd
        return jnp.stack([self.mean - half, self.mean + half], axis=-1)


def forecast_series(model: AbstractLinearGaussianModel, data: Any, steps: int) -> SeriesForecast:
    r"""The distributions of $Z_T\dots Z_{T+\mathrm{steps}-1}$ given the observations so far, missing ones allowed.

    By the Kalman filter run on into the unobserved future while order times dimension is at most 256, by the dual
    filter with the terminal condition at each horizon beyond that and for operators. **Raises:** as `filter_series`.
    """
    several = isinstance(data, Sequences)
    z, mask = series_to_spread(model, data)
    mesh = mesh_of(data)
    z, mask = (z, mask) if several else (z[None], mask[None])
    times = np.asarray(data.lengths if several else [z.shape[1]])[:, None] + np.arange(steps)
    z, mask = ((jnp if mesh is None else np).pad(a, ((0, 0), (0, steps), (0, 0))) for a in (z, mask))
    if isinstance(model, LinearGaussianModel) and model.order * model.n_states <= _MOST_STATES:
        run = over_devices(mesh, run_filter, (None, 0, 0), 0)(model, z, mask)
        run = FilteredSeries(model=model, run=run, mask=mask)
        states, result = run.predicted[np.arange(len(z))[:, None], times], run.result
    else:
        target, solver = as_target(model, "state"), ClosedLoop()
        parts = [terms_at(model, *one, target, solver) for one in zip(z, mask, times, strict=True)]
        mean, covariance = zip(*((part.prior + part.weights.sum(1), part.covariance) for part in parts), strict=True)
        states, result = Gaussian(jnp.stack(mean), jnp.stack(covariance)), first_failure(part.result for part in parts)
    ahead = observed(model, states)
    ahead = ahead if several else ahead[0]
    return SeriesForecast(ahead.mean, ahead.covariance, result)
