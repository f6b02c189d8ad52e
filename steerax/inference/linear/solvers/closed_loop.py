r"""Conjugate gradients around the feedback of a truncated dual Riccati equation: serves every model and all data.

Plain conjugate gradients on the controls fail like $r^{2T}$ on a process with spectral radius $r>1$, and can even
report a convergence they do not have. Around the optimal feedback of a nearby process, the same process with its
taps cut after $n$ lags, the passes are stable and the operator is close to the known covariance of the innovations,
so a handful of iterations suffices; with all taps kept one is enough.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ....data.chunks import chunks
from ....maths.krylov import conjugate_gradients
from ....models.linear_gaussian import AbstractLinearGaussianModel
from .problem import AbstractControlSolver, Controls, DualProblem, relative

_MOST_COLUMNS = 256  # functionals solved for at once


@dataclasses.dataclass(frozen=True)
class ClosedLoop(AbstractControlSolver):
    """Conjugate gradients in the closed loop of `lags` taps.

    **Arguments:** `lags`, fewer where lags times states exceed 128; `tolerance`, relative to the posterior standard
    deviation, 64 units of rounding by default; `max_steps`.
    """

    lags: int = 16
    tolerance: float | None = None
    max_steps: int = 200

    answers = ("last", "all")

    def controls(self, problem: DualProblem) -> Controls:
        return _solve(problem, self.lags_of(problem), self.tolerance_of(problem.source.dtype), self.max_steps)

    def solve_at(
        self,
        model: AbstractLinearGaussianModel,
        mask: Bool[Array, "T p"],
        F: Float[Array, "d k"],
        times: Int[np.ndarray, " q"],
    ) -> Controls:
        r"""Controls for $F^\top X_q$ given $Z_{<q}$ at several times $q$, with a leading axis of times."""
        size, parts = min(len(times), max(1, _MOST_COLUMNS // F.shape[1])), []
        for rows in chunks(len(times), size):
            part = np.asarray(times[rows])
            padded = np.concatenate([part, np.full(size - len(part), part[-1])])  # one shape, so that it compiles once
            parts.append(_by_time(self.controls(_problem_at(model, mask, F, jnp.asarray(padded))), size))
        joined = (jnp.concatenate(arrays)[: len(times)] for arrays in zip(*parts, strict=True))
        u, y_0, J, iterations, residual = joined if len(parts) > 1 else parts[0]
        return self.judged(Controls(u, y_0, J, jnp.max(iterations), residual))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _solve(problem: DualProblem, lags: int, tolerance: float, max_steps: int) -> Controls:
    gains, S_inverse = problem.feedback(lags)
    passes, source = problem.passes(gains), problem.source
    allowed = problem.mask.astype(source.dtype)[..., None]
    allowed = allowed if problem.window is None else allowed * problem.window

    def restricted(v):
        return allowed * passes(allowed * v) + (1 - allowed) * v

    def precondition(g):
        return allowed * jnp.einsum("tpq,tqk->tpk", S_inverse, g)

    y, u = passes.backward(jnp.zeros((*problem.mask.shape, source.shape[2]), source.dtype), source)
    b = -allowed * passes.forward(y, u)
    scale = jnp.diagonal(problem.cost(y, u))

    def solve(matvec, b):
        x, *spent = conjugate_gradients(matvec, b, precondition, tolerance, max_steps, jax.lax.stop_gradient(scale))
        return x, spent

    # derivatives solve the same system again; nothing is differentiated through the iteration
    x, (iterations, residual) = jax.lax.custom_linear_solve(restricted, b, solve, symmetric=True, has_aux=True)
    y, u = passes.backward(allowed * x, source)
    J = problem.cost(y, u)
    return Controls(u, y[0], J, iterations, residual * relative(scale, jnp.diagonal(J)))


@jax.jit
def _problem_at(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], F: Float[Array, "d k"], times: Int[Array, " q"]
) -> DualProblem:
    """One column per time and functional, time by time."""
    (T, _), (d, k), q = mask.shape, F.shape, len(times)
    source = jnp.zeros((T + 1, q, d, k), F.dtype).at[times, jnp.arange(q)].set(F[None])
    source = jnp.moveaxis(source, 1, 2).reshape(T + 1, d, q * k)
    window = (jnp.arange(T)[:, None] < jnp.repeat(times, k)[None]).astype(F.dtype)[:, None]
    return DualProblem(model, mask, source, window)


@functools.partial(jax.jit, static_argnums=1)
def _by_time(run: Controls, q: int) -> tuple[Array, Array, Array, Array, Array]:
    """`(u, y_0, J, iterations, residual)` of the columns of `_problem_at`, each with a leading axis of times."""
    (T, p, columns), d, at = run.u.shape, len(run.y_0), jnp.arange(q)
    k = columns // q
    u = jnp.moveaxis(run.u.reshape(T, p, q, k), 2, 0)
    y_0 = jnp.moveaxis(run.y_0.reshape(d, q, k), 1, 0)
    J = run.J.reshape(q, k, q, k)[at, :, at, :]
    return u, y_0, J, jnp.broadcast_to(run.iterations, q), run.residual.reshape(q, k)


@functools.partial(jax.jit, static_argnums=2)
def stable_residual(problem: DualProblem, u: Float[Array, "T p k"], lags: int) -> Float[Array, " k"]:
    """The residual, as in `Controls`, of controls from any source, measured in the closed loop.

    The costates of `u` are those of the open loop, so whatever an unstable process makes of the errors in `u` shows.
    """
    gains, S_inverse = problem.feedback(lags)
    y, u = problem.passes().backward(u, problem.source)
    g = problem.passes(gains).forward(y, u)
    J = jnp.diagonal(problem.cost(y, u))
    return relative(jnp.einsum("tpk,tpq,tqk->k", g, S_inverse, g), J)


@functools.partial(jax.jit, static_argnums=1)
def uncontrolled(problem: DualProblem, lags: int) -> Controls:
    """No control at all: the estimate that ignores the data, with its own error covariance."""
    u = jnp.zeros((*problem.mask.shape, problem.source.shape[2]), problem.source.dtype)
    y, _ = problem.passes().backward(u, problem.source)
    return Controls(u, y[0], problem.cost(y, u), jnp.asarray(0), stable_residual(problem, u, lags))
