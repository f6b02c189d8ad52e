"""The toy control problem that several depth experiments share."""

import jax
import jax.numpy as jnp
import numpy as np

from ..depth.theory.control import ControlProblem
from ..depth.theory.field import LinearField


def linear_quadratic(key, decay: float = 0.5) -> ControlProblem:
    """Linear states moved by a common additive control towards targets: everything has a closed form."""
    a, x, y = jax.random.split(key, 3)
    A = 0.8 * jax.random.normal(a, (2, 2))
    X, targets = jax.random.normal(x, (6, 1, 2)), 2 + jax.random.normal(y, (6, 1, 2))
    return ControlProblem(LinearField(A), X, targets, squared_error, decay)


def squared_error(X, y):
    """Half the squared distance of the final state to its target."""
    return 0.5 * ((X - y) ** 2).sum()


def optimal_value(problem: ControlProblem) -> float:
    """The infimum of the continuous linear-quadratic problem.

    Only the mean state is controlled: with `r` the mean of e^A x - y and W = ∫ e^{As} e^{Aᵀs} ds, it is the spread
    around `r` plus ½ λ rᵀ(λ + W)⁻¹ r.
    """
    assert isinstance(problem.field, LinearField)
    A, lam = np.asarray(problem.field.A), problem.decay
    ends = np.asarray(problem.X)[:, 0] @ matrix_exponential(A).T - np.asarray(problem.y)[:, 0]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    W = sum(w / 2 * (E := matrix_exponential(A * (s + 1) / 2)) @ E.T for s, w in zip(nodes, weights, strict=True))
    r = ends.mean(0)
    return float(0.5 * ((ends - r) ** 2).sum(1).mean() + 0.5 * lam * r @ np.linalg.solve(lam * np.eye(len(A)) + W, r))


def matrix_exponential(A: np.ndarray) -> np.ndarray:
    """e^A."""
    return np.asarray(jax.scipy.linalg.expm(jnp.asarray(A)))
