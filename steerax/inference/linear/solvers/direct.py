"""Two solvers for comparison: dense least squares, and the plain iteration of layers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ....maths.covariance import square_root
from ....models.linear_gaussian import AbstractLinearGaussianModel
from ..kernels.passes import cost
from .closed_loop import Controls, feedback_gains, make_passes, noises, relative


def solve_direct(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], source: Float[Array, "T1 d k"], lags: int
) -> Controls:
    """The controls that minimise `J(v) = ‖Σ_0½ y_0‖² + Σ ‖Q½ y_{t+1}‖² + ‖R½ u_t‖²`, by one dense QR factorisation.

    In the closed-loop coordinate `v`, so that the condition number stays moderate on unstable processes, and as a
    least-squares problem, so that it is not squared. `O((d+p) p² T³)`.
    """
    gains, _ = feedback_gains(model, mask, lags)
    passes = make_passes(model, mask, gains)
    (T, p), k = mask.shape, source.shape[2]
    roots = [square_root(S) for S in noises(model)]

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
    J = cost(y, u, *noises(model))
    gradient = orthogonal.T @ (rows @ v + goal)
    return Controls(u, y[0], J, jnp.asarray(1), relative(jnp.sum(gradient**2, axis=0), jnp.diagonal(J)))


def solve_picard(
    model: AbstractLinearGaussianModel,
    mask: Bool[Array, "T p"],
    source: Float[Array, "T1 d k"],
    tolerance: float,
    max_steps: int,
) -> tuple[Controls, Float[Array, ""]]:
    """The plain iteration of layers `u ← -R⁻¹ H p(u)`, and the spectral radius of its linear part.

    The linear part is `-R⁻¹ cov(H X_0 … H X_{T-1})`: the iteration converges if and only if the signal has less
    variance than the noise in every direction, which ordinary models violate. The radius is estimated by power
    iteration alongside. `R` must be invertible. The residual `√(gᵀR⁻¹g / J)` bounds the one of the other solvers.
    """
    T, p = mask.shape
    passes = make_passes(model, mask, jnp.zeros((T, 0, p, model.n_states), source.dtype))
    seen = mask.astype(source.dtype)
    R = seen[:, :, None] * seen[:, None, :] * model.observation_noise[None]
    R_inverse = jnp.linalg.inv(R + jax.vmap(jnp.diag)(1 - seen))
    solve_R = lambda g: seen[..., None] * jnp.einsum("tpq,tqk->tpk", R_inverse, g)

    def unfinished(state):
        step, _, _, residual, _ = state
        return (step < max_steps) & jnp.any(residual > tolerance) & jnp.all(jnp.isfinite(residual))

    def iterate(state):
        step, u, power, _, _ = state
        y, u = passes.backward(u, source)
        g = passes.forward(y, u)
        J = jnp.diagonal(cost(y, u, *noises(model)))
        residual = relative(jnp.einsum("tpk,tpk->k", g, solve_R(g)), J)
        image = solve_R(passes(power)) - power
        radius = jnp.sqrt(jnp.sum(image**2) / jnp.sum(power**2))
        return step + 1, u - solve_R(g), image / jnp.sqrt(jnp.sum(image**2)), residual, radius

    dtype, k = source.dtype, source.shape[2]
    worst = jnp.full(k, jnp.finfo(dtype).max)
    power = seen[..., None] * jnp.cos(jnp.arange(T * p, dtype=dtype)).reshape(T, p, 1)
    state = (jnp.asarray(0), jnp.zeros((T, p, k), dtype), power, worst, jnp.zeros((), dtype))
    step, u, _, residual, radius = jax.lax.while_loop(unfinished, iterate, state)
    y, u = passes.backward(u, source)
    return Controls(u, y[0], cost(y, u, *noises(model)), step, residual), radius
