r"""One layer of the dual filter for observations with densities, for every query at once, on arrays.

For a density the chance of "seen" is $\ell_t(x)\,dz\to0$, so that the posterior of "not seen" is the input itself, and the layer
of `hmm/kernels/layers.py` becomes a sum of innovations,

$$\rho^+_t=\frac{\rho_t\odot\ell_t}{\rho_t^\top\ell_t},\qquad p_0=\mu,\qquad p_{t+1}=A^\top(p_t+\rho^+_t-\rho_t).$$

With $\rho=\pi$ it returns $\pi$; it is causal, hence exact after $T$ layers. A count is no density, but the same layer serves it:
which of two equivalent splits of the same prediction is used is a choice, and this one needs no sum over what was not seen.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ...hmm.kernels.likelihoods import Likelihoods, emission_table, row_numbers
from ...hmm.kernels.recursions import moved
from ...hmm.kernels.scaled import Scaled, add, choose, cube_of, forward, scaled_table


@jax.jit
def innovations(
    states: Float[Array, "T1 *batch d"], C: Likelihoods, z: Int[Array, "T *batch"]
) -> Float[Array, "T *batch d"]:
    r"""$\rho^+_t-\rho_t$ at each step; zero for a missing observation."""
    rho, row = states[:-1], emission_table(C)[row_numbers(z)]
    return jnp.where((z >= 0)[..., None], _posterior(rho, row) - rho, 0)


def _posterior(rho, row) -> Float[Array, "*batch d"]:
    r"""$\rho^+$; where the observation is impossible under $\rho$, the likelihood itself."""
    joint = rho * row
    q, total = joint.sum(-1, keepdims=True), row.sum(-1, keepdims=True)
    known = jnp.where(total > 0, row / jnp.where(total > 0, total, 1), rho)
    return jnp.where(q > 0, joint / jnp.where(q > 0, q, 1), known)


@jax.jit
def layer(
    rho: Float[Array, "T1 *batch d"], mu: Float[Array, " d"], A, C: Likelihoods, z: Int[Array, "T *batch"]
) -> Float[Array, "T1 *batch d"]:
    r"""$p_0\dots p_T$. Where the input is far from the filter the sum leaves the simplex; negative parts are cut, and the mass
    restored, at each step. $p-\rho$ vanishes exactly once both agree, and what is left has no subtraction."""
    table = emission_table(C)

    def step(p, x):
        rho, number = x
        plus = _posterior(rho, table[row_numbers(number)])
        new = jnp.maximum(plus + (p - rho), 0)
        p = moved(new / new.sum(-1, keepdims=True), A)
        return p, p

    start = jnp.broadcast_to(mu, rho.shape[1:])
    after = lax.scan(step, start, (rho[:-1], z))[1]
    return jnp.concatenate([start[None], after])


@jax.jit
def innovations_scaled(states: Scaled, C: Likelihoods, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    """`innovations` at the states of the filter, of which none underflows."""
    joint = states[:-1] * scaled_table(C)[row_numbers(z)]
    plus = (joint / joint.sum(-1, keepdims=True)).linear
    return jnp.where((z >= 0)[..., None], plus - states[:-1].linear, 0)


@jax.jit
def layer_scaled(rho: Scaled, mu: Float[Array, " d"], A, C: Likelihoods, z: Int[Array, "T *batch"]) -> Scaled:
    """`layer` in numbers of which none underflows."""
    table, cube = scaled_table(C), cube_of(A)

    def step(p, x):
        rho, number = x
        row = table[row_numbers(number)]
        joint, total = rho * row, row.sum(-1, keepdims=True)
        q = joint.sum(-1, keepdims=True)
        plus = choose(q.m > 0, joint / q, choose(total.m > 0, row / total, rho))
        new = add(plus, Scaled.of(jnp.zeros_like(plus.m)), p, rho)
        after = forward(new / new.sum(-1, keepdims=True), cube)
        return after, after

    first = Scaled.of(jnp.broadcast_to(mu, rho.m.shape[1:]))
    found = lax.scan(step, first, (rho[:-1], z))[1]
    return jax.tree.map(lambda f, s: jnp.concatenate([f[None], s]), first, found)
