"""Which past observations an estimate comes from: by the controls of the dual filter, news, deletion or Shapley values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS, first_failure, is_traced
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel, TimeVaryingLinearGaussianModel
from ..explained import Method, pair_of, times_of
from ..explanation import Explanation
from ..shapley import shapley
from .dual import Target, as_target
from .filter import as_series, run_filter
from .solvers import ClosedLoop


def explain_series(
    model: AbstractLinearGaussianModel,
    data: Any,
    queries: Any = -1,
    target: Any = "next",
    *,
    method: str = "integrated",
    contrast: tuple[Any, Any] | Any = None,
    orders: int | None = None,
    key: Any = 0,
    solver: ClosedLoop | Any = None,
) -> Explanation:
    r"""The estimate at each query as a prior term plus one term per past observation, $\mathrm E[F^\top X_q\mid Z_{<q}]=\text{prior}+\sum_{s<q}w_s$.

    An estimate is affine in the observations, with the controls $-u_s$ of the dual filter as coefficients. With $v(S)$ the estimate
    from the observations at the times in $S$ alone, the term of $Z_s$ is, by `method`,

    - `"integrated"`: $-u_s^\top(Z_s-\mathrm E[Z_s])$, and the prior is $v(\varnothing)$: the integral of the gradient along the line from
      the mean of the series to the series.
    - `"control"`: $-u_s^\top(Z_s-c)$ with the offset $c$ of the observations: the same coefficients, counted from zero.
    - `"news"`: $v(\{0..s\})-v(\{0..s-1\})$, what the estimate changed by when $Z_s$ arrived. $T+1$ filters.
    - `"deletion"`: $v(\text{all})-v(\text{all but }s)$. Does *not* add up: `remainder` is what is left. $T+1$ filters.
    - `"shapley"`: the mean over all orders of arrival; exact up to 12 times, beyond that from random `orders` (256; an even
      number, four at least; others for each of several series) with standard errors in `errors`. $n+1$ filters an order.

    **Arguments:** `data`, one series `[T p]` or a `Sequences`; `queries`, times `0 … T` (negative ones count from the end,
    −1 is `T`), or `"all"`; for a `Sequences`, −1 (each at its own end) or `"all"`; `target`, `"next"`, `"state"`, or an
    array `[d k]`; `contrast`, two channels by name or number, whose difference is explained; `orders` and `key`, of sampled Shapley
    values; `solver`, a `ClosedLoop`, of the first two methods.

    **Raises:** `ConfigurationError` for a query that does not fit, an unknown method, another solver, or one of the last three methods
    with a model that varies in time; `DataError` for data, a target or a contrast that does not fit.
    """
    asked = Method.of(method, orders, key)
    channels = tuple(model.channels or (f"channel {i}" for i in range(model.n_channels)))
    pair = None if contrast is None else pair_of(contrast, target, channels, model.n_channels, "channels")
    aim = as_target(model, target) if pair is None else _difference(as_target(model, "next"), *pair)
    z, mask = as_series(model, data)
    solver = ClosedLoop() if solver is None else solver
    if not isinstance(solver, ClosedLoop):
        raise ConfigurationError(f"explain needs controls at any time; pass a ClosedLoop, not {solver!r}.")
    solver.check(model, mask, "all")
    times = times_of(queries, z.shape[-2], data)
    one = lambda z, mask, times, asked: _by_method(model, z, mask, times, aim, solver, asked)
    if not isinstance(data, Sequences):
        terms = one(z, mask, times, asked)
    else:
        parts = [one(*each, asked.of_sequence(i)) for i, each in enumerate(zip(z, mask, times, strict=True))]
        stack: Any = lambda *arrays: None if arrays[0] is None else jnp.stack(arrays)
        *arrays, results = zip(*parts, strict=True)
        terms = Explained(*[stack(*each) for each in arrays], first_failure(results))  # pyright: ignore[reportCallIssue]
    prior, weights, norms, controls, covariance, remainder, errors, result = terms
    return Explanation(
        times, prior, weights, norms, controls, covariance, result=result, remainder=remainder, errors=errors,
        observations=jnp.where(mask, z, jnp.nan), method=method, columns=_columns(channels, target, aim, pair),
    )  # fmt: skip


class Explained(NamedTuple):
    """The fields of an `Explanation` after its queries."""

    prior: Float[Array, "*n q k"]
    weights: Float[Array, "*n q T k"]
    norms: Float[Array, "*n q T"]
    controls: Float[Array, "*n q T p k"] | None
    covariance: Float[Array, "*n q k k"] | None
    remainder: Float[Array, "*n q k"]
    errors: Float[Array, "*n q T k"] | None
    result: RESULTS


def _columns(channels: tuple[str, ...], target: Any, aim: Target, pair: tuple[int, int] | None) -> tuple[str, ...]:
    """The names of the columns of a target."""
    if pair is not None:
        return (f"{channels[pair[0]]} − {channels[pair[1]]}",)
    if isinstance(target, str) and target == "next":
        return channels
    said = "state" if isinstance(target, str) else "column"
    return tuple(f"{said} {j}" for j in range(aim.F.shape[1]))


def _difference(next_: Target, a: int, b: int) -> Target:
    """Channel `a` minus channel `b`."""
    return Target((next_.F[:, a] - next_.F[:, b])[:, None], (next_.offset[a] - next_.offset[b])[None])


def _by_method(
    model: Any,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    times: Int[np.ndarray, " q"],
    target: Target,
    solver,
    asked: Method,
) -> Explained:
    if asked.name in ("control", "integrated"):
        terms = terms_at(model, z, mask, times, target, solver)
        prior, weights, norms = terms[:3]
        if asked.name == "integrated":
            prior, weights, norms = _from_the_mean(model, mask, prior, weights, terms.controls)
        zero = jnp.zeros_like(prior)  # the estimate is this sum
        return Explained(prior, weights, norms, terms.controls, terms.covariance, zero, None, terms.result)
    if not isinstance(model, LinearGaussianModel):
        raise ConfigurationError(
            f"method={asked.name!r} of a series runs the Kalman filter, which takes time-invariant models; use 'integrated'."
        )
    T, observed = len(z), mask.any(-1)
    values = Partial(_values, model, z, mask, jnp.asarray(times), target)
    prior, total = values(jnp.stack([jnp.zeros(T, bool), jnp.ones(T, bool)]))
    known, errors = observed[None] & (jnp.arange(T)[None] < times[:, None]), None
    if asked.name == "shapley":
        players = np.arange(T) if is_traced(mask) else np.flatnonzero(observed)
        players = players[players < max(times, default=0)]
        weights, errors = shapley(values, players, T, asked.orders, asked.key)
    elif asked.name == "news":
        weights = jnp.moveaxis(jnp.diff(values(jnp.tri(T + 1, T, -1, dtype=bool)), axis=0), 0, 1)
    else:
        weights = jnp.moveaxis(total[None] - values(~jnp.eye(T, dtype=bool)), 0, 1)
    weights = jnp.where(known[..., None], weights, 0)
    remainder, norms = total - prior - weights.sum(1), jnp.abs(weights).sum(-1)
    result = RESULTS.where(jnp.isfinite(weights).all(), RESULTS.successful, RESULTS.breakdown)
    return Explained(prior, weights, norms, None, None, remainder, errors, result)


@jax.jit
def _from_the_mean(model: AbstractLinearGaussianModel, mask, prior, weights, controls: Float[Array, "q T p k"]):
    """`(prior, weights, norms)` counted from the mean of the series: what a mean has in the terms goes to the prior."""
    d, T = model.n_states, controls.shape[1]
    means = model.propagate(jnp.zeros((T, d), prior.dtype).at[0].set(model.initial_mean)) @ model.observation.T
    shifts = -jnp.einsum("qtpk,tp->qtk", controls, jnp.where(mask[:T], means, 0))
    return prior + shifts.sum(1), weights - shifts, jnp.abs(weights - shifts).sum(-1)


@jax.jit
def _values(
    model: LinearGaussianModel,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    times,
    target: Target,
    subsets: Bool[Array, "n T"],
) -> Float[Array, "n q k"]:
    """The estimates from subsets of the times, the others missing, one after the other, so that no states of two of them are held."""

    def one(subset):
        means = run_filter(model, z, mask & subset[:, None]).x[..., : model.n_states]
        return means[times] @ target.F + target.offset[None]

    return lax.map(one, subsets)


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
