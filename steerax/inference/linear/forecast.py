"""Forecasts of linear-Gaussian processes, and what in the past they come from."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .dual import as_target, controls_at
from .filter import as_batch, as_observations, kalman_filter

MOST_STATES = 256  # order times dimension up to which the Kalman filter forecasts
STEPS, LAGS = 200, 16


class GaussianForecast(eqx.Module):
    """Laws of the next observations; a batch axis comes first for a `Sequences`.

    **Attributes:** `mean` `[steps p]` and `covariance` `[steps p p]`: row `j` is the law of `Z_{T+j}` given
    `Z_0 … Z_{T-1}`, its noise included.
    """

    mean: Float[Array, "*batch steps p"]
    covariance: Float[Array, "*batch steps p p"]

    def interval(self, coverage: float = 0.9) -> Float[Array, "*batch steps p two"]:
        """Lower and upper ends, per channel, of the central interval with this probability.

        **Raises:** `ConfigurationError` unless `0 < coverage < 1`.
        """
        if not 0 < coverage < 1:
            raise ConfigurationError(f"A coverage lies between 0 and 1, but {coverage} was given.")
        sd = jnp.sqrt(jnp.diagonal(self.covariance, axis1=-2, axis2=-1))
        half = ndtri(0.5 + coverage / 2) * sd
        return jnp.stack([self.mean - half, self.mean + half], axis=-1)


class GaussianExplanation(eqx.Module):
    """`prior[q] + weights[q].sum(0)` is the estimate at query `q`, exactly.

    **Attributes:** `queries` `[q]`, times; `prior` `[q k]`; `weights` `[q T k]`, the term `-u_tᵀ(Z_t - c)` of each past
    observation (zero where it is missing or not past); `norms` `[q T]`, sums over `k` of absolute weights;
    `controls` `[q T p k]`, the coefficients `u_t`; `covariance` `[q k k]` of the error.
    """

    queries: Int[np.ndarray, " q"]
    prior: Float[Array, "q k"]
    weights: Float[Array, "q T k"]
    norms: Float[Array, "q T"]
    controls: Float[Array, "q T p k"]
    covariance: Float[Array, "q k k"]


def forecast_observations(model: AbstractLinearGaussianModel, observations: Any, steps: int) -> GaussianForecast:
    """The laws of `Z_T … Z_{T+steps-1}` given the observations so far, missing ones allowed.

    By the Kalman filter run on into the unobserved future while order times dimension is at most 256, by the dual
    filter with the terminal condition at each horizon beyond that and for operators.
    """
    H, c, R = model.observation, model.observation_offset, model.observation_noise
    kalman = isinstance(model, LinearGaussianModel) and model.order * model.n_states <= MOST_STATES
    if isinstance(observations, Sequences) and not kalman:
        z, mask = as_batch(model, observations)
        z, mask = (jnp.pad(a, ((0, 0), (0, steps), (0, 0))) for a in (z, mask))
        times = observations.lengths[:, None] + np.arange(steps)
        identity = jnp.eye(model.n_states, dtype=z.dtype)
        runs = [_at_times(model, *one, identity) for one in zip(z, mask, times, strict=True)]
        x, P = jnp.stack([run[0] for run in runs]), jnp.stack([run[1] for run in runs])
    elif isinstance(observations, Sequences):
        gap = np.full((observations.number, steps, model.n_channels), np.nan)
        values = np.concatenate([observations.values, gap], axis=1)
        run = kalman_filter(model, Sequences(values, np.full(len(values), values.shape[1])))
        rows, times = np.arange(len(values))[:, None], observations.lengths[:, None] + np.arange(steps)
        x, P = run.state_means[rows, times], run.state_covariances[rows, times]
    else:
        z, mask = as_observations(model, observations)
        T = len(z)
        z, mask = jnp.pad(z, ((0, steps), (0, 0))), jnp.pad(mask, ((0, steps), (0, 0)))
        if kalman:
            run = kalman_filter(model, np.where(mask, z, np.nan))
            x, P = run.state_means[T : T + steps], run.state_covariances[T : T + steps]
        else:
            x, P, _ = _at_times(model, z, mask, np.arange(T, T + steps), jnp.eye(model.n_states, dtype=z.dtype))
    mean = x @ H.T + jnp.broadcast_to(c, (*x.shape[:-1], len(c)))
    noise = jnp.broadcast_to(R, (*x.shape[:-1], *R.shape))
    return GaussianForecast(mean, jnp.einsum("pd,...de,qe->...pq", H, P, H) + noise)


def _at_times(model, z, mask, times, F):
    if not isinstance(model, LinearGaussianModel):
        if times.max() > model.horizon:
            raise DataError(f"Time {times.max()} lies beyond the {model.horizon} steps that the operator describes.")
        z, mask = z[: model.horizon], mask[: model.horizon]
    z = jnp.where(mask, z - model.observation_offset[None], 0.0)
    tolerance = float(64 * jnp.finfo(z.dtype).eps)
    parts = list(controls_at(model, mask, F, times, tolerance, STEPS, min(LAGS, max(1, 128 // model.n_states))))
    u, y_0, J = (jnp.concatenate([getattr(part, name) for part in parts]) for name in ("u", "y_0", "J"))
    prior = jnp.einsum("d,ndk->nk", model.initial_mean, y_0)
    weights = -jnp.einsum("ntpk,tp->ntk", u, z)
    return prior + weights.sum(1), J, (prior, weights, u)


def explain_observations(
    model: AbstractLinearGaussianModel, observations: Any, queries: Any = -1, target: Any = "next_observation"
) -> GaussianExplanation:
    """The estimate at each query as a prior term plus one term per past observation (dual filter).

    **Arguments:** `observations`, one sequence `[T p]`; `queries`, times `0 … T` (negative ones count from the end,
    -1 is `T`), or `"all"`; `target`, `"next_observation"` (also `"next_token"`), `"state"`, or an array `[d k]`.
    """
    z, mask = as_observations(model, observations)
    T = len(z)
    times = np.arange(T + 1) if isinstance(queries, str) and queries == "all" else np.atleast_1d(np.asarray(queries))
    if times.dtype.kind not in "iu" or times.ndim != 1 or (times < -T - 1).any() or (times > T).any():
        raise ConfigurationError(f"Queries are times from 0 to {T} or 'all', but {queries!r} was given.")
    times = np.where(times < 0, times + T + 1, times)
    F, offset = as_target(model, target)
    _, J, (prior, weights, u) = _at_times(model, z, mask, times, F)
    return GaussianExplanation(times, prior + offset[None], weights, jnp.abs(weights).sum(-1), u, J)
