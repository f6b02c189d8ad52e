r"""Recursions of a chain whose transition changes with time, on arrays.

Letters: `mu` `[d]`, `c` `[T … d]` probabilities $C_t(x,z_t)$ of the tokens seen (ones where missing), `K` `[T … d d]` kernels.

$$\pi_0=\mu,\qquad\pi_{t+1}=\frac{(\pi_t\odot c_t)K_t}{q_t},\qquad q_t=\pi_t^\top c_t .$$
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...hmm.kernels.recursions import Limits


def through(p: Float[Array, "*n d"], K: Float[Array, "*n d d"]) -> Float[Array, "*n d"]:
    """$pK$, with sums of products: no matrix unit rounds its factors."""
    return jnp.sum(p[..., None] * K, -2)


@jax.jit
def filter_linear(
    mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])`, normalised at each token. An impossible token has `log q = -∞` and is stepped over."""

    def step(p, x):
        after, log_q = advance(p, *x)
        return after, (p, log_q)

    last, (states, log_q) = lax.scan(step, jnp.broadcast_to(mu, c.shape[1:]), (c, K))
    return jnp.concatenate([states, last[None]]), log_q


def advance(p: Float[Array, "*n d"], c: Float[Array, "*n d"], K: Float[Array, "*n d d"]):
    """The belief after a token, and `log q`."""
    joint = p * c
    q = joint.sum(-1)
    possible = q > 0
    safe = jnp.where(possible, q, 1)
    after = through(jnp.where(possible[..., None], joint / safe[..., None], p), K)
    return after, jnp.where(possible, jnp.log(safe), -jnp.inf)


@jax.jit
def may_have_lost_mass(
    c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"], states: Float[Array, "T1 *batch d"], log_q
) -> Bool[Array, ""]:
    """Whether an underflow in the states can matter: an entry so small that terms of its sum may be missing, a token as rare, or a
    zero that the zeros of the model do not explain."""
    limits, possible = Limits.of(states.dtype), jnp.isfinite(log_q)
    before = states[:-1] > 0
    seen = before & (c > 0)
    denied = (~possible & seen.any(-1)).any()
    reached = through(jnp.where(possible[..., None], seen, before).astype(states.dtype), (K > 0).astype(states.dtype))
    unexplained = ((states[1:] == 0) & (reached > 0)).any()
    small = (jnp.where(states > 0, states, 1) < limits.small).any()
    return small | denied | unexplained | (possible & (log_q < math.log(limits.rare))).any()


def may_grow(most: Float[Array, "T *batch"], log_q: Float[Array, "T *batch"]) -> Bool[Array, ""]:
    r"""Whether mass that underflowed could come back: each later token multiplies it by at most `most / q`,
    `most` $=\max_xC_t(x,z_t)$; or a token was impossible. See `may_have_lost_mass` of the room `hmm`."""
    limits, possible = Limits.of(log_q.dtype), jnp.isfinite(log_q)
    finite = jnp.where(possible, log_q, 0)
    growth = jnp.where(possible, jnp.log(jnp.where(possible, most, 1)), 0).sum(0) - finite.sum(0)
    at_once = growth - finite.min(0, initial=0) > limits.at_once
    return ((growth > limits.growth) | at_once).any() | ~possible.all()


@jax.jit
def prior_distributions(mu: Float[Array, " d"], K: Float[Array, "T *batch d d"]) -> Float[Array, "T1 *batch d"]:
    r"""$\mu K_0\cdots K_{t-1}$, $t=0\dots T$: the states if the tokens moved them but said nothing of them."""
    step = lambda p, K: (through(p, K), p)
    last, laws = lax.scan(step, jnp.broadcast_to(mu, K.shape[1:-1]), K)
    return jnp.concatenate([laws, last[None]])


@jax.jit
def smooth_linear(
    states: Float[Array, "T1 *batch d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> Float[Array, "T *batch d"]:
    r"""$P(X_t\mid Z)\propto\pi_tc_tb_t$, $b_t\propto K_t(c_{t+1}b_{t+1})$, by one backward pass normalised at each token."""

    def step(w, x):
        state, c, K = x
        b = jnp.where(state > 0, c * jnp.sum(K * w[..., None, :], -1), 0)
        joint = state * b
        total = joint.sum(-1, keepdims=True)
        return b / total, joint / total

    return lax.scan(step, jnp.ones_like(states[-1]), (states[:-1], c, K), reverse=True)[1]


@jax.jit
def likeliest_path(
    mu: Float[Array, " d"], c: Float[Array, "T *batch d"], K: Float[Array, "T *batch d d"]
) -> tuple[Int[Array, "T *batch"], Float[Array, "*batch"]]:
    """The path of states of greatest joint probability with the tokens, and its log-probability."""
    log_c, log_K = jnp.log(c), jnp.log(K)

    def forward(score, x):
        log_c, log_K = x
        joint = score[..., None] + log_K
        return joint.max(-2) + log_c, joint.argmax(-2)

    start = jnp.broadcast_to(jnp.log(mu), c.shape[1:]) + log_c[0]
    score, origins = lax.scan(forward, start, (log_c[1:], log_K[:-1]))
    last = jnp.argmax(score, -1)

    def back(state, origin):
        before = jnp.take_along_axis(origin, state[..., None], -1)[..., 0]
        return before, before

    path = lax.scan(back, last, origins, reverse=True)[1]
    return jnp.concatenate([path, last[None]]).astype(jnp.int32), score.max(-1)
