"""The Kalman smoother of any order: every state given all observations."""

from typing import Any

import jax.numpy as jnp

from ..._results import RESULTS, successful_if
from ...models.linear_gaussian import AbstractLinearGaussianModel
from ..devices import mesh_of, over_devices
from ..results import Gaussian, Smoothed
from .filter import series_to_spread, time_invariant
from .kernels.kalman import over_series, smoother_pass

_run = over_series(smoother_pass)


def smooth_series(model: AbstractLinearGaussianModel, data: Any) -> Smoothed:
    r"""The distribution of $X_t$ given all of $Z_0\dots Z_{T-1}$, for $t=0\dots T-1$; see `smoother_pass` for the recursion.

    **Arguments:** `data`, `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`. The `result` is
    `RESULTS.breakdown` where a covariance overflows.

    **Raises:** `DataError` for observations whose shape does not fit, or a model that varies in time.
    """
    model = time_invariant(model, "smooth")
    run = over_devices(mesh_of(data), _run, (None, 0, 0), 0)(model, *series_to_spread(model, data))
    finite = jnp.isfinite(run.x).all() & jnp.isfinite(run.V).all()
    d = model.n_states
    smoothed = Gaussian(run.x[..., :-1, :d], run.V[..., :-1, :d, :d])
    return Smoothed(smoothed, run.log_likelihood, successful_if(finite, RESULTS.breakdown))
