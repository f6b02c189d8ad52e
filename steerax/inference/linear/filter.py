"""The Kalman filter of any order: the baseline, and the tool of choice when order times dimension is small."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._errors import DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...maths.covariance import square_root
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .kernels.riccati import companion, riccati

LOG_2PI = float(np.log(2 * np.pi))


class Roots(NamedTuple):
    """Square roots of the three covariances of a model, `Q = (Q½)ᵀ Q½` and so on."""

    S_0: Float[Array, "d d"]
    Q: Float[Array, "d d"]
    R: Float[Array, "p p"]


def covariance_roots(model: AbstractLinearGaussianModel) -> Roots:
    """`Σ_0½, Q½, R½`; singular covariances are allowed."""
    return Roots(*(_root(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise)))


def _root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The Cholesky factor, or where there is none (it is not finite then) the symmetric square root, which is slower."""
    factor = jnp.linalg.cholesky(S).T
    return jax.lax.cond(jnp.isfinite(factor).all(), lambda: factor, lambda: square_root(S))


class KalmanFilter(eqx.Module):
    """What `kalman_filter` returns. For a `Sequences` every array has a leading axis of sequences.

    **Attributes:** `state_means` `[T+1 d]` and `state_covariances` `[T+1 d d]`: entry `t` is the law of `X_t` given
    `Z_0 … Z_{t-1}` (predictive; the last entry looks one step past the data). `log_likelihood`, a number per
    sequence, in nats. `innovations` `[T p]`, `Z_t` minus its prediction, 0 where missing. `result`.
    """

    state_means: Float[Array, "*B T1 d"]
    state_covariances: Float[Array, "*B T1 d d"]
    log_likelihood: Float[Array, "*B"]
    innovations: Float[Array, "*B T p"]
    result: RESULTS


class Pass(NamedTuple):
    """A filter pass on the companion state of dimension n = m d."""

    x: Float[Array, "T1 n"]
    P: Float[Array, "T1 k k"]
    K: Float[Array, "T n p"]
    U: Float[Array, "T p p"]
    e: Float[Array, "T p"]
    log_likelihood: Float[Array, ""]


def filter_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"], keep: int) -> Pass:
    """`x' = F x + K e` with `e = z - c - H x`, zero where missing; the log-likelihood is that of the innovations."""
    system = companion(model, model.transition, covariance_roots(model))
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
    log_det = jnp.log(jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))).sum()
    log_likelihood = -0.5 * (jnp.sum(white**2) + LOG_2PI * mask.sum()) - log_det
    return Pass(jnp.concatenate([x, x_T[None]]), P, K, U, e, log_likelihood)


def kalman_filter(model: AbstractLinearGaussianModel, observations: Any) -> KalmanFilter:
    """The law of `X_t` given `Z_0 … Z_{t-1}` for every `t = 0 … T`, by the square-root Kalman filter.

        P_{t+1} = F P_t Fᵀ + Q - K_t S_t K_tᵀ,    S_t = H P_t Hᵀ + R,    x_{t+1} = F x_t + K_t (Z_t - c - H x_t)

    on the history `(X_t, …, X_{t-m+1})`, `O((m d)³)` a step until the covariance settles and `O((m d)²)` after.
    For orders `m` in the tens and beyond, `linear_dual_filter` does the same in far less.

    **Arguments:** `observations`, `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`.

    **Returns:** `KalmanFilter`; `result` is `RESULTS.breakdown` if an innovation has variance zero (`R` and the
    predicted covariance are both singular) or the covariance overflows.

    **Raises:** `DataError` for observations whose shape does not fit, or infinite ones.
    """
    if not isinstance(model, LinearGaussianModel):
        raise DataError(
            "kalman_filter takes a LinearGaussianModel; for a time-varying operator use linear_dual_filter."
        )
    if isinstance(observations, Sequences):
        z, mask = as_batch(model, observations)
        run = _filter_batch(model, z, mask)
    else:
        z, mask = as_observations(model, observations)
        run = _filter_one(model, z, mask)
    d = model.n_states
    result = RESULTS.successful if _finite(run.log_likelihood, run.P) else RESULTS.breakdown
    return KalmanFilter(run.x[..., :d], run.P, run.log_likelihood, run.e, result)


@jax.jit
def _finite(*arrays):
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in arrays]))


@jax.jit
def _filter_one(model, z, mask):
    return filter_pass(model, z, mask, model.n_states)


@jax.jit
def _filter_batch(model, z, mask):
    return jax.lax.map(lambda one: filter_pass(model, one[0], one[1], model.n_states), (z, mask))


def as_observations(model: AbstractLinearGaussianModel, observations: Any) -> tuple[Array, Array]:
    """`(z, mask)`, `[T p]` each: the observations in the model's dtype with 0 where they are missing (NaN)."""
    if isinstance(observations, Sequences):
        raise DataError("One sequence is needed here, not a Sequences; pass data[i].")
    z = np.asarray(observations)
    p = model.n_channels
    if z.ndim == 1 and p == 1:
        z = z[:, None]
    if z.ndim != 2 or z.shape[1] != p or len(z) == 0 or not np.issubdtype(z.dtype, np.number):
        raise DataError(f"The observations have shape {z.shape}; the model needs [T {p}] with T at least 1.")
    z = z.astype(model.observation.dtype)
    if np.isinf(z).any():
        raise DataError(f"The observation at position {int(np.argwhere(np.isinf(z))[0, 0])} is infinite.")
    mask = ~np.isnan(z)
    return jnp.asarray(np.where(mask, z, 0.0)), jnp.asarray(mask)


def as_batch(model: AbstractLinearGaussianModel, data: Sequences) -> tuple[Array, Array]:
    """`(z, mask)`, `[B T p]` each: padding counts as missing."""
    if data.is_tokens or data.values.shape[2] != model.n_channels:
        raise DataError(f"The data must be observations with {model.n_channels} channels, as the model has.")
    mask = np.isfinite(data.values)
    z = np.where(mask, data.values, 0.0).astype(model.observation.dtype)
    return jnp.asarray(z), jnp.asarray(mask)
