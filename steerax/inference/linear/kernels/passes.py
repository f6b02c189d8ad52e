"""One layer of the dual filter: a backward pass of costates, a forward pass of momenta.

For the linear-Gaussian process and a functional `Σ_t f_tᵀ X_t` (the *source* `f`, usually one vector at one time),
the estimate `y_0ᵀm_0 - Σ_t u_tᵀ Z_t` has mean-square error

    J(u) = y_0ᵀ Σ_0 y_0 + Σ_t (y_{t+1}ᵀ Q y_{t+1} + u_tᵀ R u_t)         (duality, [KudreChangMehta2026])

where the costate `y` solves, backward from the last time,

    y_t = Σ_{j≥t} A_{j,t}ᵀ y_{j+1} + Hᵀ u_t + f_t.

The gradient of `J/2` in `u` takes one forward pass of the momentum `p`,

    p_0 = Σ_0 y_0,    p_{t+1} = Σ_{s≤t} A_{t,s} p_s + Q y_{t+1},    g_t = R u_t + H p_t,

and `u` is optimal where `g = 0`. The homogeneous map `u → g` is the covariance operator of the observations, so
solvers need nothing but these two passes.

**Closed loop.** With feedback gains `K` one substitutes `u_t = v_t - Σ_j K_{t,j} y_{t+1+j}`. The same optimum in the
new coordinate `v`, but on an unstable process the passes no longer grow: the adjoint becomes

    p_{t+1} = Σ_s A_{t,s} p_s + Q y_{t+1} - Σ_j K_{t-j,j}ᵀ g_{t-j},

and the homogeneous map `v → g` is symmetric and close to the covariance `S_t` of the innovations. Components of `u`
that belong to missing observations are held at zero by a mask, also inside the feedback.

Columns: `u, v, g` are `[T p k]`, `y, p, f` are `[T+1 d k]`; `k` functionals are treated at once.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class AbstractPasses(eqx.Module):
    """The two passes of one process and one pattern of missing data; see the head of this file."""

    @abc.abstractmethod
    def backward(self, v: Array, source: Array) -> tuple[Array, Array]:
        """Costates and controls `(y, u)` of the free control `v`."""

    @abc.abstractmethod
    def forward(self, y: Array, u: Array) -> Array:
        """The gradient `g`, zero where masked."""

    def __call__(self, v: Float[Array, "T p k"]) -> Float[Array, "T p k"]:
        """The homogeneous gradient map, symmetric and positive semidefinite."""
        T, _, k = v.shape
        return self.forward(*self.backward(v, jnp.zeros((T + 1, self.H.shape[1], k), v.dtype)))

    H: eqx.AbstractVar[Array]


def cost(
    y: Float[Array, "T1 d k"],
    u: Float[Array, "T p k"],
    S_0: Float[Array, "d d"],
    Q: Float[Array, "d d"],
    R: Float[Array, "p p"],
) -> Float[Array, "k k"]:
    """`J`, bilinear: the covariance matrix of the errors of the `k` estimates, as a sum of squares."""
    start = y[0].T @ S_0 @ y[0]
    return start + jnp.einsum("tdk,de,tel->kl", y[1:], Q, y[1:]) + jnp.einsum("tpk,pq,tql->kl", u, R, u)


class TapPasses(AbstractPasses):
    """Passes of a time-invariant process of order m, `O(m d² T)` each.

    **Attributes:** `taps` `[m d d]`; `H`; `R`; `Q`; `S_0`; `mask` `[T p k]` (1 where an observation counts; `k` may
    be 1); `K` `[T n p d]`, the gain blocks `K_{t,j}`, `n = 0` for the open loop.
    """

    taps: Float[Array, "m d d"]
    H: Float[Array, "p d"]
    R: Float[Array, "p p"]
    Q: Float[Array, "d d"]
    S_0: Float[Array, "d d"]
    mask: Float[Array, "T p c"]
    K: Float[Array, "T n p d"]

    def backward(self, v, source):
        T, _, k = v.shape
        (m, d, _), n = self.taps.shape, self.K.shape[1]
        m, n = min(m, T), min(n, T)
        adjoint_taps = jnp.swapaxes(self.taps[:m], 1, 2).transpose(1, 0, 2).reshape(d, m * d)
        feedback = jnp.moveaxis(self.K[:, :n], 1, 2).reshape(T, len(self.H), n * d)
        ahead = max(m, n)

        def step(Y, inputs):  # Y holds y_0 … y_T and `ahead` rows of zeros after the end
            t, v_t, f_t, seen, K_t = inputs
            later = jax.lax.dynamic_slice(Y, (t + 1, 0, 0), (ahead, d, k))
            u = seen * (v_t - K_t @ later[:n].reshape(n * d, k))
            y = adjoint_taps @ later[:m].reshape(m * d, k) + self.H.T @ u + f_t
            return jax.lax.dynamic_update_slice(Y, y[None], (t, 0, 0)), u

        Y = jnp.zeros((T + 1 + ahead, d, k), v.dtype).at[T].set(source[T])
        inputs = (jnp.arange(T), v, source[:T], self.mask, feedback)
        Y, u = jax.lax.scan(step, Y, inputs, reverse=True)
        return Y[: T + 1], u

    def forward(self, y, u):
        T, p, k = u.shape
        (m, d, _), n = self.taps.shape, self.K.shape[1]
        m, n = min(m, T), min(n, T)
        # stacked from the oldest to the newest, as the windows below are
        taps = jnp.moveaxis(self.taps[:m][::-1], 0, 1).reshape(d, m * d)
        feedback = _transposed_gains(self.K[:, :n])
        drive = jnp.einsum("de,tek->tdk", self.Q, y[1:])
        P = jnp.zeros((m + T, d, k), u.dtype).at[m - 1].set(self.S_0 @ y[0])
        G = jnp.zeros((max(n - 1, 0) + T, p, k), u.dtype)

        def step(carry, inputs):
            P, G = carry
            t, u_t, drive_t, seen, K_t = inputs
            past = jax.lax.dynamic_slice(P, (t, 0, 0), (m, d, k))
            g = seen * (self.R @ u_t + self.H @ past[-1])
            p_next = taps @ past.reshape(m * d, k) + drive_t
            if n:
                G = jax.lax.dynamic_update_slice(G, g[None], (t + n - 1, 0, 0))
                past_g = jax.lax.dynamic_slice(G, (t, 0, 0), (n, p, k))
                p_next = p_next - K_t @ past_g.reshape(n * p, k)
            return (jax.lax.dynamic_update_slice(P, p_next[None], (t + m, 0, 0)), G), g

        inputs = (jnp.arange(T), u, drive, self.mask, feedback)
        return jax.lax.scan(step, (P, G), inputs)[1]


def _transposed_gains(K: Float[Array, "T n p d"]) -> Float[Array, "T d n*p"]:
    """The blocks `K_{t-j,j}ᵀ`, `j = n-1 … 0`, side by side; rows before time 0 are zero."""
    T, n, p, d = K.shape
    if n == 0:
        return jnp.zeros((T, d, 0), K.dtype)
    shifted = [jnp.pad(K[: T - j, j], ((j, 0), (0, 0), (0, 0))) for j in reversed(range(n))]
    return jnp.stack(shifted).transpose(1, 3, 0, 2).reshape(T, d, n * p)


class OperatorPasses(AbstractPasses):
    """Passes of a process with a time-varying lower-triangular operator `𝒜`, two triangular solves each.

    With `𝒦` the feedback written as a matrix from all costates to all controls (rows of missing observations zero),

        (I - 𝒜ᵀ + Hᵀ𝒦) y = Hᵀ v + f,   u = v - 𝒦 y,      (I - 𝒜 + 𝒦ᵀH) p = D y - 𝒦ᵀ R u,   g = R u + H p,

    with `D = diag(Σ_0, Q, …, Q)`: `O(d²T²)` time and memory.

    **Attributes:** `lower` is `I - 𝒜 + 𝒦ᵀH`, `[(T+1)d (T+1)d]`; `K` `[T n p d]`, the blocks `K_{t,j}` of `𝒦`, which act on
    `y_{t+1+j}`, zero beyond the end and where masked.
    """

    lower: Float[Array, "N N"]
    K: Float[Array, "T n p d"]
    H: Float[Array, "p d"]
    R: Float[Array, "p p"]
    Q: Float[Array, "d d"]
    S_0: Float[Array, "d d"]
    mask: Float[Array, "T p c"]

    def backward(self, v, source):
        (T, _, k), n, d = v.shape, self.K.shape[1], self.H.shape[1]
        v = self.mask * v
        drive = source.at[:T].add(jnp.einsum("pd,tpk->tdk", self.H, v)).reshape(-1, k)
        y = jax.scipy.linalg.solve_triangular(self.lower, drive, trans="T", lower=True, unit_diagonal=True)
        y = y.reshape(T + 1, d, k)
        for j in range(n):
            v = v.at[: T - j].add(-self.K[: T - j, j] @ y[1 + j :])
        return y, v

    def forward(self, y, u):
        (T, _, k), n, d = u.shape, self.K.shape[1], self.H.shape[1]
        Ru = jnp.einsum("pq,tqk->tpk", self.R, u)
        drive = jnp.einsum("de,tek->tdk", self.Q, y).at[0].set(self.S_0 @ y[0])
        for j in range(n):
            drive = drive.at[1 + j :].add(-jnp.swapaxes(self.K[: T - j, j], 1, 2) @ Ru[: T - j])
        drive = drive.reshape(-1, k)
        momentum = jax.scipy.linalg.solve_triangular(self.lower, drive, lower=True, unit_diagonal=True)
        momentum = momentum.reshape(T + 1, d, k)[:T]
        return self.mask * (Ru + jnp.einsum("pd,tdk->tpk", self.H, momentum))


def operator_passes(
    transition: Float[Array, "T T d d"],
    K: Float[Array, "T n p d"],
    H: Float[Array, "p d"],
    R: Float[Array, "p p"],
    Q: Float[Array, "d d"],
    S_0: Float[Array, "d d"],
    mask: Bool[Array, "T p"],
) -> OperatorPasses:
    """Assemble `OperatorPasses` from a transition operator and gain blocks (`n = 0` for the open loop)."""
    T, n, _, d = K.shape
    K = K[:, : min(n, T)] * mask[:, None, :, None]
    t, j = (index.reshape(-1) for index in np.mgrid[:T, : min(n, T)])
    t, j = t[t + j < T], j[t + j < T]
    size = (T + 1) * d
    shifted = jnp.pad(jnp.swapaxes(transition, 1, 2).reshape(T * d, T * d), ((d, 0), (0, d)))
    lower = (jnp.eye(size, dtype=K.dtype) - shifted).reshape(T + 1, d, T + 1, d)
    lower = lower.at[t + j + 1, :, t].add(jnp.einsum("npe,pd->ned", K[t, j], H)).reshape(size, size)
    return OperatorPasses(lower, K, H, R, Q, S_0, mask.astype(K.dtype)[..., None])
