"""The dual filter: what the past says of a state, as an optimal control of the costate."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...processes.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .closed_loop import Controls, solve_closed_loop, stable_residual
from .detectability import is_undetectable
from .fourier import impulse_response, solve_fourier
from .kalman import as_observations
from .schur import schur_predictions
from .simple import solve_direct, solve_picard

METHODS = ("auto", "cg", "closed_loop", "schur", "picard", "direct")
MOST_GROWTH = 100.0  # impulse response above which the open loop loses too many digits to be chosen
EXACT_FEEDBACK = "the feedback of all taps is cheap, and exact"
MOST_COLUMNS = 256  # functionals solved for at once


class LinearDualFilter(eqx.Module):
    """What [`linear_dual_filter`][] returns, for `k` targets (the `d` states by default).

    **Attributes:** `mean` `[k]` and `covariance` `[k k]` of the target given the observations (with `queries="all"`:
    `[T+1 k]`, `[T+1 k k]`, entry `t` given `Z_0 … Z_{t-1}`); `controls` `[T p k]`, with
    `mean = prior - Σ_t u_tᵀ (Z_t - c)`, and `prior` `[k]` (both `None` with `queries="all"`); `iterations`, passes
    spent; `residual`, the error of the mean in posterior standard deviations, verified in a stable norm (0 for
    `schur`, which does not iterate); `method` and `reason`, which solver ran and why; `log_likelihood` (`schur`
    only); `spectral_radius` of the layer (`picard` only); `result`.
    """

    mean: Array
    covariance: Array
    controls: Array | None
    prior: Array | None
    iterations: int
    residual: float
    method: str
    reason: str
    log_likelihood: float | None
    spectral_radius: float | None
    result: RESULTS


def linear_dual_filter(
    model: AbstractLinearGaussianModel,
    observations: Any,
    queries: str = "last",
    method: str = "auto",
    *,
    target: Any = "state",
    tolerance: float | None = None,
    max_steps: int | None = None,
    lags: int = 16,
) -> LinearDualFilter:
    """The law of `X_T` given `Z_0 … Z_{T-1}` (of every `X_t` given its past with `queries="all"`), for any order.

    The estimate `y_0ᵀm_0 - Σ_t u_tᵀ(Z_t - c)` with the control `u` that minimises the cost `J(u)` of the costate
    system; see `steerax.inference.gaussian.passes`. The error covariance is `J`, a sum of squares.

    **Arguments:**

    - `observations`: `[T p]` (or `[T]` if `p = 1`), NaN where missing.
    - `queries`: `"last"` or `"all"`.
    - `method`: `"cg"`, conjugate gradients with Fourier passes and a skew-circulant preconditioner (time-invariant,
      complete data; `O(T log T)`); `"closed_loop"`, conjugate gradients around the feedback of the first `lags` taps
      (anything); `"schur"`, all predictions and the likelihood at once (time-invariant, complete, `queries="all"`);
      `"direct"`, dense least squares; `"picard"`, the plain iteration of layers; `"auto"` chooses and says why.
    - `target`: `"state"`, `"observation"` (the next one, without its noise in `covariance`), or an array `[d k]`.
    - `tolerance`: of the iteration, relative to the posterior standard deviation; 64 units of rounding by default.
    - `max_steps`: 200 by default.

    **Returns:** [`LinearDualFilter`][]. `result` is `successful` if the verified residual is at most `tolerance` or
    the square root of the precision, whichever is larger; otherwise `max_steps_reached`, `diverged` or `breakdown`.
    It is `undetectable` if an unstable mode is invisible; the answer still holds for this horizon and this prior.

    **Raises:** `ConfigurationError` for a method that cannot serve the data, `DataError` for wrong shapes.
    """
    z, mask = as_observations(model, observations)
    T, dtype = len(z), z.dtype
    F, offset = as_target(model, target)
    tolerance = float(64 * jnp.finfo(dtype).eps) if tolerance is None else tolerance
    max_steps = 200 if max_steps is None else max_steps
    _check(model, mask, queries, method, tolerance, max_steps, lags)
    lags = max(1, min(lags, 128 // model.n_states))
    response = None
    reason = "it was asked for"
    if method == "auto":
        method, reason, response = _choose(model, mask, F, queries)
        lags = max(lags, getattr(model, "order", 1)) if reason == EXACT_FEEDBACK else lags
    z = jnp.where(mask, z - model.observation_offset[None], 0.0)
    if method == "schur":
        return _all_by_schur(model, z, F, offset, reason)
    if queries == "all":
        return _all_by_closed_loop(model, z, mask, F, offset, tolerance, max_steps, lags, reason)

    source = jnp.zeros((T + 1, *F.shape), dtype).at[T].set(F)
    radius = None
    if method == "cg":
        assert isinstance(model, LinearGaussianModel)  # checked above
        response = impulse_response(model, F, T) if response is None else response
        controls = solve_fourier(model, T, response, tolerance, max_steps)
        if float(jnp.abs(response).max()) > MOST_GROWTH:
            checked = _stable_residual(model, mask, source, controls.u, lags)
            controls = controls._replace(residual=jnp.maximum(controls.residual, checked))
        if reason != "it was asked for" and not _small_enough(controls.residual, tolerance):
            method, reason = "closed_loop", "conjugate gradients in the open loop lost too many digits"
    if method == "closed_loop":
        controls = _closed_loop(model, mask, source, lags, tolerance, max_steps, None)
    elif method == "direct":
        controls = _direct(model, mask, source, lags)
    elif method == "picard":
        controls, radius = _picard(model, mask, source, tolerance, max_steps)
        radius = float(radius)
    prior = model.initial_mean @ controls.y_0 + offset
    mean = prior - jnp.einsum("tpk,tp->k", controls.u, z)
    residual = float(jnp.max(controls.residual))
    steps = int(controls.iterations)
    result = _result(model, mean, controls.J, residual, tolerance, steps >= max_steps, method)
    return LinearDualFilter(mean, controls.J, controls.u, prior, steps, residual, method, reason, None, radius, result)


def as_target(model: AbstractLinearGaussianModel, target: Any) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """The functionals `F` and the constants added to `FᵀX`, from a name or an array."""
    d, dtype = model.n_states, model.observation.dtype
    if isinstance(target, str):
        if target == "state":
            return jnp.eye(d, dtype=dtype), jnp.zeros(d, dtype)
        if target in ("observation", "next_observation", "next_token"):
            return model.observation.T, model.observation_offset
        raise ConfigurationError(f"There is no target {target!r}; use 'state', 'observation' or an array [{d} k].")
    F = jnp.asarray(target, dtype)
    if F.ndim != 2 or F.shape[0] != d:
        raise DataError(f"The target has shape {F.shape}; the model needs [{d} k].")
    return F, jnp.zeros(F.shape[1], dtype)


def _check(model, mask, queries, method, tolerance, max_steps, lags):
    if queries not in ("last", "all"):
        raise ConfigurationError(f"queries is {queries!r}; use 'last' or 'all' (explain takes single times).")
    if method not in METHODS:
        raise ConfigurationError(f"There is no method {method!r}; use one of {', '.join(METHODS)}.")
    if tolerance <= 0 or max_steps < 1 or lags < 1:
        raise ConfigurationError("tolerance, max_steps and lags must be positive.")
    invariant = isinstance(model, LinearGaussianModel)
    if method in ("cg", "schur") and not (invariant and bool(mask.all())):
        raise ConfigurationError(
            f"Method {method!r} needs a time-invariant model and complete data; use 'closed_loop' for gaps and operators."
        )
    if method == "schur" and queries != "all":
        raise ConfigurationError("Method 'schur' computes all predictions; pass queries='all'.")
    if method in ("cg", "picard", "direct") and queries == "all":
        raise ConfigurationError(f"Method {method!r} answers queries='last'; for 'all' use 'schur' or 'closed_loop'.")
    if method == "picard" and np.linalg.matrix_rank(np.asarray(model.observation_noise)) < model.n_channels:
        raise ConfigurationError("Method 'picard' divides by the observation noise, which is singular here.")
    if not invariant and len(mask) > model.horizon:
        raise DataError(f"There are {len(mask)} observations but the operator describes {model.horizon} steps.")


def _choose(model, mask, F, queries):
    """`(method, reason, impulse response if it was needed)`."""
    T, p = mask.shape
    if not isinstance(model, LinearGaussianModel):
        return "closed_loop", "the transition varies in time", None
    if not bool(mask.all()):
        return "closed_loop", "observations are missing", None
    if queries == "last" and T * p <= 64:
        return "direct", f"{T * p} observations are few enough for a dense factorisation", None
    if queries == "last" and model.order * model.n_states <= 32:
        return "closed_loop", EXACT_FEEDBACK, None
    response = impulse_response(model, F, T)
    growth = float(jnp.abs(response).max())
    if not growth <= MOST_GROWTH:
        return "closed_loop", f"the impulse response grows to {growth:.2g}", None
    if queries == "all":
        return "schur", "time-invariant and complete: one factorisation gives all predictions", None
    return "cg", "time-invariant and complete, and the impulse response stays bounded", response


_closed_loop = jax.jit(solve_closed_loop, static_argnums=(3, 4, 5))
_stable_residual = jax.jit(stable_residual, static_argnums=4)
_direct = jax.jit(solve_direct, static_argnums=3)
_picard = jax.jit(solve_picard, static_argnums=(3, 4))


def _small_enough(residual, tolerance) -> bool:
    return bool(jnp.max(residual) <= max(tolerance, float(jnp.finfo(residual.dtype).eps) ** 0.5))


def _result(model, mean, covariance, residual, tolerance, exhausted, method):
    finite = bool(jnp.isfinite(mean).all() & jnp.isfinite(covariance).all())
    if not finite or not _small_enough(jnp.asarray(residual, mean.dtype), tolerance):
        if method == "picard" and not residual < 1:
            return RESULTS.diverged
        return RESULTS.max_steps_reached if finite and exhausted else RESULTS.breakdown
    if isinstance(model, LinearGaussianModel) and is_undetectable(model):
        return RESULTS.undetectable
    return RESULTS.successful


def _all_by_schur(model, z, F, offset, reason):
    run = schur_predictions(model, z, True)
    mean = run.states @ F + offset[None]
    covariance = jnp.einsum("dk,tde,el->tkl", F, run.P, F)
    # digits lost to the subtraction cov X_t - explained show as a covariance that is not positive
    positive = bool((jnp.diagonal(run.P, axis1=1, axis2=2) >= 0).all())
    residual = 0.0 if positive else float("inf")
    result = _result(model, mean, covariance, residual, 1.0, False, "schur")
    likelihood = float(run.log_likelihood)
    return LinearDualFilter(mean, covariance, None, None, 0, residual, "schur", reason, likelihood, None, result)


def _all_by_closed_loop(model, z, mask, F, offset, tolerance, max_steps, lags, reason):
    T = len(z)
    parts = list(controls_at(model, mask, F, np.arange(T + 1), tolerance, max_steps, lags))
    prior = jnp.concatenate([jnp.einsum("d,ndk->nk", model.initial_mean, c.y_0) for c in parts]) + offset[None]
    mean = prior - jnp.concatenate([jnp.einsum("ntpk,tp->nk", c.u, z) for c in parts])
    J = jnp.concatenate([c.J for c in parts])
    residual = max(float(c.residual.max()) for c in parts)
    steps = max(int(c.iterations) for c in parts)
    result = _result(model, mean, J, residual, tolerance, steps >= max_steps, "closed_loop")
    return LinearDualFilter(mean, J, None, None, steps, residual, "closed_loop", reason, None, None, result)


def controls_at(model, mask, F, queries, tolerance, max_steps, lags):
    """Optimal controls for `FᵀX_q` given `Z_0 … Z_{q-1}`, in batches of queries `q`.

    Yields `Controls` with a leading axis of queries: `u` `[n T p k]`, `y_0` `[n d k]`, `J` `[n k k]`.
    """
    k = F.shape[1]
    size = min(len(queries), max(1, MOST_COLUMNS // k))
    for first in range(0, len(queries), size):
        chunk = np.asarray(queries[first : first + size])
        padded = np.concatenate([chunk, np.full(size - len(chunk), chunk[-1])])
        run = _controls_at(model, mask, F, jnp.asarray(padded), tolerance, max_steps, lags)
        yield jax.tree.map(lambda a: a[: len(chunk)] if a.ndim else a, run)  # noqa: B023


@partial(jax.jit, static_argnums=(4, 5, 6))
def _controls_at(model, mask, F, queries, tolerance, max_steps, lags):
    (T, p), (d, k), n = mask.shape, F.shape, len(queries)
    source = jnp.zeros((T + 1, n, d, k), F.dtype).at[queries, jnp.arange(n)].set(F[None])
    source = jnp.moveaxis(source, 1, 2).reshape(T + 1, d, n * k)
    window = (jnp.arange(T)[:, None] < jnp.repeat(queries, k)[None]).astype(F.dtype)[:, None]
    run = solve_closed_loop(model, mask, source, lags, tolerance, max_steps, window)
    blocks = run.J.reshape(n, k, n, k)[jnp.arange(n), :, jnp.arange(n), :]
    u = jnp.moveaxis(run.u.reshape(T, p, n, k), 2, 0)
    y_0 = jnp.moveaxis(run.y_0.reshape(d, n, k), 1, 0)
    return Controls(u, y_0, blocks, run.iterations, run.residual.reshape(n, k))
