r"""One layer of the dual filter: a backward pass of costates, a forward pass of momenta.

For the linear-Gaussian process and a functional $\sum_tf_t^\top X_t$ (the *source* $f$, usually one vector at one time),
the estimate $y_0^\top m_0-\sum_tu_t^\top Z_t$ has mean-square error (duality, [KudreChangMehta2026])

$$J(u)=y_0^\top\Sigma_0y_0+\sum_t\bigl(y_{t+1}^\top Qy_{t+1}+u_t^\top Ru_t\bigr),$$

where the costate $y$ solves, backward from the last time,

$$y_t=\sum_{j\ge t}A_{j,t}^\top y_{j+1}+H^\top u_t+f_t.$$

The gradient of $J/2$ in $u$ takes one forward pass of the momentum $p$,

$$p_0=\Sigma_0y_0,\qquad p_{t+1}=\sum_{s\le t}A_{t,s}p_s+Qy_{t+1},\qquad g_t=Ru_t+Hp_t,$$

and $u$ is optimal where $g=0$. The homogeneous map $u\mapsto g$ is the covariance operator of the observations, so
solvers need nothing but these two passes.

**Closed loop.** With feedback gains $K$ one substitutes $u_t=v_t-\sum_jK_{t,j}y_{t+1+j}$. The optimum in the new
coordinate $v$ is the same, but on an unstable process the passes no longer grow: the adjoint becomes

$$p_{t+1}=\sum_sA_{t,s}p_s+Qy_{t+1}-\sum_jK_{t-j,j}^\top g_{t-j},$$

and the homogeneous map $v\mapsto g$ is symmetric and close to the covariance $S_t$ of the innovations. Components of $u$
that belong to missing observations are held at zero by a mask, also inside the feedback.

Columns: $u,v,g$ are `[T p k]`, $y,p,f$ are `[T+1 d k]`; `k` functionals are treated at once.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....models.linear_gaussian import AbstractLinearGaussianModel, TimeVaryingLinearGaussianModel


class AbstractPasses(eqx.Module):
    """The two passes of one process and one pattern of missing data.

    **Attributes:** `model`; `seen` `[T p 1]`, 1 where an observation counts; `K` `[T n p d]`, the gain blocks $K_{t,j}$ of
    the feedback, `n = 0` for the open loop.
    """

    model: AbstractLinearGaussianModel
    seen: Float[Array, "T p one"]
    K: Float[Array, "T n p d"]

    @abc.abstractmethod
    def backward(
        self, v: Float[Array, "T p k"], source: Float[Array, "T1 d k"]
    ) -> tuple[Float[Array, "T1 d k"], Float[Array, "T p k"]]:
        """Costates and controls `(y, u)` of the free control `v`."""

    @abc.abstractmethod
    def forward(self, y: Float[Array, "T1 d k"], u: Float[Array, "T p k"]) -> Float[Array, "T p k"]:
        """The gradient `g`, zero where masked."""

    def __call__(self, v: Float[Array, "T p k"]) -> Float[Array, "T p k"]:
        """The homogeneous gradient map, symmetric and positive semidefinite."""
        T, _, k = v.shape
        return self.forward(*self.backward(v, jnp.zeros((T + 1, self.model.n_states, k), v.dtype)))


def cost(
    model: AbstractLinearGaussianModel, y: Float[Array, "T1 d k"], u: Float[Array, "T p k"]
) -> Float[Array, "k k"]:
    """$J$, bilinear: the covariance matrix of the errors of the `k` estimates, as a sum of squares."""
    start = y[0].T @ model.initial_covariance @ y[0]
    noise = jnp.einsum("tdk,de,tel->kl", y[1:], model.process_noise, y[1:])
    return start + noise + jnp.einsum("tpk,pq,tql->kl", u, model.observation_noise, u)


class TapPasses(AbstractPasses):
    """Passes of a time-invariant process of order m, $O(md^2T)$ each."""

    def backward(self, v, source):
        T, p, k = v.shape
        m, n, d = min(len(self.model.transition), T), min(self.K.shape[1], T), self.model.n_states
        adjoint_taps = jnp.swapaxes(self.model.transition[:m], 1, 2).transpose(1, 0, 2).reshape(d, m * d)
        feedback = jnp.moveaxis(self.K[:, :n], 1, 2).reshape(T, p, n * d)
        ahead = max(m, n)

        def step(Y, inputs):  # Y holds y_0 … y_T and `ahead` rows of zeros after the end
            t, v_t, f_t, seen, K_t = inputs
            later = jax.lax.dynamic_slice(Y, (t + 1, 0, 0), (ahead, d, k))
            u = seen * (v_t - K_t @ later[:n].reshape(n * d, k))
            y = adjoint_taps @ later[:m].reshape(m * d, k) + self.model.observation.T @ u + f_t
            return jax.lax.dynamic_update_slice(Y, y[None], (t, 0, 0)), u

        Y = jnp.zeros((T + 1 + ahead, d, k), v.dtype).at[T].set(source[T])
        Y, u = jax.lax.scan(step, Y, (jnp.arange(T), v, source[:T], self.seen, feedback), reverse=True)
        return Y[: T + 1], u

    def forward(self, y, u):
        T, p, k = u.shape
        model, m, n, d = self.model, min(len(self.model.transition), T), min(self.K.shape[1], T), self.model.n_states
        # stacked from the oldest to the newest, as the windows below are
        taps = jnp.moveaxis(model.transition[:m][::-1], 0, 1).reshape(d, m * d)
        feedback = _transposed_gains(self.K[:, :n])
        drive = jnp.einsum("de,tek->tdk", model.process_noise, y[1:])
        P = jnp.zeros((m + T, d, k), u.dtype).at[m - 1].set(model.initial_covariance @ y[0])
        G = jnp.zeros((max(n - 1, 0) + T, p, k), u.dtype)

        def step(carry, inputs):
            P, G = carry
            t, u_t, drive_t, seen, K_t = inputs
            past = jax.lax.dynamic_slice(P, (t, 0, 0), (m, d, k))
            g = seen * (model.observation_noise @ u_t + model.observation @ past[-1])
            p_next = taps @ past.reshape(m * d, k) + drive_t
            if n:
                G = jax.lax.dynamic_update_slice(G, g[None], (t + n - 1, 0, 0))
                past_g = jax.lax.dynamic_slice(G, (t, 0, 0), (n, p, k))
                p_next = p_next - K_t @ past_g.reshape(n * p, k)
            return (jax.lax.dynamic_update_slice(P, p_next[None], (t + m, 0, 0)), G), g

        return jax.lax.scan(step, (P, G), (jnp.arange(T), u, drive, self.seen, feedback))[1]


def _transposed_gains(K: Float[Array, "T n p d"]) -> Float[Array, "T d n*p"]:
    r"""The blocks $K_{t-j,j}^\top$, $j=n-1\dots0$, side by side; rows before time 0 are zero."""
    T, n, p, d = K.shape
    if n == 0:
        return jnp.zeros((T, d, 0), K.dtype)
    shifted = [jnp.pad(K[: T - j, j], ((j, 0), (0, 0), (0, 0))) for j in reversed(range(n))]
    return jnp.stack(shifted).transpose(1, 3, 0, 2).reshape(T, d, n * p)


class OperatorPasses(AbstractPasses):
    r"""Passes of a process with a time-varying lower-triangular operator $\mathcal A$, two triangular solves each.

    With $\mathcal K$ the feedback written as a matrix from all costates to all controls (rows of missing observations zero),

    $$(I-\mathcal A^\top+H^\top\mathcal K)y=H^\top v+f,\quad u=v-\mathcal Ky,\qquad
    (I-\mathcal A+\mathcal K^\top H)p=Dy-\mathcal K^\top Ru,\quad g=Ru+Hp,$$

    with $D=\mathrm{diag}(\Sigma_0,Q,\dots,Q)$: $O(d^2T^2)$ time and memory.

    **Attributes:** also `lower`, $I-\mathcal A+\mathcal K^\top H$.
    """

    lower: Float[Array, "N N"]

    @classmethod
    def of(cls, model: TimeVaryingLinearGaussianModel, seen: Float[Array, "T p one"], K: Float[Array, "T n p d"]):
        """The passes around given gain blocks, which are zeroed where masked."""
        T, n, _, d = K.shape
        K = K[:, : min(n, T)] * seen[:, None]
        t, j = (index.reshape(-1) for index in np.mgrid[:T, : min(n, T)])
        t, j = t[t + j < T], j[t + j < T]
        size = (T + 1) * d
        transition = jnp.swapaxes(model.transition[:T, :T], 1, 2).reshape(T * d, T * d)
        lower = jnp.eye(size, dtype=K.dtype) - jnp.pad(transition, ((d, 0), (0, d)))
        feedback = jnp.einsum("npe,pd->ned", K[t, j], model.observation)
        lower = lower.reshape(T + 1, d, T + 1, d).at[t + j + 1, :, t].add(feedback).reshape(size, size)
        return cls(model, seen, K, lower)

    def backward(self, v, source):
        (T, _, k), d = v.shape, self.model.n_states
        v = self.seen * v
        drive = source.at[:T].add(jnp.einsum("pd,tpk->tdk", self.model.observation, v)).reshape(-1, k)
        y = jax.scipy.linalg.solve_triangular(self.lower, drive, trans="T", lower=True, unit_diagonal=True)
        y = y.reshape(T + 1, d, k)
        for j in range(self.K.shape[1]):
            v = v.at[: T - j].add(-self.K[: T - j, j] @ y[1 + j :])
        return y, v

    def forward(self, y, u):
        (T, _, k), model = u.shape, self.model
        Ru = jnp.einsum("pq,tqk->tpk", model.observation_noise, u)
        drive = jnp.einsum("de,tek->tdk", model.process_noise, y).at[0].set(model.initial_covariance @ y[0])
        for j in range(self.K.shape[1]):
            drive = drive.at[1 + j :].add(-jnp.swapaxes(self.K[: T - j, j], 1, 2) @ Ru[: T - j])
        momentum = jax.scipy.linalg.solve_triangular(self.lower, drive.reshape(-1, k), lower=True, unit_diagonal=True)
        momentum = momentum.reshape(T + 1, model.n_states, k)[:T]
        return self.seen * (Ru + jnp.einsum("pd,tdk->tpk", model.observation, momentum))


def make_passes(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], K: Float[Array, "T n p d"] | None = None
) -> AbstractPasses:
    """The passes of a model around given gain blocks, in the open loop without them."""
    seen = mask.astype(model.observation.dtype)[..., None]
    K = jnp.zeros((len(mask), 0, *model.observation.shape), seen.dtype) if K is None else K
    if isinstance(model, TimeVaryingLinearGaussianModel):
        return OperatorPasses.of(model, seen, K)
    return TapPasses(model, seen, K)
