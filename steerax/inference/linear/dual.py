"""The dual filter: what the past says about a state, as an optimal control of the costate."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..results import DualFiltered, Gaussian
from .filter import as_series
from .kernels.detectability import is_undetectable
from .solvers import ClosedLoop, Direct, OpenLoop, Schur
from .solvers.open_loop import MOST_GROWTH, impulse_response
from .solvers.problem import AbstractControlSolver, AbstractSolver, Controls, DualProblem, first_failure

FEW_OBSERVATIONS = 64  # up to which a dense factorisation is chosen
SMALL_HISTORY = 32  # order times states up to which the feedback of all taps is chosen
ASKED = "it was asked for"


class _Answer(NamedTuple):
    """The estimates of one series, and how they came about."""

    mean: Float[Array, "*n k"]
    covariance: Float[Array, "*n k k"]
    solver: AbstractSolver
    reason: str
    iterations: int = 0
    residual: float = 0.0
    result: RESULTS = RESULTS.successful
    controls: Float[Array, "T p k"] | None = None
    prior: Float[Array, " k"] | None = None
    log_likelihood: Float[Array, ""] | None = None
    spectral_radius: Float[Array, ""] | None = None


def dual_filter_series(
    model: AbstractLinearGaussianModel,
    data: Any,
    queries: str = "last",
    *,
    target: Any = "state",
    solver: AbstractSolver | Any = None,
) -> DualFiltered:
    r"""The distribution of $X_T$ given $Z_{<T}$ (of every $X_t$ given its past with `queries="all"`), for any order.

    The estimate is $y_0^\top m_0-\sum_tu_t^\top(Z_t-c)$ with the control $u$ that minimises the cost $J(u)$ of the costate
    system; see `kernels/passes.py`. The error covariance is $J$, a sum of squares.

    **Arguments:**

    - `data`: `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`, each up to its own end (with
      `queries="all"`, to the longest one's). Sequences with the same gaps and length share one solution.
    - `queries`: `"last"` or `"all"`.
    - `target`: `"state"`, `"next"` (the next observation, without its noise in the covariance), or an array `[d k]`.
    - `solver`: an object of `steerax.solvers`: `OpenLoop`, conjugate gradients with Fourier passes (time-invariant,
      complete data; $O(T\log T)$); `ClosedLoop`, conjugate gradients around a feedback (anything); `Schur`, all predictions
      and the likelihood at once (time-invariant, complete, `queries="all"`); `Direct`, dense least squares; `Picard`, the
      plain iteration of layers. `None` chooses; `reason` says why.

    **Returns:** `DualFiltered` with `predicted` a `Gaussian` of the target (`k` functionals). `result` is `successful` if
    the verified residual is at most the tolerance or the square root of the precision, whichever is larger; otherwise
    `max_steps_reached`, `diverged` or `breakdown`. It is `undetectable` if an unstable mode is invisible; the answer
    still holds for this horizon and this prior. For a `Sequences` arrays have a leading axis; `layers` and `residuals` are
    the largest, `solver` and `reason` name all that occur, and `result` is the first that is not successful.

    **Raises:** `ConfigurationError` for a solver that cannot serve the data, `DataError` for wrong shapes.
    """
    several = isinstance(data, Sequences)
    z, mask = as_series(model, data)
    _check(model, mask, queries, solver)
    target, ends = as_target(model, target), data.lengths if several else [len(z)]
    z = jnp.where(mask, z - jnp.broadcast_to(model.observation_offset, z.shape), 0.0)
    z, mask = (z, mask) if several else (z[None], mask[None])
    if queries == "all":
        answers = [_all(model, *one, target, solver) for one in zip(z, mask, strict=True)]
    else:
        answers = _last(model, z, mask, ends, target, solver)
    result = first_failure(answer.result for answer in answers)
    if result == RESULTS.successful and isinstance(model, LinearGaussianModel) and is_undetectable(model):
        result = RESULTS.undetectable
    return _dual_filtered(answers, result, jnp.stack if several else lambda parts: parts[0])


def _check(model: AbstractLinearGaussianModel, mask: Bool[Array, "*batch T p"], queries: str, solver: Any) -> None:
    if queries not in ("last", "all"):
        raise ConfigurationError(f"queries is {queries!r}; use 'last' or 'all' (explain takes single times).")
    if not isinstance(model, LinearGaussianModel) and mask.shape[-2] > model.horizon:
        raise DataError(f"There are {mask.shape[-2]} observations but the operator describes {model.horizon} steps.")
    if solver is not None and not isinstance(solver, AbstractSolver):
        raise ConfigurationError(
            f"solver={solver!r} is unknown; pass an object of steerax.solvers, ClosedLoop() for instance."
        )
    if solver is not None:
        solver.check(model, mask, queries)


class Target(NamedTuple):
    r"""The functionals $F$, and the constants added to $F^\top X$."""

    F: Float[Array, "d k"]
    offset: Float[Array, " k"]


def as_target(model: AbstractLinearGaussianModel, target: Any) -> Target:
    """The target of a name or an array. **Raises:** `ConfigurationError` for another name, `DataError` for a wrong shape."""
    d, dtype = model.n_states, model.observation.dtype
    if isinstance(target, str):
        if target == "state":
            return Target(jnp.eye(d, dtype=dtype), jnp.zeros(d, dtype))
        if target == "next":
            return Target(model.observation.T, model.observation_offset)
        raise ConfigurationError(f"Unknown target={target!r}; use 'state', 'next' or an array [{d} k].")
    F = jnp.asarray(target, dtype)
    if F.ndim != 2 or F.shape[0] != d:
        raise DataError(f"The target has shape {F.shape}; the model needs [{d} k].")
    return Target(F, jnp.zeros(F.shape[1], dtype))


def _choose(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], queries: str
) -> tuple[AbstractControlSolver, str] | None:
    """The solver and the reason for it; `None` if the impulse response decides."""
    T, p = mask.shape
    if not isinstance(model, LinearGaussianModel):
        return ClosedLoop(), "the transition varies in time"
    if not bool(mask.all()):
        return ClosedLoop(), "observations are missing"
    if queries == "last" and T * p <= FEW_OBSERVATIONS:
        return Direct(), f"{T * p} observations are few enough for a dense factorisation"
    if queries == "last" and model.order * model.n_states <= SMALL_HISTORY:
        return ClosedLoop(lags=model.order), "the feedback of all taps is cheap, and exact"
    return None


def _solve(problem: DualProblem, end: int, solver: AbstractControlSolver | None) -> tuple[Controls, AbstractSolver, str]:
    """The controls, the solver that gave them and why that one."""
    if solver is not None:
        return solver.solve(problem), solver, ASKED
    choice = _choose(problem.model, problem.mask, "last")
    if choice is None:
        response = impulse_response(problem.model, problem.source[end], end)
        growth = float(jnp.abs(response).max())
        if growth <= MOST_GROWTH:
            controls = OpenLoop().judged(OpenLoop().from_response(problem, response))
            if controls.result == RESULTS.successful:
                return controls, OpenLoop(), "time-invariant and complete, and the impulse response stays bounded"
            choice = ClosedLoop(), "conjugate gradients in the open loop lost too many digits"
        else:
            choice = ClosedLoop(), f"the impulse response grows to {growth:.2g}"
    return choice[0].solve(problem), *choice


def _last(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "B T p"],
    mask: Bool[Array, "B T p"],
    ends: Sequence[int] | np.ndarray,
    target: Target,
    solver: AbstractControlSolver | None,
) -> list[_Answer]:
    r"""The distribution of $F^\top X$ at the end of each series; equal gaps and lengths are solved once."""
    solved, answers = {}, []
    for z_b, mask_b, end in zip(z, mask, ends, strict=True):
        pattern = np.asarray(mask_b).tobytes(), int(end)
        if pattern not in solved:
            solved[pattern] = _solve(DualProblem.at(model, mask_b, target.F, int(end)), int(end), solver)
        controls, *how = solved[pattern]
        mean, prior = _estimate(model, target.offset, controls.y_0, controls.u, z_b)
        answers.append(
            _Answer(
                mean,
                controls.J,
                *how,
                int(controls.iterations),
                float(np.max(controls.residual)),
                controls.result,
                controls.u,
                prior,
                spectral_radius=controls.spectral_radius,
            )
        )
    return answers


@jax.jit
def _estimate(
    model: AbstractLinearGaussianModel,
    offset: Float[Array, " k"],
    y_0: Float[Array, "*n d k"],
    u: Float[Array, "*n T p k"],
    z: Float[Array, "T p"],
) -> tuple[Float[Array, "*n k"], Float[Array, "*n k"]]:
    """Mean and prior of the estimates of given controls."""
    prior = jnp.einsum("d,...dk->...k", model.initial_mean, y_0)
    prior = prior + jnp.broadcast_to(offset, prior.shape)
    return prior - jnp.einsum("...tpk,tp->...k", u, z), prior


def _all(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    target: Target,
    solver: AbstractSolver | None,
) -> _Answer:
    r"""The distribution of $F^\top X_t$ given its past for every $t$."""
    choice = (solver, ASKED) if solver is not None else _choose(model, mask, "all")
    if choice is None:
        growth = float(jnp.abs(impulse_response(model, target.F, len(z))).max())
        choice = ClosedLoop(), f"the impulse response grows to {growth:.2g}"
        if growth <= MOST_GROWTH:
            choice = Schur(), "time-invariant and complete: one factorisation gives all predictions"
    if isinstance(choice[0], Schur):
        run = choice[0].predictions(model, z)
        mean, covariance = _functionals(run.x, run.P, *target)
        # digits lost to the subtraction cov X_t - explained show as a covariance that is not positive
        sound = bool((jnp.diagonal(run.P, axis1=1, axis2=2) >= 0).all())
        result = RESULTS.successful if sound and bool(jnp.isfinite(mean).all()) else RESULTS.breakdown
        residual = 0.0 if sound else np.inf
        return _Answer(mean, covariance, *choice, 0, residual, result, log_likelihood=run.log_likelihood)
    controls = choice[0].solve_at(model, mask, target.F, np.arange(len(z) + 1))
    mean, _ = _estimate(model, target.offset, controls.y_0, controls.u, z)
    steps, residual = int(controls.iterations), float(np.max(controls.residual))
    return _Answer(mean, controls.J, *choice, steps, residual, controls.result)


@jax.jit
def _functionals(
    x: Float[Array, "T d"], P: Float[Array, "T d d"], F: Float[Array, "d k"], offset: Float[Array, " k"]
) -> tuple[Float[Array, "T k"], Float[Array, "T k k"]]:
    return x @ F + offset[None], jnp.einsum("dk,tde,el->tkl", F, P, F)


def _dual_filtered(answers: list[_Answer], result: RESULTS, join: Callable[[Sequence[Any]], Any]) -> DualFiltered:
    """The record of one answer, or of several that `join` puts side by side."""

    def joined(name: str) -> Any:
        parts = [getattr(answer, name) for answer in answers]
        return None if any(part is None for part in parts) else join(parts)

    largest = max((answer.residual for answer in answers), key=lambda r: np.inf if np.isnan(r) else r)
    radii = [float(answer.spectral_radius) for answer in answers if answer.spectral_radius is not None]
    return DualFiltered(
        Gaussian(joined("mean"), joined("covariance")),
        np.array([np.inf if np.isnan(largest) else largest]),
        max(answer.iterations for answer in answers),
        result,
        controls=joined("controls"),
        prior=joined("prior"),
        solver="; ".join(dict.fromkeys(type(answer.solver).__name__ for answer in answers)),
        reason="; ".join(dict.fromkeys(answer.reason for answer in answers)),
        log_likelihood=joined("log_likelihood"),
        spectral_radius=max(radii, default=None),
    )
