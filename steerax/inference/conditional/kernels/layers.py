r"""One layer of the dual filter for operators that change with time, on arrays.

Letters: `c` `[T … d]`, `K` `[T … d d]` with $T_t=\mathrm{diag}(c_t)K_t$; `other` `[T … d d]`, the sum of those of the tokens that were
not seen, $O_t=\sum_{z\ne z_t}\mathrm{diag}(C_t(\cdot,z))K_t^z$. Where kernels do not read the newest token
$O_t=\mathrm{diag}(1-c_t)K_t$. For a missing token $T_t=K_t$ and $O_t=0$.

The layer is that of `generalised/kernels/layers.py`, step by step, with $w=\mathbf 1$.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...generalised.kernels.layers import gain, turned


@jax.jit
def gains(
    states: Float[Array, "T1 *batch d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"], other
) -> Float[Array, "T *batch d"]:
    r"""$k_t=\frac12(\rho^+-\rho^-)$ at each step; zero where the token is certain, impossible or missing."""
    one = jnp.ones(c.shape[-1], c.dtype)
    step = lambda rho, seen, other: gain(rho, seen, other, one, seen.sum(-1), other.sum(-1))
    return lax.map(lambda x: step(x[0], x[1][..., None] * x[2], x[3]), (states[:-1], c, K, other))


@jax.jit
def layer(
    rho: Float[Array, "T1 *batch d"], mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K, other
) -> Float[Array, "T1 *batch d"]:
    r"""$p_0=\mu$, $p_{t+1}=p_t(T_t+O_t)+(p_tO_t\mathbf 1)(\rho_t^+-\rho_t^-)$, negative parts cut and the mass restored."""
    one = jnp.ones_like(mu)

    def step(p, x):
        rho, c, K, other = x
        seen, key = c[..., None] * K, other.sum(-1)
        p = turned(p, rho, seen, other, seen + other, one, (seen.sum(-1), key, key), True)
        return p, p

    start = jnp.broadcast_to(mu, rho.shape[1:])
    return jnp.concatenate([start[None], lax.scan(step, start, (rho[:-1], c, K, other))[1]])
