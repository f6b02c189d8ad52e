"""The Kalman filter, observation by observation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from ..._errors import DataError
from ..._results import is_traced
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..stream import Prediction, SeriesStream, check_state, repeated
from .filter import observed, time_invariant
from .kernels.kalman import log_densities
from .kernels.riccati import companion, riccati


def start_series(model: AbstractLinearGaussianModel, number: int | None = None) -> SeriesStream:
    """What is known before the first observation: the model's initial distribution; states before it are zero."""
    model = time_invariant(model, "start")
    root = companion(model, model.transition).L_0
    mean = jnp.zeros((model.order, model.n_states), root.dtype).at[0].set(model.initial_mean)
    return repeated(SeriesStream(mean, root, jnp.zeros((), root.dtype), jnp.zeros((), jnp.int32)), number)


def step_series(model: AbstractLinearGaussianModel, state: Any, observation: Any) -> tuple[SeriesStream, Prediction]:
    r"""One step of the square-root Kalman filter of `filter_series` on the history of `m` states, $O((md)^3)$."""
    model = time_invariant(model, "step")
    check_state(state, SeriesStream, model.n_states)
    z = _as_numbers(model, observation, state.time.shape)
    return (_step if z.ndim == 1 else _step_each)(model, state, z)


def _as_numbers(model: LinearGaussianModel, observation: Any, streams: tuple[int, ...]) -> Any:
    """Observations `[… p]`, NaN where missing. **Raises:** `DataError`."""
    p = model.n_channels
    if not is_traced(observation):
        masked: Any = np.ma.asarray(observation)
        if masked.dtype.kind == "O":  # None for a missing number
            masked = np.ma.asarray([np.nan if v is None else v for v in masked.ravel().tolist()]).reshape(masked.shape)
        if masked.dtype.kind not in "fiub":
            raise DataError(f"step takes the numbers of {p} channels, NaN where missing; got {observation!r}.")
        observation = masked.astype(float).filled(np.nan)
        if np.isinf(observation).any():
            raise DataError("An observation is infinite; use NaN for a missing one.")
    shape = observation.shape
    if shape == streams and p == 1:
        observation = observation[..., None]
    elif shape != (*streams, p):
        raise DataError(f"step takes an observation of shape {[*streams, p]} here; got {list(shape)}.")
    return jnp.asarray(observation, model.initial_mean.dtype)


@jax.jit
def _step(model: LinearGaussianModel, state: SeriesStream, z) -> tuple[SeriesStream, Prediction]:
    seen, system = ~jnp.isnan(z), companion(model, model.transition)._replace(L_0=state.root)
    K, U, roots = riccati(system, seen[None], len(state.root), roots=True)
    e = jnp.where(seen, z - model.observation_offset - system.H @ state.mean.ravel(), 0)
    log_q, distance = (a[0] for a in log_densities(U, e[None], seen[None]))
    total, time = state.log_likelihood + log_q, state.time + 1
    mean = (system.F @ state.mean.ravel() + K[0] @ e).reshape(state.mean.shape)
    new = SeriesStream(mean, roots[1], total, time)
    n = seen.sum()
    p_value = jnp.where(n > 0, gammaincc(jnp.maximum(n, 1) / 2, distance / 2), 1)
    return new, Prediction(observed(model, new.predicted), log_q, p_value)


@jax.jit
def _step_each(model: LinearGaussianModel, state: SeriesStream, z) -> tuple[SeriesStream, Prediction]:
    """Several streams, one after the other."""
    return jax.lax.map(lambda one: _step(model, *one), (state, z))
