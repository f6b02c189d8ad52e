r"""Pontryagin's condition on toy flows: the Hamiltonian along depth, how far it is from its minimum, and range estimates.

For an optimal control $\theta^*_l\in\arg\min_\theta H_l(\theta)$ with $H_l=H(t_l,X_l,P_{l+1},\theta)$, and
$\partial_\theta H_l=L\,\partial J/\partial\theta_l$ for every control (without smoothing): the stationarity residual is
the layer gradient times the depth.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .control import ControlProblem, costates, objective, states


@eqx.filter_jit
def along_depth(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, " L"]:
    r"""$H_l=H(t_l,X_l,P_{l+1},\theta_l)$."""
    X, P = states(problem, theta), costates(problem, theta)
    return jax.vmap(problem.hamiltonian)(problem.times(theta.shape[0]), X[:-1], P[1:], theta)


@eqx.filter_jit
def conserved(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, " L"]:
    r"""The quantity an optimal control of an autonomous problem ($\zeta=1$) keeps constant in depth, up to $O(\varepsilon)$.

    $H$ itself for $\eta=0$ where the optimum is a smooth function of state and costate (linear-quadratic problems);
    $H-\frac\eta2|\dot\theta|^2$ with smoothing, because then $\partial_\theta H=\eta\ddot\theta$ and
    $\frac{d}{dt}H=\langle\partial_\theta H,\dot\theta\rangle=\frac{d}{dt}\frac\eta2|\dot\theta|^2$.
    """
    L = theta.shape[0]
    H = along_depth(problem, theta)
    if problem.smoothness == 0:
        return H
    rate = jnp.diff(theta, axis=0) * L
    # One-sided slopes at the ends: there the optimum has θ' = 0 up to O(ε).
    ends = jnp.zeros_like(rate[:1])
    before, after = jnp.concatenate([ends, rate]), jnp.concatenate([rate, ends])
    return H - 0.5 * problem.smoothness * (before * after).sum(1)


@eqx.filter_jit
def stationarity(problem: ControlProblem, theta: Float[Array, "L p"]) -> Float[Array, "L p"]:
    r"""$\partial_\theta H_l-\eta\,\ddot\theta_l$ with discrete second differences and free ends; equals $L\,\partial J/\partial\theta_l$."""
    L = theta.shape[0]
    X, P = states(problem, theta), costates(problem, theta)
    dH = jax.vmap(jax.grad(problem.hamiltonian, 3))(problem.times(L), X[:-1], P[1:], theta)
    slope = jnp.diff(theta, axis=0, prepend=theta[:1], append=theta[-1:]) * L
    return dH - problem.smoothness * jnp.diff(slope, axis=0) * L


@eqx.filter_jit
def trust_region_gap(
    problem: ControlProblem, theta: Float[Array, "L p"], radius: float, steps: int = 50
) -> Float[Array, " L"]:
    r"""$H_l(\theta_l)-\min_{|\theta-\theta_l|\le r}H_l(\theta)$ as found by `steps` projected gradient steps.

    A lower bound on the true gap: 0 certifies nothing, a positive number proves that layer `l` is not a minimiser of
    its Hamiltonian. The step is halved whenever it does not decrease $H_l$; the radius is in the units of the control.
    """
    L = theta.shape[0]
    X, P = states(problem, theta), costates(problem, theta)

    def one(t, X, P, centre):
        H = lambda th: problem.hamiltonian(t, X, P, th)

        def step(_, now):
            th, best, size = now
            g = jax.grad(H)(th)
            moved = th - size * g - centre
            norm = jnp.sqrt((moved**2).sum())
            trial = centre + moved * jnp.where(norm > radius, radius / jnp.where(norm > radius, norm, 1), 1)
            value = H(trial)
            better = value < best
            return jnp.where(better, trial, th), jnp.where(better, value, best), jnp.where(better, 2 * size, size / 2)

        start = (centre, H(centre), jnp.asarray(1.0, centre.dtype))
        return start[1] - jax.lax.fori_loop(0, steps, step, start)[1]

    return jax.vmap(one)(problem.times(L), X[:-1], P[1:], theta)


class RangeEstimate(NamedTuple):
    r"""Both sides of the a-priori estimates of an optimal control, and how loose they are.

    `energy`, $\frac\lambda2\|\theta\|^2$ and `energy_bound`, $J(0)-\ell(\theta)$; `pointwise` $|\theta_l|$ and
    `pointwise_bound`, $\lambda^{-1}\sum_b|P^b_{l+1}|\,\|\partial_\theta\zeta F(X^b_l)\|_2$ (the $1/B$ of the mean is in $P$).
    """

    energy: float
    energy_bound: float
    pointwise: np.ndarray
    pointwise_bound: np.ndarray

    @property
    def looseness(self) -> tuple[float, np.ndarray]:
        """Bound over value, for the energy and for each layer."""
        return self.energy_bound / self.energy, self.pointwise_bound / self.pointwise


def range_estimate(problem: ControlProblem, theta: Float[Array, "L p"]) -> RangeEstimate:
    r"""Where an optimal control can lie, from its own costates (needs $\lambda>0$, $\eta=\kappa=0$ for the pointwise part).

    $\frac\lambda2\|\theta\|^2\le J(0)-\ell(\theta)$ holds whenever $J(\theta)\le J(0)$; the pointwise bound is the
    stationarity $\lambda\theta_l=-\sum_b\partial_\theta(\zeta F)^\top P^b_{l+1}$ with norms taken inside the sum.
    """
    L = theta.shape[0]
    X, P = states(problem, theta), costates(problem, theta)

    def bound(t, X, P, th):
        jacobian = jax.vmap(jax.jacobian(lambda X, th: problem.profile(t) * problem.field(X, th), 1), (0, None))(X, th)
        norms = jnp.linalg.norm(jacobian.reshape(len(X), -1, th.size), 2, axis=(-2, -1))
        return (jnp.sqrt((P**2).sum((-1, -2))) * norms).sum() / problem.decay

    pointwise = jax.jit(jax.vmap(bound))(problem.times(L), X[:-1], P[1:], theta)
    return RangeEstimate(
        float(problem.decay / (2 * L) * (theta**2).sum()),
        float(objective(problem, jnp.zeros_like(theta)) - problem.terminal(X[-1])),
        np.sqrt((np.asarray(theta) ** 2).sum(1)),
        np.asarray(pointwise),
    )
