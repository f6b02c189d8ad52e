"""The dual filter: what the past says of a state, as an optimal control of the costate."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.chunks import chunks
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..results import DualFiltered, Gaussian
from .filter import as_batch, as_observations
from .kernels.detectability import is_undetectable
from .solvers import ClosedLoop, Direct, OpenLoop, Picard, Schur
from .solvers.open_loop import MOST_GROWTH, impulse_response
from .solvers.problem import QUERIES, AbstractSolver, Controls, DualProblem
from .solvers.schur import schur_predictions

FEW_OBSERVATIONS = 64  # up to which a dense factorisation is chosen
SMALL_HISTORY = 32  # order times states up to which the feedback of all taps is chosen
MOST_COLUMNS = 256  # functionals solved for at once
ASKED = "it was asked for"


class _Choice(NamedTuple):
    solver: AbstractSolver
    reason: str


def dual_filter_series(
    model: AbstractLinearGaussianModel,
    data: Any,
    queries: str = "last",
    *,
    target: Any = "state",
    solver: AbstractSolver | Any = None,
) -> DualFiltered:
    r"""The distribution of $X_T$ given $Z_0\dots Z_{T-1}$ (of every $X_t$ given its past with `queries="all"`), for any order.

    The estimate $y_0^\top m_0-\sum_tu_t^\top(Z_t-c)$ with the control $u$ that minimises the cost $J(u)$ of the costate
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
    z, mask = as_batch(model, data) if several else (a[None] for a in as_observations(model, data))
    ends = data.lengths if several else [z.shape[1]]
    F, offset = as_target(model, target)
    _check(model, mask, queries, solver)
    z = jnp.where(mask, z - model.observation_offset[None, None], 0.0)
    solved, runs = {}, []
    for z_b, mask_b, end in zip(z, mask, ends, strict=True):
        if queries == "all":
            runs.append(_all(model, z_b, mask_b, F, offset, solver))
            continue
        pattern = np.asarray(mask_b).tobytes(), int(end)
        if pattern not in solved:
            solved[pattern] = _solve(model, mask_b, int(end), F, solver)
        controls, choice = solved[pattern]
        runs.append(_answer(model, z_b, controls, choice, offset))
    return _stacked(runs) if several else runs[0]


def _check(model, mask: Bool[Array, "B T p"], queries: str, solver: Any) -> None:
    if queries not in QUERIES:
        raise ConfigurationError(f"queries is {queries!r}; use 'last' or 'all' (explain takes single times).")
    if not isinstance(model, LinearGaussianModel) and mask.shape[1] > model.horizon:
        raise DataError(f"There are {mask.shape[1]} observations but the operator describes {model.horizon} steps.")
    if solver is None:
        return
    if not isinstance(solver, AbstractSolver):
        raise ConfigurationError(
            f"solver={solver!r} is unknown; pass an object of steerax.solvers, ClosedLoop() for instance."
        )
    solver.check(model, mask)
    if queries not in solver.answers:
        kinds = " or ".join(f"queries={q!r}" for q in solver.answers)
        other = "Schur or ClosedLoop" if queries == "all" else "another solver"
        raise ConfigurationError(f"{_name(solver)} answers {kinds}; for {queries!r} use {other}.")


def _name(solver: AbstractSolver) -> str:
    return type(solver).__name__


def _choose(model, mask: Bool[Array, "T p"], F: Float[Array, "d k"], queries: str) -> _Choice:
    T, p = mask.shape
    if not isinstance(model, LinearGaussianModel):
        return _Choice(ClosedLoop(), "the transition varies in time")
    if not bool(mask.all()):
        return _Choice(ClosedLoop(), "observations are missing")
    if queries == "last" and T * p <= FEW_OBSERVATIONS:
        return _Choice(Direct(), f"{T * p} observations are few enough for a dense factorisation")
    if queries == "last" and model.order * model.n_states <= SMALL_HISTORY:
        return _Choice(ClosedLoop(all_taps=True), "the feedback of all taps is cheap, and exact")
    growth = float(jnp.abs(impulse_response(model, F, T)).max())
    if not growth <= MOST_GROWTH:
        return _Choice(ClosedLoop(), f"the impulse response grows to {growth:.2g}")
    if queries == "all":
        return _Choice(Schur(), "time-invariant and complete: one factorisation gives all predictions")
    return _Choice(OpenLoop(), "time-invariant and complete, and the impulse response stays bounded")


