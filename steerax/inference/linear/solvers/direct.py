"""Dense least squares: for few observations, and as a check of the other solvers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ....maths.covariance import square_root
from .problem import AbstractControlSolver, Controls, DualProblem, relative


@dataclasses.dataclass(frozen=True)
class Direct(AbstractControlSolver):
    """One dense QR factorisation in the closed loop of `lags` taps, $O((d+p)p^2T^3)$."""

    lags: int = 16

    def controls(self, problem: DualProblem) -> Controls:
        return _solve(problem, self.lags_of(problem))


@functools.partial(jax.jit, static_argnums=1)
def _solve(problem: DualProblem, lags: int) -> Controls:
    r"""The controls that minimise $J(v)=|\Sigma_0^{1/2}y_0|^2+\sum_t|Q^{1/2}y_{t+1}|^2+|R^{1/2}u_t|^2$.

    In the closed-loop coordinate $v$, so that the condition number stays moderate on unstable processes, and as a
    least-squares problem, so that it is not squared.
    """
    gains, _ = problem.feedback(lags)
    passes, mask, source, model = problem.passes(gains), problem.mask, problem.source, problem.model
    (T, p), k = mask.shape, source.shape[2]
    S_0, Q, R = (square_root(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise))

    def weighted(v, source):
        y, u = passes.backward(v, source)
        parts = S_0 @ y[0], jnp.einsum("de,tek->tdk", Q, y[1:]), jnp.einsum("pq,tqk->tpk", R, u)
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
