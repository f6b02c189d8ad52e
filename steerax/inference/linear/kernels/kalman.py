r"""The two passes of Kalman's recursions for any order, on arrays: forward (filter) and backward (smoother)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....maths.covariance import pseudo_inverse
from ....models.linear_gaussian import LinearGaussianModel
from .riccati import companion, riccati

_LOG_2PI = float(np.log(2 * np.pi))


class FilterPass(NamedTuple):
    r"""A filter pass on the history $\xi_t=(X_t,\dots,X_{t-m+1})$, $n=md$: predicted means `x` and leading blocks `P` of
    their covariances, roots `U` of the innovation covariances ($S=U^\top U$), innovations `e`, zero where missing."""

    x: Float[Array, "*batch T1 n"]
    P: Float[Array, "*batch T1 k k"]
    U: Float[Array, "*batch T p p"]
    e: Float[Array, "*batch T p"]
    log_likelihoods: Float[Array, "*batch T"]


def filter_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"], keep: int) -> FilterPass:
    r"""$x'=Fx+Ke$ with $e=z-c-Hx$, zero where missing; the log-likelihoods are those of the innovations."""
    system = companion(model, model.transition)
    K, U, P = riccati(system, mask, keep)
    F, H, d = system.F, system.H, model.n_states
    z = jnp.where(mask, z - model.observation_offset[None], 0.0)

    def step(x, inputs):
        z_t, seen, K_t = inputs
        e = jnp.where(seen, z_t - H @ x, 0.0)
        return F @ x + K_t @ e, (x, e)

    x_0 = jnp.zeros(len(F), F.dtype).at[:d].set(model.initial_mean)
    x_T, (x, e) = jax.lax.scan(step, x_0, (z, mask, K))
    white = jax.scipy.linalg.solve_triangular(U, e[..., None], trans="T")[..., 0]
    log_det = jnp.log(jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))).sum(1)
    log_likelihoods = -0.5 * (jnp.sum(white**2, 1) + _LOG_2PI * mask.sum(1)) - log_det
    return FilterPass(jnp.concatenate([x, x_T[None]]), P, U, e, log_likelihoods)


def update(
    H: Float[Array, "p n"],
    R: Float[Array, "p p"],
    x: Float[Array, " n"],
    P: Float[Array, "n n"],
    U: Float[Array, "p p"],
    e: Float[Array, " p"],
    seen: Bool[Array, " p"],
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    r"""Mean and covariance given the observation of the same time too, by the gain $K=PH^\top S^{-1}$ and Joseph's form
    $(I-KH)P(I-KH)^\top+KRK^\top$, whose error is quadratic in that of $K$."""
    H = H * seen.astype(P.dtype)[:, None]
    K = jax.scipy.linalg.cho_solve((U, False), H @ P).T
    rest = jnp.eye(len(x), dtype=P.dtype) - K @ H
    return x + K @ e, rest @ P @ rest.T + K @ R @ K.T


class SmootherPass(NamedTuple):
    r"""Distributions of the history $\xi_t=(X_t,\dots,X_{t-m+1})$, $t=0\dots T$, given everything: means `x`, covariances
    `V`, and `cross`, the covariances of $\xi_{t+1}$ with $\xi_t$."""

    x: Float[Array, "*batch T1 n"]
    V: Float[Array, "*batch T1 n n"]
    cross: Float[Array, "*batch T n n"]
    log_likelihood: Float[Array, "*batch"]


def smoother_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"]) -> SmootherPass:
    r"""Rauch–Tung–Striebel recursion with covariances as sums of positive terms,

    $$V_t=(I-GF)P_{t|t}(I-GF)^\top+G\bar QG^\top+GV_{t+1}G^\top,\qquad G=P_{t|t}F^\top P_{t+1}^+,$$

    so that an error in the gain $G$ enters squared. The pseudo-inverse serves the first steps, when the history
    reaches back before time 0 and part of it is known to be zero.
    """
    n = model.order * model.n_states
    run = filter_pass(model, z, mask, n)
    system = companion(model, model.transition)
    F, Q_bar, identity = system.F, system.G @ system.G.T, jnp.eye(n, dtype=z.dtype)

    def step(later, inputs):
        x_later, V_later = later
        *now, x_next, P_next = inputs
        x_now, P_now = update(system.H, model.observation_noise, *now)
        G = P_now @ F.T @ pseudo_inverse(P_next)
        rest = identity - G @ F
        V = rest @ P_now @ rest.T + G @ (Q_bar + V_later) @ G.T
        x_s = x_now + G @ (x_later - x_next)
        return (x_s, V), (x_s, V, V_later @ G.T)

    inputs = (run.x[:-1], run.P[:-1], run.U, run.e, mask, run.x[1:], run.P[1:])
    _, (x, V, cross) = jax.lax.scan(step, (run.x[-1], run.P[-1]), inputs, reverse=True)
    x, V = jnp.concatenate([x, run.x[-1:]]), jnp.concatenate([V, run.P[-1:]])
    return SmootherPass(x, V, cross, run.log_likelihoods.sum())


def over_series(kernel: Callable[[LinearGaussianModel, Array, Array], Any]) -> Callable[..., Any]:
    """A compiled `kernel(model, z, mask)` of one series `[T p]` that takes several `[B T p]` too, one after the other."""

    def run(model: LinearGaussianModel, z: Float[Array, "*batch T p"], mask: Bool[Array, "*batch T p"]) -> Any:
        if z.ndim == 2:
            return kernel(model, z, mask)
        return jax.lax.map(lambda one: kernel(model, *one), (z, mask))

    return jax.jit(run)