def _solve(model, mask, end: int, F: Float[Array, "d k"], solver: AbstractSolver | None) -> tuple[Controls, _Choice]:
    r"""The optimal controls for $F^\top X_{end}$; what is observed lies before `end`."""
    choice = _choose(model, mask, F, "last") if solver is None else _Choice(solver, ASKED)
    source = jnp.zeros((len(mask) + 1, *F.shape), F.dtype).at[end].set(F)
    problem = DualProblem(model, mask, source)
    controls = choice.solver.solve(problem)
    if isinstance(choice.solver, OpenLoop) and solver is None and not _converged(choice.solver, controls.residual):
        choice = _Choice(ClosedLoop(), "conjugate gradients in the open loop lost too many digits")
        controls = choice.solver.solve(problem)
    return controls, choice


def _converged(solver: AbstractSolver, residual: Float[Array, "*k"]) -> bool:
    return solver.small_enough(residual, residual.dtype)


def _answer(
    model, z: Float[Array, "T p"], controls: Controls, choice: _Choice, offset: Float[Array, " k"]
) -> DualFiltered:
    mean, prior = _estimate(model.initial_mean, offset, controls.y_0, controls.u, z)
    radius = None if controls.spectral_radius is None else float(controls.spectral_radius)
    return DualFiltered(
        Gaussian(mean, controls.J),
        _residuals(controls.residual),
        int(controls.iterations),
        _result(model, mean, controls.J, controls.residual, int(controls.iterations), choice.solver),
        controls=controls.u,
        prior=prior,
        solver=_name(choice.solver),
        reason=choice.reason,
        spectral_radius=radius,
    )


def _residuals(residual: Float[Array, "*k"]) -> Float[np.ndarray, " one"]:
    largest = float(jnp.max(residual))
    return np.array([np.inf if np.isnan(largest) else largest])


@jax.jit
def _estimate(initial_mean, offset, y_0: Float[Array, "d k"], u: Float[Array, "T p k"], z: Float[Array, "T p"]):
    prior = initial_mean @ y_0 + offset
    return prior - jnp.einsum("tpk,tp->k", u, z), prior


def _result(model, mean: Array, covariance: Array, residual: Array, steps: int, solver: AbstractSolver) -> RESULTS:
    finite = bool(jnp.isfinite(mean).all() & jnp.isfinite(covariance).all())
    if not finite or not _converged(solver, residual):
        if isinstance(solver, Picard) and not float(jnp.max(residual)) < 1:
            return RESULTS.diverged
        return RESULTS.max_steps_reached if finite and solver.exhausted(steps) else RESULTS.breakdown
    if isinstance(model, LinearGaussianModel) and is_undetectable(model):
        return RESULTS.undetectable
    return RESULTS.successful


def _all(
    model, z: Float[Array, "T p"], mask, F: Float[Array, "d k"], offset, solver: AbstractSolver | None
) -> DualFiltered:
    r"""The distribution of $F^\top X_t$ given its past for every $t$."""
    choice = _choose(model, mask, F, "all") if solver is None else _Choice(solver, ASKED)
    likelihood = None
    if isinstance(choice.solver, Schur):
        run = schur_predictions(model, z)
        mean, covariance = _functionals(run.states, run.P, F, offset)
        # digits lost to the subtraction cov X_t - explained show as a covariance that is not positive
        positive = (jnp.diagonal(run.P, axis1=1, axis2=2) >= 0).all()
        residual, steps, likelihood = jnp.where(positive, 0.0, jnp.inf), 0, float(run.log_likelihood)
    else:
        controls = controls_at(model, mask, F, np.arange(len(z) + 1), choice.solver)
        prior = jnp.einsum("d,ndk->nk", model.initial_mean, controls.y_0) + offset[None]
        mean, covariance = prior - jnp.einsum("ntpk,tp->nk", controls.u, z), controls.J
        residual, steps = controls.residual, int(controls.iterations)
    return DualFiltered(
        Gaussian(mean, covariance),
        _residuals(residual),
        steps,
        _result(model, mean, covariance, residual, steps, choice.solver),
        solver=_name(choice.solver),
        reason=choice.reason,
        log_likelihood=likelihood,
    )


