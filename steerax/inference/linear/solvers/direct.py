"""Dense least squares: for few observations, and as a check of the other solvers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ...._errors import ConfigurationError
from ....maths.covariance import square_root
from .closed_loop import LARGEST_FEEDBACK
from .problem import AbstractSolver, Controls, DualProblem, relative


@dataclasses.dataclass(frozen=True)
class Direct(AbstractSolver):
    """One dense QR factorisation in the closed loop of `lags` taps, $O((d+p)p^2T^3)$."""

    lags: int = 16

    def check(self, model, mask) -> None:
        if self.lags < 1:
            raise ConfigurationError(f"The lags of the feedback must be at least 1, not {self.lags}.")

    def solve(self, problem: DualProblem) -> Controls:
        return _solve(problem, max(1, min(self.lags, LARGEST_FEEDBACK // problem.model.n_states)))


@functools.partial(jax.jit, static_argnums=1)
def _solve(problem: DualProblem, lags: int) -> Controls:
    r"""The controls that minimise $J(v)=|\Sigma_0^{1/2}y_0|^2+\sum_t|Q^{1/2}y_{t+1}|^2+|R^{1/2}u_t|^2$.

    In the closed-loop coordinate $v$, so that the condition number stays moderate on unstable processes, and as a
    least-squares problem, so that it is not squared.
    """
    gains, _ = problem.feedback_gains(lags)
    passes, mask, source = problem.passes(gains), problem.mask, problem.source
    (T, p), k = mask.shape, source.shape[2]
    roots = [square_root(S) for S in problem.noises]

    def weighted(v, source):
        y, u = passes.backward(v, source)
        parts = roots[0] @ y[0], jnp.einsum("de,tek->tdk", roots[1], y[1:]), jnp.einsum("pq,tqk->tpk", roots[2], u)
        return jnp.concatenate([part.reshape(-1, v.shape[2]) for part in parts])

    units = jnp.eye(T * p, dtype=source.dtype).reshape(T, p, T * p)
    rows = weighted(units, jnp.zeros((*source.shape[:2], T * p), source.dtype))
    goal = weighted(jnp.zeros((T, p, k), source.dtype), source)
    # a missing observation has a zero column; a row of its own keeps the factorisation regular and its v at zero
    rows = jnp.concatenate([rows, jnp.diag(1 - mask.reshape(-1).astype(rows.dtype))])
    goal = jnp.concatenate([goal, jnp.zeros((T * p, k), goal.dtype)])
    orthogonal, triangle = jnp.linalg.qr(rows)
    v = -jax.scipy.linalg.solve_triangular(triangle, orthogonal.T @ goal)
    y, u = passes.backward(v.reshape(T, p, k), source)
    J = problem.cost(y, u)
    gradient = orthogonal.T @ (rows @ v + goal)
    return Controls(u, y[0], J, jnp.asarray(1), relative(jnp.sum(gradient**2, axis=0), jnp.diagonal(J)))
