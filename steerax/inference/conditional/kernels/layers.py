r"""One layer of the dual filter for operators that change with time, on arrays.

Letters: `seen` `[T … d d]`, $T_t=\mathrm{diag}(c_t)K_t$; `other`, the sum of those of the tokens that were not seen,
$O_t=\sum_{z\ne z_t}\mathrm{diag}(C_t(\cdot,z))K_t^z$; `ahead` $=T_t+O_t$. Where kernels do not read the newest token
$O_t=\mathrm{diag}(1-c_t)K_t$. For a missing token `seen` and `ahead` are $K_t$ and `other` is zero.

The layer is that of `generalised/kernels/layers.py`, step by step, with $w=\mathbf 1$.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...generalised.kernels.layers import gain, turned


@jax.jit
def gains(
    states: Float[Array, "T1 *batch d"], seen: Float[Array, "T *batch d d"], other: Float[Array, "T *batch d d"]
) -> Float[Array, "T *batch d"]:
    r"""$k_t=\frac12(\rho^+-\rho^-)$ at each step; zero where the token is certain, impossible or missing."""
    one = jnp.ones(seen.shape[-1], seen.dtype)
    at = lambda x: gain(x[0], x[1], x[2], one, x[1].sum(-1), x[2].sum(-1))
    return lax.map(at, (states[:-1], seen, other))


@jax.jit
def layer(
    rho: Float[Array, "T1 *batch d"], mu: Float[Array, " d"], seen: Float[Array, "T *batch d d"], other, ahead
) -> Float[Array, "T1 *batch d"]:
    r"""$p_0=\mu$, $p_{t+1}=p_t(T_t+O_t)+(p_tO_t\mathbf 1)(\rho_t^+-\rho_t^-)$, negative parts cut and the mass restored."""
    one = jnp.ones_like(mu)

    def step(p, x):
        rho, M, other, A = x
        key = other.sum(-1)
        p = turned(p, rho, M, other, A, one, (M.sum(-1), key, key), True)
        return p, p

    start = jnp.broadcast_to(mu, rho.shape[1:])
    return jnp.concatenate([start[None], lax.scan(step, start, (rho[:-1], seen, other, ahead))[1]])
