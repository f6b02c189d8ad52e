"""Forecasts of linear-Gaussian models."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..results import Gaussian, check_coverage
from .explain import terms_at
from .filter import as_batch, as_observations, filter_series, observed

MOST_STATES = 256  # order times dimension up to which the Kalman filter forecasts


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
    z, mask = as_batch(model, data) if several else (a[None] for a in as_observations(model, data))
    z, mask = (jnp.pad(a, ((0, 0), (0, steps), (0, 0))) for a in (z, mask))
    lengths = data.lengths if several else np.array([z.shape[1] - steps])
    times = np.asarray(lengths)[:, None] + np.arange(steps)
    if isinstance(model, LinearGaussianModel) and model.order * model.n_states <= MOST_STATES:
        gaps = np.where(mask, z, np.nan)
        run = filter_series(model, Sequences(gaps, np.full(len(gaps), gaps.shape[1])))
        states, result = run.predicted[np.arange(len(gaps))[:, None], times], run.result
    else:
        parts = [_by_controls(model, *one) for one in zip(z, mask, times, strict=True)]
        states = Gaussian(*(jnp.stack(part) for part in zip(*parts, strict=True)))
        finite = bool(jnp.isfinite(states.mean).all() & jnp.isfinite(states.covariance).all())
        result = RESULTS.successful if finite else RESULTS.breakdown
    ahead = observed(model, states)
    ahead = ahead if several else ahead[0]
    return SeriesForecast(ahead.mean, ahead.covariance, result)


def _by_controls(model, z: Float[Array, "T p"], mask, times: np.ndarray) -> tuple[Array, Array]:
    """Mean and covariance of the states at some times."""
    d, dtype = model.n_states, z.dtype
    prior, weights, _, _, J = terms_at(model, z, mask, times, jnp.eye(d, dtype=dtype), jnp.zeros(d, dtype))
    return prior + weights.sum(1), J
