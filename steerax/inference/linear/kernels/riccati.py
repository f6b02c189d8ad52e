r"""The Riccati recursion in square-root form: gains and covariances, which do not depend on the data's values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ....maths.covariance import cholesky, solve_upper, square_root, triangular
from ....models.linear_gaussian import AbstractLinearGaussianModel


class StateSpace(NamedTuple):
    r"""A Markov model $\xi'=F\xi+Gb$, $Z=H\xi+W$ with white $b$, $\mathrm{cov}\,W=(R^{1/2})^\top R^{1/2}$ and
    $\mathrm{cov}\,\xi_0=L_0^\top L_0$."""

    F: Float[Array, "n n"]
    H: Float[Array, "p n"]
    G: Float[Array, "n q"]
    R_half: Float[Array, "p p"]
    L_0: Float[Array, "n n"]


class Riccati(NamedTuple):
    r"""What the recursion returns: for every step the gain $K=FPH^\top S^{-1}$, `U` with $S=U^\top U$, and covariances $P$
    (with `roots`, $L$ with $P=L^\top L$ in their place)."""

    K: Float[Array, "T n p"]
    U: Float[Array, "T p p"]
    P: Float[Array, "R k k"]


def companion(model: AbstractLinearGaussianModel, taps: Float[Array, "m d d"]) -> StateSpace:
    r"""The Markov model of the history $\xi_t=(X_t,X_{t-1},\dots,X_{t-m+1})$; states before time 0 are zero."""
    m, d, _ = taps.shape
    F = jnp.zeros((m * d, m * d), taps.dtype).at[d:, :-d].set(jnp.eye((m - 1) * d, dtype=taps.dtype))
    return _in_first_block(model, F.at[:d].set(jnp.moveaxis(taps, 0, 1).reshape(d, m * d)))


def observer_form(model: AbstractLinearGaussianModel, taps: Float[Array, "m d d"]) -> StateSpace:
    r"""The Markov model of $\xi_t=(X_t,\sum_{j\ge1}A_jX_{t-j},\sum_{j\ge2}A_jX_{t+1-j},\dots)$, transpose of the companion.

    Its gain has one `[d p]` block per tap: $K_j^\top$ multiplies the costate $y_{t+1+j}$ in the dual control system.
    """
    m, d, _ = taps.shape
    F = jnp.zeros((m * d, m * d), taps.dtype).at[:-d, d:].set(jnp.eye((m - 1) * d, dtype=taps.dtype))
    return _in_first_block(model, F.at[:, :d].set(taps.reshape(m * d, d)))


def _in_first_block(model: AbstractLinearGaussianModel, F: Float[Array, "n n"]) -> StateSpace:
    n, d = len(F), model.n_states
    H = jnp.zeros((model.n_channels, n), F.dtype).at[:, :d].set(model.observation)
    G = jnp.zeros((n, d), F.dtype).at[:d].set(_root(model.process_noise).T)
    L_0 = jnp.zeros((n, n), F.dtype).at[:d, :d].set(_root(model.initial_covariance))
    return StateSpace(F, H, G, _root(model.observation_noise), L_0)


def _root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""$L$ with $S=L^\top L$: from Cholesky's factor, or where there is none (it is not finite then) the symmetric square
    root, which is slower."""
    factor = cholesky(S)
    return jax.lax.cond(jnp.isfinite(factor).all(), lambda: factor, lambda: square_root(S))


def riccati(
    system: StateSpace,
    mask: Bool[Array, "T p"],
    keep: int,
    F_by_time: Float[Array, "T n n"] | None = None,
    roots: bool = False,
) -> Riccati:
    r"""Square-root Riccati recursion: one orthogonal triangularisation per step,

    $$\begin{pmatrix}R^{1/2}&0\\LH^\top&LF^\top\\0&G^\top\end{pmatrix}\to
    \begin{pmatrix}U&UK'^\top\\0&L'\end{pmatrix},\qquad S=U^\top U,\quad K=K',\quad P'=L'^\top L'.$$

    A missing channel has its column of $H$ and $R$ removed and a unit variance in its place, so that its gain is
    zero and its determinant one. Once a complete step leaves the covariance where it was (to a few units of
    rounding) the following complete steps reuse it, which is most of the speed on long series.

    `keep` is the size of the leading block of the covariances $P_0\dots P_T$ that is returned (`roots`: all of their roots). With `F_by_time` the
    transition of step `t` is `F_by_time[t]` in place of `system.F`, nothing is reused, and $P_T$ is left out.
    """
    F, H, G, R_half, L_0 = system
    (n, q), p = G.shape, len(H)
    dtype = F.dtype
    noise_rows = jnp.concatenate([jnp.zeros((q, p), dtype), G.T], axis=1)
    slack = 4 * n * jnp.finfo(dtype).eps

    def unchanged(L, L_next):
        P, P_next = L.T @ L, L_next.T @ L_next
        scale = jnp.sqrt(jnp.diag(P))
        return jnp.all(jnp.abs(P_next - P) <= slack * jnp.outer(scale, scale))

    def advance(L, seen, F):
        M = seen.astype(dtype)
        block = jnp.concatenate([R_half * M[None], jnp.diag(1 - M), (L @ H.T) * M[None]], axis=0)
        above = jnp.concatenate([jnp.zeros((2 * p, n), dtype), L @ F.T], axis=0)
        array = jnp.concatenate([jnp.concatenate([block, above], axis=1), noise_rows], axis=0)
        triangle = triangular(array)
        U, L_next = triangle[:p, :p], triangle[p:, p:]
        K = solve_upper(U, triangle[:p, p:]).T
        P = L_next[:, :keep].T @ L_next[:, :keep]
        # equal variances are necessary for equal covariances, and cheap to compare
        before, after = jnp.sum(L**2, axis=0), jnp.sum(L_next**2, axis=0)
        likely = jnp.all(seen) & jnp.all(jnp.abs(after - before) <= slack * before)
        return L_next, P, K, U, jax.lax.cond(likely, unchanged, lambda *_: jnp.asarray(False), L, L_next)

    def step(carry, inputs):
        L, P, *_, settled = carry
        seen, last, F_t = inputs
        reuse = jnp.asarray(False) if F_t is not None else (settled & jnp.all(seen)) | last
        after = jax.lax.cond(reuse, lambda: carry, lambda: advance(L, seen, F if F_t is None else F_t))
        return after, (after[2], after[3], L if roots else P)

    P_0, T = L_0[:, :keep].T @ L_0[:, :keep], len(mask)
    start = (L_0, P_0, jnp.zeros((n, p), dtype), jnp.eye(p, dtype=dtype), jnp.asarray(False))
    steps = T + 1 if F_by_time is None else T  # one idle step more writes down P_T
    mask = jnp.concatenate([mask, jnp.ones((steps - T, p), bool)])
    _, (K, U, P) = jax.lax.scan(step, start, (mask, jnp.arange(steps) == T, F_by_time))
    return Riccati(K[:T], U[:T], P)
