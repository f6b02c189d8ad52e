r"""One pass of the Kalman filter of any order, on arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....maths.covariance import square_root
from ....models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .riccati import companion, riccati

LOG_2PI = float(np.log(2 * np.pi))


class Roots(NamedTuple):
    r"""Square roots of the three covariances of a model, $Q=(Q^{1/2})^\top Q^{1/2}$ and so on."""

    S_0: Float[Array, "d d"]
    Q: Float[Array, "d d"]
    R: Float[Array, "p p"]


def covariance_roots(model: AbstractLinearGaussianModel) -> Roots:
    r"""$\Sigma_0^{1/2},Q^{1/2},R^{1/2}$; singular covariances are allowed."""
    return Roots(*(_root(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise)))


def _root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The Cholesky factor, or where there is none (it is not finite then) the symmetric square root, which is slower."""
    factor = jnp.linalg.cholesky(S).T
    return jax.lax.cond(jnp.isfinite(factor).all(), lambda: factor, lambda: square_root(S))


class Pass(NamedTuple):
    r"""A filter pass on the companion state of dimension $n=md$: predicted means `x` and leading blocks `P` of their
    covariances, gains `K`, roots `U` of the innovation covariances ($S=U^\top U$), innovations `e`, zero where missing."""

    x: Float[Array, "*batch T1 n"]
    P: Float[Array, "*batch T1 k k"]
    K: Float[Array, "*batch T n p"]
    U: Float[Array, "*batch T p p"]
    e: Float[Array, "*batch T p"]
    log_likelihoods: Float[Array, "*batch T"]


def filter_pass(model: LinearGaussianModel, z: Float[Array, "T p"], mask: Bool[Array, "T p"], keep: int) -> Pass:
    r"""$x'=Fx+Ke$ with $e=z-c-Hx$, zero where missing; the log-likelihoods are those of the innovations."""
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
    log_det = jnp.log(jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))).sum(1)
    log_likelihoods = -0.5 * (jnp.sum(white**2, 1) + LOG_2PI * mask.sum(1)) - log_det
    return Pass(jnp.concatenate([x, x_T[None]]), P, K, U, e, log_likelihoods)