@jax.jit
def _functionals(states: Float[Array, "T d"], P: Float[Array, "T d d"], F: Float[Array, "d k"], offset):
    return states @ F + offset[None], jnp.einsum("dk,tde,el->tkl", F, P, F)


def controls_at(
    model: AbstractLinearGaussianModel,
    mask: Bool[Array, "T p"],
    F: Float[Array, "d k"],
    times: Int[np.ndarray, " q"],
    solver: AbstractSolver | None = None,
) -> Controls:
    r"""Optimal controls for $F^\top X_q$ given $Z_0\dots Z_{q-1}$ at several times $q$, with a leading axis of times."""
    solver = ClosedLoop() if solver is None else solver
    parts = list(_controls_in_parts(model, mask, F, times, solver))
    u, y_0, J, residual = (jnp.concatenate([getattr(p, name) for p in parts]) for name in ("u", "y_0", "J", "residual"))
    return Controls(u, y_0, J, jnp.asarray(max(int(part.iterations) for part in parts)), residual)


def _controls_in_parts(model, mask, F, times: np.ndarray, solver: AbstractSolver) -> Iterator[Controls]:
    (T, p), (d, k) = mask.shape, F.shape
    size = min(len(times), max(1, MOST_COLUMNS // k))
    for rows in chunks(len(times), size):
        part = np.asarray(times[rows])
        padded = np.concatenate([part, np.full(size - len(part), part[-1])])  # one shape, so that it compiles once
        run = solver.solve(_problem_at(model, mask, F, jnp.asarray(padded)))
        u = jnp.moveaxis(run.u.reshape(T, p, size, k), 2, 0)
        y_0 = jnp.moveaxis(run.y_0.reshape(d, size, k), 1, 0)
        J = run.J.reshape(size, k, size, k)[jnp.arange(size), :, jnp.arange(size), :]
        n = len(part)
        yield Controls(u[:n], y_0[:n], J[:n], run.iterations, run.residual.reshape(size, k)[:n])


@jax.jit
def _problem_at(model, mask: Bool[Array, "T p"], F: Float[Array, "d k"], times: Int[Array, " q"]) -> DualProblem:
    (T, _), (d, k), n = mask.shape, F.shape, len(times)
    source = jnp.zeros((T + 1, n, d, k), F.dtype).at[times, jnp.arange(n)].set(F[None])
    source = jnp.moveaxis(source, 1, 2).reshape(T + 1, d, n * k)
    window = (jnp.arange(T)[:, None] < jnp.repeat(times, k)[None]).astype(F.dtype)[:, None]
    return DualProblem(model, mask, source, window)


def _stacked(runs: Sequence[DualFiltered]) -> DualFiltered:
    """One result for several sequences."""

    def together(name, join):
        parts = [getattr(run, name) for run in runs]
        return None if any(part is None for part in parts) else join(parts)

    words = lambda name: "; ".join(dict.fromkeys(getattr(run, name) for run in runs))
    return DualFiltered(
        jax.tree.map(lambda *parts: jnp.stack(parts), *(run.predicted for run in runs)),
        np.max([run.residuals for run in runs], axis=0),
        max(run.layers for run in runs),
        next((run.result for run in runs if run.result != RESULTS.successful), RESULTS.successful),
        controls=together("controls", jnp.stack),
        prior=together("prior", jnp.stack),
        solver=words("solver"),
        reason=words("reason"),
        log_likelihood=together("log_likelihood", np.asarray),
        spectral_radius=together("spectral_radius", max),
    )


def as_target(model: AbstractLinearGaussianModel, target: Any) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    r"""The functionals $F$ and the constants added to $F^\top X$, from a name or an array."""
    d, dtype = model.n_states, model.observation.dtype
    if isinstance(target, str):
        if target == "state":
            return jnp.eye(d, dtype=dtype), jnp.zeros(d, dtype)
        if target == "next":
            return model.observation.T, model.observation_offset
        raise ConfigurationError(f"Unknown target={target!r}; use 'state', 'next' or an array [{d} k].")
    F = jnp.asarray(target, dtype)
    if F.ndim != 2 or F.shape[0] != d:
        raise DataError(f"The target has shape {F.shape}; the model needs [{d} k].")
    return F, jnp.zeros(F.shape[1], dtype)
