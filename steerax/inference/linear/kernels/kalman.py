r"""The two passes of Kalman's recursions for any order, on arrays: forward (filter) and backward (smoother)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....maths.covariance import solve_root, triangular
from ....models.linear_gaussian import LinearGaussianModel
from .riccati import Riccati, StateSpace, companion, riccati

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
    return _with_gains(model, system, z, mask, riccati(system, mask, keep))


def _filter_with_roots(
    model: LinearGaussianModel, system: StateSpace, z: Float[Array, "T p"], mask: Bool[Array, "T p"]
) -> tuple[FilterPass, Float[Array, "T1 n n"]]:
    """The pass, with whole covariances, and their roots."""
    K, U, L = riccati(system, mask, len(system.F), roots=True)
    P = jnp.swapaxes(L, 1, 2) @ L
    return _with_gains(model, system, z, mask, Riccati(K, U, P)), L


def _with_gains(
    model: LinearGaussianModel, system: StateSpace, z: Float[Array, "T p"], mask: Bool[Array, "T p"], gains: Riccati
) -> FilterPass:
    K, U, P = gains
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
    r"""Rauch–Tung–Striebel recursion in square-root form ([ParkKailath1996]). Of $\xi_t=(X_t,\dots,X_{t-m+1})$ all but the
    oldest state $a_t=X_{t-m+1}$ is part of $\xi_{t+1}$ too; one orthogonal triangularisation per step regresses $a_t$ on it,

    $$\begin{pmatrix}R^{1/2}&0&0\\LH^\top&LF^\top&L_a\\0&G^\top&0\end{pmatrix}\to
    \begin{pmatrix}U&\cdot&UK_a^\top\\0&L'&M\\0&0&N\end{pmatrix},\qquad J^\top=L'^+M,$$

    with $P_{t+1}=L'^\top L'$; then $a_t\leftarrow a_t+K_ae_t+J(\xi_{t+1}-F\xi_t-Ke_t)$, and the root of $V_t$ triangularises the
    rows $M-L'J^\top$ and $N$ (of $a_t$) and $V_{t+1}^{1/2}$ times the map from $\xi_{t+1}$. No covariance is inverted or
    subtracted, so variances of $10^{15}$ (a diffuse start) and of $10^{-10}$ keep their digits. The pseudo-inverse serves
    histories that reach back before time 0, where part of them is known to be zero.
    """
    n, p, d = model.order * model.n_states, model.n_channels, model.n_states
    system = companion(model, model.transition)
    F, H, G, R_half, _ = system
    run, L = _filter_with_roots(model, system, z, mask)
    noise = jnp.concatenate([jnp.zeros((G.shape[1], p), z.dtype), G.T, jnp.zeros((G.shape[1], d), z.dtype)], axis=1)
    kept = jnp.eye(n, dtype=z.dtype)[:, d:]  # the part of the later history that is in the earlier one
    only_oldest = lambda rows: jnp.pad(rows, ((0, 0), (n - d, 0)))

    def step(later, inputs):
        x_later, root_later = later
        x, L, e, seen, x_next = inputs
        M = seen.astype(z.dtype)
        block = jnp.concatenate([R_half * M[None], jnp.diag(1 - M)], axis=0)
        above = jnp.concatenate([block, jnp.zeros((2 * p, n + d), z.dtype)], axis=1)
        state = jnp.concatenate([(L @ H.T) * M[None], L @ F.T, L[:, -d:]], axis=1)
        triangle = triangular(jnp.concatenate([above, state, noise], axis=0))
        gain = jax.scipy.linalg.solve_triangular(triangle[:p, :p], triangle[:p, p + n :])
        L_next, on_next, rest = triangle[p : p + n, p : p + n], triangle[p : p + n, p + n :], triangle[p + n :, p + n :]
        J = solve_root(L_next, on_next)
        oldest = x[-d:] + gain.T @ e + J.T @ (x_later - x_next)
        back = jnp.concatenate([kept, J], axis=1)
        rows = [root_later @ back, only_oldest(on_next - L_next @ J), only_oldest(rest)]
        root, x_s = triangular(jnp.concatenate(rows, axis=0)), jnp.concatenate([x_later[d:], oldest])
        return (x_s, root), (x_s, root.T @ root, root_later.T @ (root_later @ back))

    inputs = (run.x[:-1], L[:-1], run.e, mask, run.x[1:])
    _, (x, V, cross) = jax.lax.scan(step, (run.x[-1], L[-1]), inputs, reverse=True)
    x, V = jnp.concatenate([x, run.x[-1:]]), jnp.concatenate([V, run.P[-1:]])
    return SmootherPass(x, V, cross, run.log_likelihoods.sum())


def over_series(kernel: Callable[[LinearGaussianModel, Array, Array], Any]) -> Callable[..., Any]:
    """A compiled `kernel(model, z, mask)` of one series `[T p]` that takes several `[B T p]` too, one after the other."""

    def run(model: LinearGaussianModel, z: Float[Array, "*batch T p"], mask: Bool[Array, "*batch T p"]) -> Any:
        if z.ndim == 2:
            return kernel(model, z, mask)
        return jax.lax.map(lambda one: kernel(model, *one), (z, mask))

    return jax.jit(run)
