"""The dual filter: what the past says of a state, as an optimal control of the costate."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .filter import as_batch, as_observations
from .kernels.detectability import is_undetectable
from .solvers.closed_loop import Controls, solve_closed_loop, stable_residual, uncontrolled
from .solvers.direct import solve_direct, solve_picard
from .solvers.open_loop import impulse_response, solve_fourier
from .solvers.schur import schur_predictions

METHODS = ("auto", "cg", "closed_loop", "schur", "picard", "direct")
MOST_GROWTH = 100.0  # impulse response above which the open loop loses too many digits to be chosen
ASKED, MISSING = "it was asked for", "observations are missing"
EXACT_FEEDBACK = "the feedback of all taps is cheap, and exact"
MOST_COLUMNS = 256  # functionals solved for at once


class LinearDualFilter(eqx.Module):
    """What `linear_dual_filter` returns, for `k` targets (the `d` states by default).

    **Attributes:** `mean` `[k]` and `covariance` `[k k]` of the target given the observations (with `queries="all"`:
    `[T+1 k]`, `[T+1 k k]`, entry `t` given `Z_0 … Z_{t-1}`); `controls` `[T p k]`, with
    `mean = prior - Σ_t u_tᵀ (Z_t - c)`, and `prior` `[k]` (both `None` with `queries="all"`); `iterations`, passes
    spent; `residual`, the error of the mean in posterior standard deviations, verified in a stable norm (0 for
    `schur`, which does not iterate); `method` and `reason`, which solver ran and why; `log_likelihood` (`schur`
    only); `spectral_radius` of the layer (`picard` only); `result`.

    For a `Sequences` arrays and `log_likelihood` have a leading axis of sequences; `iterations`, `residual` and
    `spectral_radius` are the largest, `method` and `reason` name all that occur, and `result` is the first that is
    not successful.
    """

    mean: Array
    covariance: Array
    controls: Array | None
    prior: Array | None
    iterations: int
    residual: float
    method: str
    reason: str
    log_likelihood: float | np.ndarray | None
    spectral_radius: float | None
    result: RESULTS


class Options(NamedTuple):
    """How to solve: see the arguments of `linear_dual_filter`."""

    method: str
    tolerance: float
    max_steps: int
    lags: int


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
    system; see `steerax.inference.linear.kernels.passes`. The error covariance is `J`, a sum of squares.

    **Arguments:**

    - `observations`: `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`, each up to its own end
      (with `queries="all"`, to the longest one's). Sequences with the same gaps and length share one solution.
    - `queries`: `"last"` or `"all"`.
    - `method`: `"cg"`, conjugate gradients with Fourier passes and a skew-circulant preconditioner (time-invariant,
      complete data; `O(T log T)`); `"closed_loop"`, conjugate gradients around the feedback of the first `lags` taps
      (anything); `"schur"`, all predictions and the likelihood at once (time-invariant, complete, `queries="all"`);
      `"direct"`, dense least squares; `"picard"`, the plain iteration of layers; `"auto"` chooses and says why.
    - `target`: `"state"`, `"observation"` (the next one, without its noise in `covariance`), or an array `[d k]`.
    - `tolerance`: of the iteration, relative to the posterior standard deviation; 64 units of rounding by default.
    - `max_steps`: 200 by default.

    **Returns:** `LinearDualFilter`. `result` is `successful` if the verified residual is at most `tolerance` or
    the square root of the precision, whichever is larger; otherwise `max_steps_reached`, `diverged` or `breakdown`.
    It is `undetectable` if an unstable mode is invisible; the answer still holds for this horizon and this prior.
    Where `cg` cannot start because the impulse response leaves the range of its transforms, the answer is the
    estimate with no control, with its own covariance, and `breakdown`.

    **Raises:** `ConfigurationError` for a method that cannot serve the data, `DataError` for wrong shapes.
    """
    many = isinstance(observations, Sequences)
    z, mask = as_batch(model, observations) if many else (a[None] for a in as_observations(model, observations))
    ends = observations.lengths if many else [z.shape[1]]
    F, offset = as_target(model, target)
    tolerance = float(64 * jnp.finfo(z.dtype).eps) if tolerance is None else tolerance
    options = Options(method, tolerance, 200 if max_steps is None else max_steps, lags)
    _check(model, mask, queries, options)
    options = options._replace(lags=max(1, min(lags, 128 // model.n_states)))
    z = jnp.where(mask, z - model.observation_offset[None, None], 0.0)
    solutions, runs = {}, []
    for z_b, mask_b, end in zip(z, mask, ends, strict=True):
        if queries == "all":
            runs.append(_all(model, z_b, mask_b, F, offset, options))
            continue
        pattern = np.asarray(mask_b).tobytes(), int(end)
        if pattern not in solutions:
            solutions[pattern] = _solve(model, mask_b, int(end), F, options)
        runs.append(_answer(model, z_b, solutions[pattern], offset, options))
    return _stacked(runs) if many else runs[0]


class Solved(NamedTuple):
    """Optimal controls, which method found them and why that one, and the spectral radius (`picard` only)."""

    controls: Controls
    method: str
    reason: str
    spectral_radius: float | None = None


def _solve(model, mask, end, F, options: Options) -> Solved:
    """The optimal controls for `FᵀX_end`; what is observed lies before `end`."""
    method, reason, response = options.method, ASKED, None
    if method == "auto":
        method, reason, response = _choose(model, mask, F, "last")
    lags = max(options.lags, getattr(model, "order", 1)) if reason == EXACT_FEEDBACK else options.lags
    source = jnp.zeros((len(mask) + 1, *F.shape), F.dtype).at[end].set(F)
    if method == "cg":
        response = impulse_response(model, F, end) if response is None else response
        controls = _by_fourier(model, mask, source, response, options)
        if reason == ASKED or _small_enough(controls.residual, options.tolerance):
            return Solved(controls, method, reason)
        method, reason = "closed_loop", "conjugate gradients in the open loop lost too many digits"
    if method == "closed_loop":
        return Solved(
            _closed_loop(model, mask, source, lags, options.tolerance, options.max_steps, None), method, reason
        )
    if method == "direct":
        return Solved(_direct(model, mask, source, lags), method, reason)
    controls, radius = _picard(model, mask, source, options.tolerance, options.max_steps)
    return Solved(controls, method, reason, float(radius))


def _by_fourier(model, mask, source, response, options: Options) -> Controls:
    """Conjugate gradients with Fourier passes, the residual checked in the closed loop if the response is large."""
    growth = float(jnp.abs(response).max())
    if not np.isfinite(growth):
        return _uncontrolled(model, mask, source, options.lags)
    controls = solve_fourier(model, len(mask), response, options.tolerance, options.max_steps)
    if growth > MOST_GROWTH:
        checked = _stable_residual(model, mask, source, controls.u, options.lags)
        controls = controls._replace(residual=jnp.maximum(controls.residual, checked))
    return controls


def _answer(model, z, solved: Solved, offset, options: Options) -> LinearDualFilter:
    controls = solved.controls
    mean, prior = _estimate(model.initial_mean, offset, controls.y_0, controls.u, z)
    residual = float(jnp.max(controls.residual))
    residual = float("inf") if np.isnan(residual) else residual
    steps = int(controls.iterations)
    result = _result(model, mean, controls.J, residual, options.tolerance, steps >= options.max_steps, solved.method)
    about = residual, solved.method, solved.reason
    return LinearDualFilter(mean, controls.J, controls.u, prior, steps, *about, None, solved.spectral_radius, result)


@jax.jit
def _estimate(initial_mean, offset, y_0, u, z):
    prior = initial_mean @ y_0 + offset
    return prior - jnp.einsum("tpk,tp->k", u, z), prior


def _stacked(runs: list[LinearDualFilter]) -> LinearDualFilter:
    """One result for several sequences."""

    def together(name, join):
        parts = [getattr(run, name) for run in runs]
        return None if any(part is None for part in parts) else join(parts)

    words = lambda parts: "; ".join(dict.fromkeys(parts))
    return LinearDualFilter(
        mean=jnp.stack([run.mean for run in runs]),
        covariance=jnp.stack([run.covariance for run in runs]),
        controls=together("controls", jnp.stack),
        prior=together("prior", jnp.stack),
        iterations=max(run.iterations for run in runs),
        residual=max(run.residual for run in runs),
        method=words(run.method for run in runs),
        reason=words(run.reason for run in runs),
        log_likelihood=together("log_likelihood", np.asarray),
        spectral_radius=together("spectral_radius", max),
        result=next((run.result for run in runs if run.result != RESULTS.successful), RESULTS.successful),
    )


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


def _check(model, mask, queries, options: Options):
    method, tolerance, max_steps, lags = options
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
    if not invariant and mask.shape[1] > model.horizon:
        raise DataError(f"There are {mask.shape[1]} observations but the operator describes {model.horizon} steps.")


def _choose(model, mask, F, queries):
    """`(method, reason, impulse response if it was needed)`."""
    T, p = mask.shape
    if not isinstance(model, LinearGaussianModel):
        return "closed_loop", "the transition varies in time", None
    if not bool(mask.all()):
        return "closed_loop", MISSING, None
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
_uncontrolled = jax.jit(uncontrolled, static_argnums=3)


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


def _all(model, z, mask, F, offset, options: Options) -> LinearDualFilter:
    """The law of `FᵀX_t` given its past for every `t`."""
    method, reason = options.method, ASKED
    if method == "auto":
        method, reason, _ = _choose(model, mask, F, "all")
    if method == "schur":
        mean, covariance, likelihood, positive = _all_by_schur(model, z, F, offset)
        # digits lost to the subtraction cov X_t - explained show as a covariance that is not positive
        residual, steps = 0.0 if positive else float("inf"), 0
    else:
        likelihood = None
        mean, covariance, residual, steps = _all_by_closed_loop(model, z, mask, F, offset, options)
    exhausted = steps >= options.max_steps
    result = _result(model, mean, covariance, residual, options.tolerance, exhausted, method)
    return LinearDualFilter(mean, covariance, None, None, steps, residual, method, reason, likelihood, None, result)


def _all_by_schur(model, z, F, offset):
    run = schur_predictions(model, z, True)
    return *_functionals(run.states, run.P, F, offset), float(run.log_likelihood), bool(_positive(run.P))


@jax.jit
def _functionals(states, P, F, offset):
    return states @ F + offset[None], jnp.einsum("dk,tde,el->tkl", F, P, F)


@jax.jit
def _positive(P):
    return (jnp.diagonal(P, axis1=1, axis2=2) >= 0).all()


def _all_by_closed_loop(model, z, mask, F, offset, options: Options):
    parts = list(controls_at(model, mask, F, np.arange(len(z) + 1), options.tolerance, options.max_steps, options.lags))
    prior = jnp.concatenate([jnp.einsum("d,ndk->nk", model.initial_mean, c.y_0) for c in parts]) + offset[None]
    mean = prior - jnp.concatenate([jnp.einsum("ntpk,tp->nk", c.u, z) for c in parts])
    residual, steps = max(float(c.residual.max()) for c in parts), max(int(c.iterations) for c in parts)
    return mean, jnp.concatenate([c.J for c in parts]), residual, steps


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
