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
from jaxtyping import Array, Float

from ...._errors import ConfigurationError
from ....maths.krylov import conjugate_gradients
from .problem import QUERIES, AbstractSolver, Controls, DualProblem, relative

LARGEST_FEEDBACK = 128  # lags times states: the size of the Riccati equation


@dataclasses.dataclass(frozen=True)
class ClosedLoop(AbstractSolver):
    """Conjugate gradients in the closed loop of `lags` taps.

    **Arguments:** `lags`, fewer where lags times states exceed 128 (unless `all_taps` asks for an exact feedback);
    `tolerance`, relative to the posterior standard deviation, 64 units of rounding by default; `max_steps`.
    """

    lags: int = 16
    tolerance: float | None = None
    max_steps: int = 200
    all_taps: bool = False

    answers = QUERIES

    def check(self, model, mask) -> None:
        if self.lags < 1:
            raise ConfigurationError(f"The lags of the feedback must be at least 1, not {self.lags}.")
        check_iteration(self.tolerance, self.max_steps)

    def solve(self, problem: DualProblem) -> Controls:
        return _solve(problem, self.lags_of(problem), self.tolerance_of(problem.source.dtype), self.max_steps)

    def lags_of(self, problem: DualProblem) -> int:
        """The taps that the feedback keeps."""
        lags = max(1, min(self.lags, LARGEST_FEEDBACK // problem.model.n_states))
        return max(lags, getattr(problem.model, "order", 1)) if self.all_taps else lags


def check_iteration(tolerance: float | None, max_steps: int) -> None:
    """Raises `ConfigurationError` for a tolerance or a number of steps that is not positive."""
    if (tolerance is not None and tolerance <= 0) or max_steps < 1:
        raise ConfigurationError("tolerance and max_steps of a solver must be positive.")


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _solve(problem: DualProblem, lags: int, tolerance: float, max_steps: int) -> Controls:
    gains, S_inverse = problem.feedback_gains(lags)
    passes, source = problem.passes(gains), problem.source
    allowed = problem.mask.astype(source.dtype)[..., None]
    allowed = allowed if problem.window is None else allowed * problem.window

    def restricted(v):
        return allowed * passes(allowed * v)

    def precondition(g):
        return allowed * jnp.einsum("tpq,tqk->tpk", S_inverse, g)

    y, u = passes.backward(problem.rest(), source)
    b = -allowed * passes.forward(y, u)
    scale = jnp.diagonal(problem.cost(y, u))
    solution = conjugate_gradients(restricted, b, precondition, tolerance, max_steps, scale)
    y, u = passes.backward(solution.x, source)
    J = problem.cost(y, u)
    return Controls(u, y[0], J, solution.iterations, solution.residual * relative(scale, jnp.diagonal(J)))


@functools.partial(jax.jit, static_argnums=2)
def stable_residual(problem: DualProblem, u: Float[Array, "T p k"], lags: int) -> Float[Array, " k"]:
    """The residual of controls found by any means, as in `Controls`, measured in the closed loop.

    The costates of `u` are those of the open loop, so whatever an unstable process makes of the errors in `u` shows.
    """
    _, S_inverse = problem.feedback_gains(lags)
    passes = problem.passes()
    y, u = passes.backward(u, problem.source)
    g = passes.forward(y, u)
    J = jnp.diagonal(problem.cost(y, u))
    return relative(jnp.einsum("tpk,tpq,tqk->k", g, S_inverse, g), J)


@functools.partial(jax.jit, static_argnums=1)
def uncontrolled(problem: DualProblem, lags: int) -> Controls:
    """No control at all: the estimate that ignores the data, with its own error covariance."""
    u = problem.rest()
    y, _ = problem.passes().backward(u, problem.source)
    return Controls(u, y[0], problem.cost(y, u), jnp.asarray(0), stable_residual(problem, u, lags))
