"""Which past observations an estimate comes from: the controls of the dual filter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS, first_failure
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, TimeVaryingLinearGaussianModel
from ..explanation import Explanation
from ..results import query_times
from .dual import Target, as_target
from .filter import as_series
from .solvers import ClosedLoop


def explain_series(
    model: AbstractLinearGaussianModel,
    data: Any,
    queries: Any = -1,
    target: Any = "next",
    *,
    solver: ClosedLoop | Any = None,
) -> Explanation:
    r"""The estimate at each query as a prior term plus one term $-u_t^\top(Z_t-c)$ per past observation (dual filter).

    **Arguments:** `data`, one series `[T p]` or a `Sequences`; `queries`, times `0 … T` (negative ones count from the end,
    −1 is `T`), or `"all"`; for a `Sequences`, −1 (each at its own end) or `"all"`; `target`, `"next"`, `"state"`, or an
    array `[d k]`; `solver`, a `ClosedLoop`.

    **Raises:** `ConfigurationError` for a query that does not fit or another solver; `DataError` for data or a target that
    does not fit.
    """
    target = as_target(model, target)
    z, mask = as_series(model, data)
    solver = ClosedLoop() if solver is None else solver
    if not isinstance(solver, ClosedLoop):
        raise ConfigurationError(f"explain needs controls at any time; pass a ClosedLoop, not {solver!r}.")
    solver.check(model, mask, "all")
    if not isinstance(data, Sequences):
        times = query_times(queries, len(z))
        *arrays, result = terms_at(model, z, mask, times, target, solver)
        return Explanation(times, *arrays, result=result)
    if isinstance(queries, str) and queries == "all":
        times = np.tile(np.arange(z.shape[1] + 1), (len(z), 1))
    elif np.ndim(queries) == 0 and not isinstance(queries, str) and int(queries) == -1:
        times = np.asarray(data.lengths)[:, None]
    else:
        raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')
    parts = [terms_at(model, *one, target, solver) for one in zip(z, mask, times, strict=True)]
    *arrays, results = zip(*parts, strict=True)
    return Explanation(times, *(jnp.stack(a) for a in arrays), result=first_failure(results))


class Terms(NamedTuple):
    """The fields of an `Explanation` after its queries."""

    prior: Float[Array, "q k"]
    weights: Float[Array, "q T k"]
    norms: Float[Array, "q T"]
    controls: Float[Array, "q T p k"]
    covariance: Float[Array, "q k k"]
    result: RESULTS


def terms_at(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    times: Int[np.ndarray, " q"],
    target: Target,
    solver: ClosedLoop,
) -> Terms:
    r"""The estimates of $F^\top X_q$ at several times $q$. **Raises:** `DataError` for a time beyond the model's steps."""
    if isinstance(model, TimeVaryingLinearGaussianModel):
        if times.max() > model.horizon:
            raise DataError(f"Time {times.max()} lies beyond the {model.horizon} steps that the operator describes.")
        z, mask = z[: model.horizon], mask[: model.horizon]
    controls = solver.solve_at(model, mask, target.F, times)
    prior, weights, norms = _terms(model, z, mask, target.offset, controls.y_0, controls.u)
    return Terms(prior, weights, norms, controls.u, controls.J, controls.result)


@jax.jit
def _terms(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    offset: Float[Array, " k"],
    y_0: Float[Array, "q d k"],
    u: Float[Array, "q T p k"],
) -> tuple[Float[Array, "q k"], Float[Array, "q T k"], Float[Array, "q T"]]:
    """`(prior, weights, norms)` of given controls."""
    z = jnp.where(mask, z - model.observation_offset[None], 0.0)
    weights = -jnp.einsum("qtpk,tp->qtk", u, z)
    prior = jnp.einsum("d,qdk->qk", model.initial_mean, y_0) + offset[None]
    return prior, weights, jnp.abs(weights).sum(-1)
