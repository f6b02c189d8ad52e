"""The plain iteration of layers, which diverges for ordinary models: for comparison."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ...._errors import ConfigurationError
from ...._results import RESULTS
from ....maths.covariance import solve
from .problem import AbstractControlSolver, Controls, DualProblem, relative


@dataclasses.dataclass(frozen=True)
class Picard(AbstractControlSolver):
    r"""The iteration $u\leftarrow-R^{-1}Hp(u)$ until the residual is at most `tolerance`, at most `max_steps` times."""

    tolerance: float | None = None
    max_steps: int = 200

    def check(self, model, mask, queries) -> None:
        super().check(model, mask, queries)
        if np.linalg.matrix_rank(np.asarray(model.observation_noise)) < model.n_channels:
            raise ConfigurationError("Picard divides by the observation noise, which is singular here.")

    def controls(self, problem: DualProblem) -> Controls:
        return _solve(problem, self.tolerance_of(problem.source.dtype), self.max_steps)

    def judged(self, controls: Controls) -> Controls:
        if not float(np.max(controls.residual)) < 1:
            return controls._replace(result=RESULTS.diverged)
        return super().judged(controls)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _solve(problem: DualProblem, tolerance: float, max_steps: int) -> Controls:
    r"""The iteration and the spectral radius of its linear part.

    The linear part is $-R^{-1}\mathrm{cov}(HX_0\dots HX_{T-1})$: the iteration converges if and only if the signal has less
    variance than the noise in every direction, which ordinary models violate. The radius is estimated by power
    iteration alongside. The residual $\sqrt{g^\top R^{-1}g/J}$ bounds the one of the other solvers.
    """
    mask, source, passes = problem.mask, problem.source, problem.passes()
    (T, p), k, dtype = mask.shape, source.shape[2], source.dtype
    seen = mask.astype(dtype)
    R = seen[:, :, None] * seen[:, None, :] * problem.model.observation_noise[None]
    R_inverse = solve(R + jax.vmap(jnp.diag)(1 - seen), jnp.broadcast_to(jnp.eye(p, dtype=dtype), R.shape))

    def solve_R(g):
        return seen[..., None] * jnp.einsum("tpq,tqk->tpk", R_inverse, g)

    def unfinished(state):
        step, _, _, residual, _ = state
        return (step < max_steps) & jnp.any(residual > tolerance) & jnp.all(jnp.isfinite(residual))

    def iterate(state):
        step, u, power, _, _ = state
        y, u = passes.backward(u, source)
        g = passes.forward(y, u)
        J = jnp.diagonal(problem.cost(y, u))
        residual = relative(jnp.einsum("tpk,tpk->k", g, solve_R(g)), J)
        image = solve_R(passes(power)) - power
        radius = jnp.sqrt(jnp.sum(image**2) / jnp.sum(power**2))
        return step + 1, u - solve_R(g), image / jnp.sqrt(jnp.sum(image**2)), residual, radius

    worst = jnp.full(k, jnp.finfo(dtype).max)
    power = seen[..., None] * jnp.cos(jnp.arange(T * p, dtype=dtype)).reshape(T, p, 1)
    state = (jnp.asarray(0), jnp.zeros((T, p, k), dtype), power, worst, jnp.zeros((), dtype))
    step, u, _, residual, radius = jax.lax.while_loop(unfinished, iterate, state)
    y, u = passes.backward(u, source)
    return Controls(u, y[0], problem.cost(y, u), step, residual, radius)
