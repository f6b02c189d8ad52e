"""The Kalman smoother of any order: every state given all observations."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._errors import DataError
from ..._results import RESULTS
from ...maths.covariance import pseudo_inverse
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .filter import as_observations, covariance_roots, filter_pass
from .kernels.riccati import companion


class KalmanSmoother(eqx.Module):
    """What `kalman_smoother` returns: `state_means` `[T+1 d]` and `state_covariances` `[T+1 d d]`, the law of
    `X_t` given `Z_0 … Z_{T-1}`; `log_likelihood`; `result`."""

    state_means: Float[Array, "T1 d"]
    state_covariances: Float[Array, "T1 d d"]
    log_likelihood: Float[Array, ""]
    result: RESULTS


class Smoothed(NamedTuple):
    """Laws of the history `ξ_t = (X_t, …, X_{t-m+1})` given everything: `x` `[T+1 n]`, `V` `[T+1 n n]`, and
    `cross` `[T n n]`, the covariance of `ξ_{t+1}` with `ξ_t`."""

    x: Float[Array, "T1 n"]
    V: Float[Array, "T1 n n"]
    cross: Float[Array, "T n n"]
    log_likelihood: Float[Array, ""]


def smoother_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"]) -> Smoothed:
    """Rauch–Tung–Striebel recursion with covariances as sums of positive terms,

        V_t = (I - G F) P_{t|t} (I - G F)ᵀ + G Q̄ Gᵀ + G V_{t+1} Gᵀ,      G = P_{t|t} Fᵀ P_{t+1}⁺,

    so that an error in the gain `G` enters squared. The pseudo-inverse serves the first steps, when the history
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
    return Smoothed(jnp.concatenate([x, run.x[-1:]]), jnp.concatenate([V, run.P[-1:]]), cross, run.log_likelihood)


_smooth = jax.jit(smoother_pass)


def kalman_smoother(model: AbstractLinearGaussianModel, observations: Any) -> KalmanSmoother:
    """The law of `X_t` given all of `Z_0 … Z_{T-1}`, for `t = 0 … T`; see `smoother_pass` for the recursion.

    **Arguments:** `observations`, `[T p]` (or `[T]` if `p = 1`), NaN where missing.

    **Raises:** `DataError` for observations whose shape does not fit, or a model that varies in time.
    """
    if not isinstance(model, LinearGaussianModel):
        raise DataError("kalman_smoother takes a LinearGaussianModel; a time-varying operator is not served.")
    run = _smooth(model, *as_observations(model, observations))
    finite = bool(jnp.isfinite(run.x).all() & jnp.isfinite(run.V).all())
    d = model.n_states
    result = RESULTS.successful if finite else RESULTS.breakdown
    return KalmanSmoother(run.x[:, :d], run.V[:, :d, :d], run.log_likelihood, result)
