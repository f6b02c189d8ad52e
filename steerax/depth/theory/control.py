r"""Training as optimal control of a toy flow: the objective, its costates, its optimum, and what depth changes.

$$J^\varepsilon(\theta)=\tfrac1B\sum_b\ell(X^b_L,y^b)+\tfrac{\varepsilon\lambda}2\sum_l|\theta_l|^2
 +\tfrac\eta{2\varepsilon}\sum_l|\theta_{l+1}-\theta_l|^2+\tfrac{\varepsilon\kappa}{2B}\sum_{b,l}|\zeta_lF(X^b_l;\theta_l)|^2$$
is the Euler discretisation of a mean-field control problem: one control moves the whole ensemble [HuanYuan2026].
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError
from ..._results import RESULTS
from .field import Field
from .flow import Convergence, fitted_order


class ControlProblem(eqx.Module):
    r"""A field, an ensemble of initial states with targets, a terminal loss and three regularisers.

    **Attributes:** `field`; `X` initial states `[B n D]`; `y` targets, leading axis `B`; `loss` $\ell(X,y)$, a number;
    `decay` $\lambda$; `smoothness` $\eta$; `motion` $\kappa$; `profile` $\zeta(t)$.
    """

    field: Field
    X: Float[Array, "B n D"]
    y: Array
    loss: Callable[[Array, Array], Array]
    decay: float = 0.0
    smoothness: float = 0.0
    motion: float = 0.0
    profile: Callable[[Array], Array] = jnp.ones_like

    def times(self, layers: int) -> Float[Array, " L"]:
        """$t_l=l/L$, $l<L$."""
        return jnp.arange(layers, dtype=self.X.dtype) / layers

    def velocity(self, t, X: Float[Array, "B n D"], theta: Float[Array, " p"]) -> Float[Array, "B n D"]:
        r"""$\zeta(t)F(X^b;\theta)$ for every member of the ensemble."""
        return self.profile(t) * jax.vmap(self.field, in_axes=(0, None))(X, theta)

    def terminal(self, X: Float[Array, "B n D"]) -> Float[Array, ""]:
        """Mean loss of the ensemble's final states."""
        return jax.vmap(self.loss)(X, self.y).mean()

    def hamiltonian(self, t, X: Float[Array, "B n D"], P: Float[Array, "B n D"], theta: Float[Array, " p"]):
        r"""$H=\sum_b\langle P^b,\zeta F(X^b;\theta)\rangle+\frac\lambda2|\theta|^2+\frac\kappa{2B}\sum_b|\zeta F|^2$.

        $P$ carries the $1/B$ of the mean loss. In a network pair $X_l$ with $P_{l+1}$.
        """
        v = self.velocity(t, X, theta)
        return (P * v).sum() + 0.5 * self.decay * (theta**2).sum() + 0.5 * self.motion * (v**2).sum() / len(X)


@eqx.filter_jit
def states(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, "L+1 B n D"]:
    """Forward pass: $X_0..X_L$ of the whole ensemble."""
    L = theta.shape[0]

    def layer(X, now):
        t, theta_l = now
        X = X + problem.velocity(t, X, theta_l) / L
        return X, X

    return jnp.concatenate([problem.X[None], jax.lax.scan(layer, problem.X, (problem.times(L), theta))[1]])


@eqx.filter_jit
def objective(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, ""]:
    r"""$J^\varepsilon(\theta)$."""
    L = theta.shape[0]
    X = states(problem, theta)
    moved = (jnp.diff(X, axis=0) ** 2).sum() * L / len(problem.X)  # ε Σ |ζF|² with ζF = L (X_{l+1} - X_l)
    return (
        problem.terminal(X[-1])
        + problem.decay / (2 * L) * (theta**2).sum()
        + problem.smoothness * L / 2 * (jnp.diff(theta, axis=0) ** 2).sum()
        + problem.motion / 2 * moved
    )


@eqx.filter_jit
def costates(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, "L+1 B n D"]:
    r"""Backward pass: $P_L=\nabla_X$ of the mean loss, $P_l=P_{l+1}+\varepsilon\,\partial_XH_l(X_l,P_{l+1},\theta_l)$."""
    L = theta.shape[0]
    X = states(problem, theta)
    P = jax.grad(problem.terminal)(X[-1])

    def layer(P, now):
        t, X, theta_l = now
        P = P + jax.grad(problem.hamiltonian, 1)(t, X, P, theta_l) / L
        return P, P

    earlier = jax.lax.scan(layer, P, (problem.times(L), X[:-1], theta), reverse=True)[1]
    return jnp.concatenate([earlier, P[None]])


class OptimizedControl(eqx.Module):
    """What `optimal_control` returns: `value` `[L p]`; `result`, how the iteration ended; `statistics`, name → number."""

    value: Float[Array, "L p"]
    result: RESULTS
    statistics: dict[str, Any]


