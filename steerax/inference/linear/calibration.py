"""Rescale forecast intervals by the recent one-step error."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._bounds import COUNT, bounded
from ..._errors import DataError
from ..._results import is_traced
from ...data.sequences import Sequences
from ...maths.covariance import solve_upper
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .filter import filter_series, time_invariant


def standardised_innovations(model: AbstractLinearGaussianModel, data: Any) -> Float[Array, "*batch T p"]:
    r"""$S_t^{-1/2}(Z_t-\mathbb E[Z_t\mid Z_{<t}])$, white with unit variance if the model is right; NaN where missing.

    $S_t^{1/2}$ is the Cholesky factor, so with several channels an entry is what the earlier channels of the same time
    leave of it. **Arguments:** as `filter_series`.
    """
    filtered = filter_series(model, data)
    U, e = filtered.run.U, filtered.innovations
    white = solve_upper(U, e[..., None], transposed=True)[..., 0]
    return jnp.where(filtered.mask, white * jnp.sign(jnp.diagonal(U, axis1=-2, axis2=-1)), jnp.nan)


@bounded(window=COUNT)
def recalibrate(model: AbstractLinearGaussianModel, data: Any, window: int = 50) -> LinearGaussianModel:
    r"""The model with its three covariances multiplied by the mean square of the last standardised innovations.

    One factor for $\Sigma_0,Q,R$ changes no estimate and no forecast, only their error covariances: intervals become as
    wide as the last `window` one-step errors were, which matters where the variance of a series drifts from that of the
    part the model was fitted to.

    **Arguments:** `data`, one series `[T p]` (or `[T]` if `p = 1`); `window`, how many of the last times at which
    something is observed.

    **Raises:** `ConfigurationError` for a window below one; `DataError` for several series, a model that varies in
    time, or one that gives an innovation no variance.
    """
    model = time_invariant(model, "recalibrate")
    if isinstance(data, Sequences):
        raise DataError("recalibrate takes one series, not a Sequences; pass data[i].")
    scores = standardised_innovations(model, data)
    seen = jnp.isfinite(scores).any(axis=1)
    last = seen & (jnp.cumsum(seen[::-1])[::-1] <= window)
    factor = jnp.nanmean(jnp.where(last[:, None], scores, jnp.nan) ** 2)
    useless, sentence = ~(factor > 0) | jnp.isinf(factor), "The last innovations have no variance to calibrate with; "
    sentence += "pass observations the model can miss."
    if is_traced(factor):
        factor = eqx.error_if(factor, useless, sentence)
    elif useless:
        raise DataError(sentence)
    covariances = lambda m: (m.initial_covariance, m.process_noise, m.observation_noise)
    return eqx.tree_at(covariances, model, tuple(factor * S for S in covariances(model)))
