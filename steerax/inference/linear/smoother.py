"""The Kalman smoother of any order: every state given all observations."""

from typing import Any

import jax
import jax.numpy as jnp

from ..._errors import DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..results import Gaussian, Smoothed
from .filter import as_batch, as_observations
from .kernels.smoother_pass import smoother_pass


def smooth_series(model: AbstractLinearGaussianModel, data: Any) -> Smoothed:
    r"""The distribution of $X_t$ given all of $Z_0\dots Z_{T-1}$, for $t=0\dots T-1$; see `smoother_pass` for the recursion.

    **Arguments:** `data`, `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`. The `result` is
    `RESULTS.breakdown` where a covariance overflows.

    **Raises:** `DataError` for observations whose shape does not fit, or a model that varies in time.
    """
    if not isinstance(model, LinearGaussianModel):
        raise DataError("smooth takes a LinearGaussianModel; a time-varying operator is not served.")
    several = isinstance(data, Sequences)
    run = _smooth_batch(model, *as_batch(model, data)) if several else _smooth(model, *as_observations(model, data))
    finite = bool(jnp.isfinite(run.x).all() & jnp.isfinite(run.V).all())
    d = model.n_states
    smoothed = Gaussian(run.x[..., :-1, :d], run.V[..., :-1, :d, :d])
    return Smoothed(smoothed, run.log_likelihood, RESULTS.successful if finite else RESULTS.breakdown)


_smooth = jax.jit(smoother_pass)


@jax.jit
def _smooth_batch(model, z, mask):
    return jax.lax.map(lambda one: smoother_pass(model, *one), (z, mask))