def optimal_control(
    problem: ControlProblem,
    layers: int,
    start: Float[Array, "L p"] | None = None,
    max_steps: int = 60,
    tolerance: float | None = None,
) -> OptimizedControl:
    r"""A local minimiser of $J^\varepsilon$ by damped Newton steps on the whole control, `[L p]`.

    A step solves $(\nabla^2J+\mu I)d=-\nabla J$ with the smallest $\mu$ (0, then powers of 4) that makes the matrix
    positive definite and $J$ decrease. Dense, $O((Lp)^3)$: for toys. `statistics`: objective, gradient norm, steps.

    **Arguments:** `start`, zero by default; `tolerance` on the norm of the gradient per unit of depth,
    $\sqrt{L}|\nabla J|$; None is 64 eps of the dtype times $\max(1,J)$ and the root of
    the number of unknowns; where rounding in the Hessian stops Newton earlier, ten thousand times that still counts.
    """
    p = problem.field.size
    theta = jnp.zeros((layers, p), problem.X.dtype) if start is None else jnp.asarray(start)
    if theta.shape != (layers, p):
        raise ConfigurationError(
            f"The start has shape {theta.shape}; {layers} layers of this field need {(layers, p)}."
        )
    J = lambda flat: float(objective(problem, jnp.asarray(flat, theta.dtype).reshape(layers, p)))
    flat, norm, steps = theta.ravel(), np.inf, 0
    eps = float(jnp.finfo(theta.dtype).eps)
    result = RESULTS.max_steps_reached
    for steps in range(max_steps + 1):  # noqa: B007 - reported below
        value, g, H = (np.asarray(a) for a in derivatives(problem, flat, layers))
        before, norm = norm, float(np.linalg.norm(g) * np.sqrt(layers))
        allowed = tolerance if tolerance is not None else 64 * eps * max(1.0, abs(float(value))) * np.sqrt(flat.size)
        if norm <= allowed:
            result = RESULTS.successful
            break
        stalled = norm < 1e4 * allowed and norm > before / 2  # Newton is quadratic: only rounding is left
        found = None if stalled else _newton_step(np.asarray(flat), float(value), g, H, J)
        if found is None:
            result = RESULTS.successful if norm < 1e4 * allowed else RESULTS.breakdown
            break
        flat = jnp.asarray(found, theta.dtype)
    statistics = {"objective": float(value), "gradient_norm": norm, "steps": steps}
    return OptimizedControl(flat.reshape(layers, p), result, statistics)


@eqx.filter_jit
def derivatives(problem: ControlProblem, flat: Float[Array, " n"], layers: int):
    """Value, gradient and Hessian of the objective in the flattened control."""
    J = lambda flat: objective(problem, flat.reshape(layers, -1))
    return *jax.value_and_grad(J)(flat), jax.hessian(J)(flat)


def _newton_step(flat, value: float, g, H, J: Callable[[Any], float]):
    """A damped Newton step that decreases `J` as far as rounding can tell, or None if none does."""
    scale = np.abs(np.diag(H)).max()
    for mu in [0.0, *(scale * 4.0**k for k in range(-20, 8))]:
        try:
            factor = np.linalg.cholesky(H + mu * np.eye(len(H)))
        except np.linalg.LinAlgError:
            continue
        step = np.linalg.solve(factor.T, np.linalg.solve(factor, g))
        # Near the optimum the decrease falls below the rounding of J long before the gradient is small: there a full
        # Newton step may leave J where it is.
        slack = 8 * np.finfo(g.dtype).eps * max(1.0, abs(value)) if mu == 0 else 0.0
        if J(flat - step) < value + slack:
            return flat - step
    return None


class OptimalValues(NamedTuple):
    r"""$\inf J^\varepsilon$ against depth: `layers`, `values`, the extrapolated `limit`, and the fitted `order` of the gap."""

    layers: np.ndarray
    values: np.ndarray
    limit: float
    convergence: Convergence


def optimal_values(problem: ControlProblem, layers: Sequence[int], limit: float | None = None) -> OptimalValues:
    r"""$|\inf J^\varepsilon-\inf J|\le C\varepsilon$: optimal values at several depths, and the order of their gap.

    Each depth starts from the previous optimum, interpolated. `limit` is $\inf J$ where it is known; otherwise it is
    extrapolated from the two deepest networks, $2J^{\varepsilon/2}-J^\varepsilon$ for a doubling, and those two are
    left out of the fit.
    """
    values, start = [], None
    for L in layers:
        start = None if start is None else start[np.arange(L) * start.shape[0] // L]
        solution = optimal_control(problem, L, start)
        start = solution.value
        values.append(solution.statistics["objective"])
    fitted, known = len(layers), limit
    if known is None:
        a, b = layers[-2:]
        known, fitted = (b * values[-1] - a * values[-2]) / (b - a), fitted - 2
    gaps = np.abs(np.asarray(values) - known)
    convergence = fitted_order(layers[:fitted], gaps[:fitted])
    return OptimalValues(np.asarray(layers), np.asarray(values), float(known), convergence)


def cell_averages(theta: Float[Array, "K p"], layers: int) -> Float[Array, "L p"]:
    """Average a deep control over the cells of a shallower network; `layers` divides `K`.

    The recovery of [HuanYuan2026]: $J^\\varepsilon$ of the averages is within $O(\\varepsilon)$ of $J$ of the control.
    """
    if theta.shape[0] % layers:
        raise ConfigurationError(f"{theta.shape[0]} layers cannot be averaged in {layers} equal cells.")
    return theta.reshape(layers, -1, theta.shape[1]).mean(1)
