r"""The two passes of Kalman's recursions for any order, on arrays: forward (filter) and backward (smoother)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....maths.covariance import by_size, orthogonal_triangular, solve_root, solve_upper, triangular
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
    return FilterPass(jnp.concatenate([x, x_T[None]]), P, U, e, log_densities(U, e, mask)[0])


def log_densities(
    U: Float[Array, "T p p"], e: Float[Array, "T p"], mask: Bool[Array, "T p"]
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    r"""Log-densities of innovations of covariance $U^\top U$ in the observed channels, and their squared distances $e^\top S^{-1}e$."""
    distance = jnp.sum(solve_upper(U, e[..., None], transposed=True)[..., 0] ** 2, 1)
    log_det = jnp.log(jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))).sum(1)
    return -0.5 * (distance + _LOG_2PI * mask.sum(1)) - log_det, distance


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
    K = solve_upper(U, solve_upper(U, H @ P, transposed=True)).T
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
    r"""Backward recursion on square roots of covariances, without an inverse where possible.

    A history is its prediction and a standard normal $u_t$, $\xi_t=\hat\xi_t+L_t^\top u_t$. The orthogonal factor of

    $$\begin{pmatrix}R^{1/2}&0\\L_tH^\top&L_tF^\top\\0&G^\top\end{pmatrix}=
    \Theta\begin{pmatrix}U&UK^\top\\0&L_{t+1}\\0&0\end{pmatrix}$$

    says how $u_t$ is made of the whitened innovation $\varepsilon_t$, of $u_{t+1}$ and of noise $\eta$ that leaves no trace:
    $u_t=\Theta_\varepsilon\varepsilon_t+\Theta_+u_{t+1}+\Theta_\eta\eta$ (its middle rows). So states that decay without noise are
    exact too; the error is rounding times the *predicted* standard deviation. Where the smoothed one is smaller by the
    square root of rounding (a diffuse start), and for derivatives, `_regressed` takes its place.
    """
    system = companion(model, model.transition)
    run, L = _filter_with_roots(model, system, z, mask)

    def step(later, inputs):
        x_later, root_later, u_later, share_later = later
        x, L, e, seen, x_next, L_next = inputs
        rows = _joint_rows(system, L, seen)
        u, share, link = _rotated(rows, e, L_next, u_later, share_later)
        root = triangular(share @ L)
        cross = (share_later @ L_next).T @ (share_later @ link.T @ L)
        rows, root = jax.lax.optimization_barrier((rows, root))  # one factorisation after the other
        regressed = lambda: _regressed(model.n_states, rows, x, L, e, x_next, x_later, root_later)
        precise = jnp.sqrt(jnp.sum(root**2, 0)) >= jnp.sqrt(jnp.finfo(z.dtype).eps) * jnp.sqrt(jnp.sum(L**2, 0))
        rotated = lambda: _first_with_slope_of_second((x + L.T @ u, root, cross), regressed())
        x, root, cross = jax.lax.cond(jnp.all(precise), rotated, regressed)
        return (x, root, u, share), (x, root.T @ root, cross)

    last = (run.x[-1], L[-1], jnp.zeros_like(run.x[-1]), jnp.eye(len(system.F), dtype=z.dtype))
    inputs = (run.x[:-1], L[:-1], run.e, mask, run.x[1:], L[1:])
    _, (x, V, cross) = jax.lax.scan(step, last, inputs, reverse=True)
    x, V = jnp.concatenate([x, run.x[-1:]]), jnp.concatenate([V, run.P[-1:]])
    return SmootherPass(x, V, cross, run.log_likelihoods.sum())


@jax.custom_jvp
def _first_with_slope_of_second(first, second):
    """Of two computations of a mean, a triangular root and a covariance one for the values, the other for derivatives."""
    return first


@_first_with_slope_of_second.defjvp
def _(primals, tangents):
    (first, (_, root, _)), (_, (x, change, cross)) = primals, tangents
    sign = jnp.where((first[1] * root).sum(1) < 0, -1.0, 1.0).astype(
        root.dtype
    )  # rows of a root have no sign of their own
    return first, (x, change * sign[:, None], cross)


def _joint_rows(system: StateSpace, L: Float[Array, "n n"], seen: Bool[Array, " p"]) -> Float[Array, "r c"]:
    """The rows of `smoother_pass`; a missing channel has a unit variance of its own."""
    F, H, G, R_half, _ = system
    p, M = len(H), seen.astype(L.dtype)
    observed = jnp.concatenate(
        [R_half * M[None], jnp.diag(1 - M), (L @ H.T) * M[None], jnp.zeros((G.shape[1], p), L.dtype)]
    )
    return jnp.concatenate([observed, jnp.concatenate([jnp.zeros((2 * p, len(F)), L.dtype), L @ F.T, G.T])], axis=1)


def _rotated(rows, e, L_next, u_later, share_later):
    r"""Mean of $u_t$ and root of its covariance from those of $u_{t+1}$, and the matrix $\Theta_+$. No derivatives."""
    rows, e, L_next, u_later, share_later = jax.lax.stop_gradient((rows, e, L_next, u_later, share_later))
    p, n = len(e), len(L_next)
    order = by_size(rows)
    theta, R = orthogonal_triangular(order @ rows)
    theta = (order.T @ theta)[2 * p : 2 * p + n]
    white = solve_upper(R[:p, :p], e[:, None], transposed=True)[:, 0]
    # rows of a root have no sign of their own: those of the filter count
    link = theta[:, p : p + n] * jnp.where((R[p : p + n, p : p + n] * L_next).sum(1) < 0, -1, 1)[None]
    share = triangular(jnp.concatenate([share_later @ link.T, theta[:, p + n :].T]))
    return theta[:, :p] @ white + link @ u_later, share, link


def _regressed(d: int, rows, x, L, e, x_next, x_later, root_later):
    r"""Mean, root and covariance with the next history by the recursion of Rauch, Tung and Striebel ([ParkKailath1996]).

    All but the oldest state $a_t=X_{t-m+1}$ of a history is part of the next one. With the columns $L_a$ of $a_t$ beside,
    the triangularisation has the rows $(U,\cdot,UK_a^\top),(0,L_{t+1},M),(0,0,N)$; then
    $a_t\leftarrow a_t+K_ae_t+J(\xi_{t+1}-\hat\xi_{t+1})$, $J^\top=L_{t+1}^+M$, and the new root triangularises $M-L_{t+1}J^\top$,
    $N$ and the old root times the map from $\xi_{t+1}$. Diffuse variances keep their digits, states that decay without noise
    do not. The pseudo-inverse serves histories that reach back before time 0.
    """
    p, n, later = len(e), len(x), len(rows) - 2 * len(e) - len(x)
    oldest = jnp.concatenate([jnp.zeros((2 * p, d), L.dtype), L[:, n - d :], jnp.zeros((later, d), L.dtype)])
    triangle = triangular(jnp.concatenate([rows, oldest], axis=1))
    gain = solve_upper(triangle[:p, :p], triangle[:p, p + n :])
    L_next, M, N = triangle[p : p + n, p : p + n], triangle[p : p + n, p + n :], triangle[p + n :, p + n :]
    J = solve_root(L_next, M)
    a = x[n - d :] + gain.T @ e + J.T @ (x_later - x_next)
    back = jnp.concatenate([jnp.eye(n, dtype=L.dtype)[:, d:], J], axis=1)
    only_oldest = lambda rows: jnp.pad(rows, ((0, 0), (n - d, 0)))
    root = triangular(jnp.concatenate([root_later @ back, only_oldest(M - L_next @ J), only_oldest(N)]))
    return jnp.concatenate([x_later[d:], a]), root, root_later.T @ (root_later @ back)


def over_series(kernel: Callable[[LinearGaussianModel, Array, Array], Any]) -> Callable[..., Any]:
    """A compiled `kernel(model, z, mask)` of one series `[T p]` that takes several `[B T p]` too, one after the other."""

    def run(model: LinearGaussianModel, z: Float[Array, "*batch T p"], mask: Bool[Array, "*batch T p"]) -> Any:
        if z.ndim == 2:
            return kernel(model, z, mask)
        return jax.lax.map(lambda one: kernel(model, *one), (z, mask))

    return jax.jit(run)
