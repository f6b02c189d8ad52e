"""One pass of the Kalman smoother of any order, on arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ....maths.covariance import pseudo_inverse
from ....models.linear_gaussian import LinearGaussianModel
from .filter_pass import covariance_roots, filter_pass
from .riccati import companion


class SmootherPass(NamedTuple):
    r"""Distributions of the history $\xi_t=(X_t,\dots,X_{t-m+1})$ given everything: means `x`, covariances `V`, and `cross`,
    the covariances of $\xi_{t+1}$ with $\xi_t$."""

    x: Float[Array, "T1 n"]
    V: Float[Array, "T1 n n"]
    cross: Float[Array, "T n n"]
    log_likelihood: Float[Array, ""]


def smoother_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"]) -> SmootherPass:
    r"""Rauch–Tung–Striebel recursion with covariances as sums of positive terms,

    $$V_t=(I-GF)P_{t|t}(I-GF)^\top+G\bar QG^\top+GV_{t+1}G^\top,\qquad G=P_{t|t}F^\top P_{t+1}^+,$$

    so that an error in the gain $G$ enters squared. The pseudo-inverse serves the first steps, when the history
    reaches back before time 0 and part of it is known to be zero.
    """
    n = model.order * model.n_states
    run = filter_pass(model, z, mask, n)
    system = companion(model, model.transition, covariance_roots(model))
    F, H = system.F, system.H
    Q_bar, R, identity = system.G @ system.G.T, model.observation_noise, jnp.eye(n, dtype=z.dtype)

    def step(later, inputs):
        x_later, V_later = later
        x, P, U, e, seen, x_next, P_next = inputs
        H_seen = H * seen.astype(z.dtype)[:, None]
        K = jax.scipy.linalg.cho_solve((U, False), H_seen @ P).T
        x_now = x + K @ e
        rest = identity - K @ H_seen
        P_now = rest @ P @ rest.T + K @ R @ K.T
        G = P_now @ F.T @ pseudo_inverse(P_next)
        rest = identity - G @ F
        V = rest @ P_now @ rest.T + G @ (Q_bar + V_later) @ G.T
        x_s = x_now + G @ (x_later - x_next)
        return (x_s, V), (x_s, V, V_later @ G.T)

    inputs = (run.x[:-1], run.P[:-1], run.U, run.e, mask, run.x[1:], run.P[1:])
    _, (x, V, cross) = jax.lax.scan(step, (run.x[-1], run.P[-1]), inputs, reverse=True)
    return SmootherPass(
        jnp.concatenate([x, run.x[-1:]]), jnp.concatenate([V, run.P[-1:]]), cross, run.log_likelihoods.sum()
    )
