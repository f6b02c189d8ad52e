"""The dual filter: what the past says about a state, as an optimal control of the costate."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS, first_failure, is_traced, result_where
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel, TimeVaryingLinearGaussianModel
from ..explained import functions_of
from ..results import DualFiltered, Gaussian
from .filter import as_series
from .kernels.detectability import is_undetectable
from .solvers import ClosedLoop, Direct, OpenLoop, Schur
from .solvers.open_loop import MOST_GROWTH, impulse_response
from .solvers.problem import AbstractControlSolver, AbstractSolver, Controls, DualProblem
from .solvers.schur import Predictions

FEW_OBSERVATIONS = 64  # up to which a dense factorisation is chosen
SMALL_HISTORY = 32  # order times states up to which the feedback of all taps is chosen
_ASKED = "it was asked for"


class _Choice(NamedTuple):
    """A solver and why that one; the impulse response, if it was needed to choose `OpenLoop`."""

    solver: AbstractSolver
    reason: str
    response: Float[Array, "d c q"] | None = None


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
    return _together(answers) if several else answers[0]


def _check(model: AbstractLinearGaussianModel, mask: Bool[Array, "*batch T p"], queries: str, solver: Any) -> None:
    if queries not in ("last", "all"):
        raise ConfigurationError(f"queries is {queries!r}; use 'last' or 'all' (explain takes single times).")
    if isinstance(model, TimeVaryingLinearGaussianModel) and mask.shape[-2] > model.horizon:
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
    F = functions_of(target, d).astype(dtype)
    return Target(F, jnp.zeros(F.shape[1], dtype))


def _choose(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], F: Float[Array, "d k"], queries: str
) -> _Choice:
    T, p = mask.shape
    if is_traced(model, mask):
        return _Choice(ClosedLoop(), "inside jit, where values are not known, it serves every model and all data")
    if not isinstance(model, LinearGaussianModel):
        return _Choice(ClosedLoop(), "the transition varies in time")
    if not bool(mask.all()):
        return _Choice(ClosedLoop(), "observations are missing")
    if queries == "last" and T * p <= FEW_OBSERVATIONS:
        return _Choice(Direct(), f"{T * p} observations are few enough for a dense factorisation")
    if queries == "last" and model.order * model.n_states <= SMALL_HISTORY:
        return _Choice(ClosedLoop(lags=model.order), "the feedback of all taps is cheap, and exact")
    response = impulse_response(model, F, T)
    growth = float(jnp.abs(response).max())
    if not growth <= MOST_GROWTH:
        return _Choice(ClosedLoop(), f"the impulse response grows to {growth:.2g}")
    if queries == "all":
        return _Choice(Schur(), "time-invariant and complete: one factorisation gives all predictions")
    return _Choice(OpenLoop(), "time-invariant and complete, and the impulse response stays bounded", response)


def _solve(problem: DualProblem, F: Float[Array, "d k"], solver: AbstractSolver | None) -> tuple[Controls, _Choice]:
    choice = _Choice(solver, _ASKED) if solver is not None else _choose(problem.model, problem.mask, F, "last")
    if choice.response is not None:
        controls = OpenLoop().judged(OpenLoop().controls(problem, choice.response))
        if controls.result == RESULTS.successful:
            return controls, choice
        choice = _Choice(ClosedLoop(), "conjugate gradients in the open loop lost too many digits")
    assert isinstance(choice.solver, AbstractControlSolver)
    return choice.solver.solve(problem), choice


def _last(
    model: AbstractLinearGaussianModel,
    z: Float[Array, "B T p"],
    mask: Bool[Array, "B T p"],
    ends: Sequence[int] | np.ndarray,
    target: Target,
    solver: AbstractSolver | None,
) -> list[DualFiltered]:
    r"""The distribution of $F^\top X$ at the end of each series; equal gaps and lengths are solved once."""
    solved, answers = {}, []
    for z_b, mask_b, end in zip(z, mask, ends, strict=True):
        pattern = (len(answers) if is_traced(mask_b) else np.asarray(mask_b).tobytes()), int(end)
        if pattern not in solved:
            source = jnp.zeros((z.shape[1] + 1, *target.F.shape), z.dtype).at[int(end)].set(target.F)
            solved[pattern] = _solve(DualProblem(model, mask_b, source), target.F, solver)
        controls, choice = solved[pattern]
        mean, prior = _estimate(model, target.offset, controls.y_0, controls.u, z_b)
        radius = None if controls.spectral_radius is None else float(controls.spectral_radius)
        more = {"controls": controls.u, "prior": prior, "spectral_radius": radius}
        answers.append(_answer(model, Gaussian(mean, controls.J), controls, choice, **more))
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
) -> DualFiltered:
    r"""The distribution of $F^\top X_t$ given its past for every $t$."""
    choice = _Choice(solver, _ASKED) if solver is not None else _choose(model, mask, target.F, "all")
    if isinstance(choice.solver, Schur):
        run = choice.solver.predictions(model, z)
        predicted = _functionals(run.x, run.P, *target)
        return _answer(model, predicted, run, choice, log_likelihood=run.log_likelihood)
    assert isinstance(choice.solver, ClosedLoop)
    controls = choice.solver.solve_at(model, mask, target.F, np.arange(len(z) + 1))
    mean, _ = _estimate(model, target.offset, controls.y_0, controls.u, z)
    return _answer(model, Gaussian(mean, controls.J), controls, choice)


@jax.jit
def _functionals(
    x: Float[Array, "T d"], P: Float[Array, "T d d"], F: Float[Array, "d k"], offset: Float[Array, " k"]
) -> Gaussian:
    return Gaussian(x @ F + offset[None], jnp.einsum("dk,tde,el->tkl", F, P, F))


def _answer(
    model: AbstractLinearGaussianModel,
    predicted: Gaussian,
    solved: Controls | Predictions,
    choice: _Choice,
    **more: Any,
) -> DualFiltered:
    """The record of one series."""
    result = solved.result
    residual = jnp.nan_to_num(jnp.max(solved.residual), nan=jnp.inf, posinf=jnp.inf)[None]
    if isinstance(model, LinearGaussianModel) and not is_traced(model) and is_undetectable(model):
        result = result_where(result == RESULTS.successful, RESULTS.undetectable, result)
    traced = is_traced(solved)
    return DualFiltered(
        predicted,
        residual if traced else np.asarray(residual),
        solved.iterations if traced else int(solved.iterations),
        result,
        solver=type(choice.solver).__name__,
        reason=choice.reason,
        **more,
    )


def _together(answers: Sequence[DualFiltered]) -> DualFiltered:
    """The record of several series."""

    def joined(name: str, join: Callable[[list[Any]], Any]) -> Any:
        parts = [getattr(answer, name) for answer in answers]
        return None if any(part is None for part in parts) else join(parts)

    words = lambda parts: "; ".join(dict.fromkeys(parts))
    return DualFiltered(
        jax.tree.map(lambda *parts: jnp.stack(parts), *(answer.predicted for answer in answers)),
        joined("residuals", lambda parts: np.max(parts, axis=0)),
        joined("layers", max),
        first_failure(answer.result for answer in answers),
        controls=joined("controls", jnp.stack),
        prior=joined("prior", jnp.stack),
        solver=joined("solver", words),
        reason=joined("reason", words),
        log_likelihood=joined("log_likelihood", jnp.stack),
        spectral_radius=joined("spectral_radius", max),
    )
