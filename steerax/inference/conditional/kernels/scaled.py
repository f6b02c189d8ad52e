"""The recursions of `recursions.py` and `layers.py` in numbers of which none underflows; see `hmm/kernels/scaled.py`.

Several times slower than the linear ones, which are valid unless `may_have_lost_mass` says otherwise.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ...generalised.kernels.scaled import gain, turned
from ...hmm.kernels.recursions import Limits
from ...hmm.kernels.scaled import Scaled, choose, total_of
from .recursions import filter_linear, may_have_lost_mass


def through(p: Scaled, K: Scaled) -> Scaled:
    """$pK$."""
    return (p.reshape(*p.m.shape, 1) * K).sum(-2)


def advance(p: Scaled, c: Scaled, K: Scaled) -> tuple[Scaled, Float[Array, "*batch"]]:
    """The belief after a token, and `log q`; an impossible one is stepped over."""
    joint = p * c
    q = joint.sum(-1, keepdims=True)
    return through(choose(q.m > 0, joint / q, p), K), q.log[..., 0]


@jax.jit
def filter_scaled(
    mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> tuple[Scaled, Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])` as `filter_linear`."""

    def step(p, x):
        after, log_q = advance(p, *(Scaled.of(a) for a in x))
        return after, (p, log_q)

    last, (states, log_q) = lax.scan(step, Scaled.of(jnp.broadcast_to(mu, c.shape[1:])), (c, K))
    return jax.tree.map(lambda s, l: jnp.concatenate([s, l[None]]), states, last), log_q


@jax.jit
def filter_traced(
    mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"], Bool[Array, ""]]:
    """`(states, log q, whether mass would have been lost)`, decided while it runs: for use inside `jit` and `grad`."""
    states, log_q = filter_linear(mu, c, K)
    found = lax.stop_gradient((states, log_q))
    respected = Limits.of(states.dtype).respected(*found)
    lost = lax.cond(respected, lambda: jnp.asarray(False), lambda: may_have_lost_mass(c, K, *found))

    def again():
        exact, log_q = filter_scaled(mu, c, K)
        return exact.linear, log_q

    return *lax.cond(lost, again, lambda: (states, log_q)), lost


@jax.jit
def posterior_scaled(states: Scaled, c: Float[Array, "T *batch d"]) -> Scaled:
    """The states of the filter given the token of the same time too, `[T … d]`."""
    joint = states[:-1] * Scaled.of(c)
    return joint / joint.sum(-1, keepdims=True)


@jax.jit
def smooth_scaled(
    states: Scaled, c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> Float[Array, "T *batch d"]:
    """`smooth_linear` from the states of the filter."""

    def step(w, x):
        state, c, K = x[0], Scaled.of(x[1]), Scaled.of(x[2])
        b = c * (K * w.reshape(*w.m.shape[:-1], 1, -1)).sum(-1)
        joint = state * b
        total = joint.sum(-1, keepdims=True)
        return b / total, (joint / total).linear

    one = Scaled.of(jnp.ones_like(states.m[-1]))
    return lax.scan(step, one, (states[:-1], c, K), reverse=True)[1]


@jax.jit
def gains_scaled(states: Scaled, c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"], other):
    """`gains` of `layers.py`."""
    one = jnp.ones(c.shape[-1], c.dtype)
    at = lambda x: gain(x[0], _seen(x[1], x[2]), Scaled.of(x[3]), one)
    return lax.map(at, (states[:-1], c, K, other))


def _seen(c: Float[Array, "*n d"], K: Float[Array, "*n d d"]) -> Scaled:
    r"""$\mathrm{diag}(c)K$; the product of two numbers may be smaller than any number."""
    return Scaled.of(c[..., None]) * Scaled.of(K)


@jax.jit
def layer_scaled(rho: Scaled, mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K, other) -> Scaled:
    """`layer` of `layers.py`."""
    one = jnp.ones_like(mu)

    def step(p, x):
        rho, c, K, other = x
        seen, other = _seen(c, K), Scaled.of(other)
        p = turned(p, rho, seen, other, total_of(seen, other), one)
        return p, p

    first = Scaled.of(jnp.broadcast_to(mu, rho.m.shape[1:]))
    found = lax.scan(step, first, (rho[:-1], c, K, other))[1]
    return jax.tree.map(lambda f, s: jnp.concatenate([f[None], s]), first, found)
