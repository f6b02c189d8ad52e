"""The Kalman filter, observation by observation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from ..._results import is_traced
from ...data.convert import converted
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..stream import Prediction, SeriesStream, check_number, check_state, repeated
from .filter import as_series, observed, time_invariant
from .kernels.kalman import log_densities
from .kernels.riccati import companion, riccati


def start_series(model: AbstractLinearGaussianModel, number: int | None = None) -> SeriesStream:
    """What is known before the first observation: the model's initial distribution; states before it are zero."""
    return repeated(_first(time_invariant(model, "start")), number)


@jax.jit
def _first(model: LinearGaussianModel) -> SeriesStream:
    root = companion(model, model.transition).L_0
    mean = jnp.zeros((model.order, model.n_states), root.dtype).at[0].set(model.initial_mean)
    return SeriesStream(mean, root, jnp.zeros((), root.dtype), jnp.zeros((), jnp.int32))


def step_series(model: AbstractLinearGaussianModel, state: Any, observation: Any) -> tuple[SeriesStream, Prediction]:
    r"""One step of the square-root Kalman filter of `filter_series` on the history of `m` states, $O((md)^3)$.

    The prediction's `result` is `RESULTS.breakdown` if the innovation has variance zero. **Raises:** as `filter_series`.
    """
    model = time_invariant(model, "step")
    check_state(state, (model.order, model.n_states), SeriesStream)
    streams = state.time.shape
    if not is_traced(observation):
        observation = converted(observation if np.ndim(observation) else [observation], "observations")
    z, seen = as_series(model, observation if streams else observation.reshape(1, -1))
    check_number(z, streams)
    return _step_each(model, state, z, seen) if streams else _step(model, state, z[0], seen[0])


@jax.jit
def _step(model: LinearGaussianModel, state: SeriesStream, z, seen) -> tuple[SeriesStream, Prediction]:
    system = companion(model, model.transition)._replace(L_0=state.root)
    K, U, roots = riccati(system, seen[None], len(state.root), roots=True)
    e = jnp.where(seen, z - model.observation_offset - system.H @ state.mean.ravel(), 0)
    log_q, distance = (a[0].astype(z.dtype) for a in log_densities(U, e[None], seen[None]))
    mean = (system.F @ state.mean.ravel() + K[0] @ e).reshape(state.mean.shape)
    new = SeriesStream(mean, roots[1], state.log_likelihood + log_q, state.time + 1)
    n = seen.sum().astype(z.dtype)
    p_value = jnp.where(n > 0, gammaincc(jnp.maximum(n, 1) / 2, distance / 2), 1)
    return new, Prediction(observed(model, new.predicted), log_q, p_value)


@jax.jit
def _step_each(model: LinearGaussianModel, state: SeriesStream, z, seen) -> tuple[SeriesStream, Prediction]:
    """Several streams, one after the other."""
    return jax.lax.map(lambda one: _step(model, *one), (state, z, seen))
