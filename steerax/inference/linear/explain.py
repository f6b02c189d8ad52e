"""Which past observations an estimate comes from: the controls of the dual filter."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import ConfigurationError, DataError
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, TimeVaryingLinearGaussianModel
from ..results import Explanation, query_times
from .dual import as_target, controls_at
from .filter import as_batch, as_observations
from .solvers.problem import AbstractSolver


def explain_series(
    model: AbstractLinearGaussianModel,
    data: Any,
    queries: Any = -1,
    target: Any = "next",
    *,
    solver: AbstractSolver | None = None,
) -> Explanation:
    r"""The estimate at each query as a prior term plus one term $-u_t^\top(Z_t-c)$ per past observation (dual filter).

    **Arguments:** `data`, one series `[T p]` or a `Sequences`; `queries`, times `0 … T` (negative ones count from the end,
    −1 is `T`), or `"all"`; for a `Sequences`, −1 (each at its own end) or `"all"`; `target`, `"next"`, `"state"`, or an
    array `[d k]`; `solver`, one that serves any time, `ClosedLoop()` by default.

    **Raises:** `ConfigurationError` for a query that does not fit; `DataError` for data or a target that does not.
    """
    F, offset = as_target(model, target)
    if not isinstance(data, Sequences):
        z, mask = as_observations(model, data)
        times = query_times(queries, len(z))
        return Explanation(times, *terms_at(model, z, mask, times, F, offset, solver))
    z, mask = as_batch(model, data)
    if isinstance(queries, str) and queries == "all":
        times = np.tile(np.arange(z.shape[1] + 1), (len(z), 1))
    elif np.ndim(queries) == 0 and not isinstance(queries, str) and int(queries) == -1:
        times = np.asarray(data.lengths)[:, None]
    else:
        raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')
    parts = [
        terms_at(model, z_b, mask_b, at, F, offset, solver) for z_b, mask_b, at in zip(z, mask, times, strict=True)
    ]
    return Explanation(times, *(jnp.stack(part) for part in zip(*parts, strict=True)))


def terms_at(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    times: Int[np.ndarray, " q"],
    F: Float[Array, "d k"],
    offset: Float[Array, " k"],
    solver: AbstractSolver | None = None,
) -> tuple[Array, Array, Array, Array, Array]:
    r"""`(prior [q k], weights [q T k], norms [q T], controls [q T p k], covariance [q k k])` of $F^\top X_q$."""
    if isinstance(model, TimeVaryingLinearGaussianModel):
        if times.max() > model.horizon:
            raise DataError(f"Time {times.max()} lies beyond the {model.horizon} steps that the operator describes.")
        z, mask = z[: model.horizon], mask[: model.horizon]
    z = jnp.where(mask, z - model.observation_offset[None], 0.0)
    controls = controls_at(model, mask, F, times, solver)
    prior = jnp.einsum("d,ndk->nk", model.initial_mean, controls.y_0) + offset[None]
    weights = -jnp.einsum("ntpk,tp->ntk", controls.u, z)
    return prior, weights, jnp.abs(weights).sum(-1), controls.u, controls.J
