r"""Forward recursions of generalised hidden Markov models, on arrays.

Letters: `p0` `[d]` initial belief, `T` `[V d d]` operators, `w` `[d]` evaluation, `z` `[T]` or time-major `[T B]` tokens with −1 for
missing, $A=\sum_zT^z$. $\pi_t$ is the belief given $z_{<t}$, a row vector with $\pi_tw=1$:

$$\pi_0=p_0,\qquad\pi_{t+1}=\pi_tT^{z_t}/q_t,\qquad q_t=\pi_tT^{z_t}w\quad\text{(}\pi_{t+1}=\pi_tA\text{ for a missing token)}.$$

With entries of both signs an impossible token shows as a number of the size of rounding, so a sum $xMw$ counts as zero unless it
exceeds 64 machine epsilons of $|x||M||w|$. Without negative entries that is the sum itself, and whatever is positive counts.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...hmm.kernels.recursions import Limits

_ROOM = 64  # machine epsilons


def operator_table(T: Float[Array, "V d d"]) -> Float[Array, "V1 d d"]:
    """First $A$, for a missing token, then the $T^z$."""
    return jnp.concatenate([T.sum(0)[None], T])


def other_operators(T: Float[Array, "V d d"]) -> Float[Array, "V1 d d"]:
    """First zero, for a missing token, then $A-T^z$, as sums of the others, so that nothing cancels."""
    none = jnp.zeros_like(T[:1])
    before = jnp.concatenate([none, jnp.cumsum(T[:-1], 0)])
    after = jnp.concatenate([jnp.cumsum(T[:0:-1], 0)[::-1], none])
    return jnp.concatenate([none, before + after])


def row_numbers(z: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """Rows of the tables for tokens."""
    return z + 1


def moved(p: Float[Array, "*n d"], M: Float[Array, "*m d d"]) -> Float[Array, "*n d"]:
    """$pM$, with sums of products: no matrix unit rounds its factors."""
    return jnp.sum(p[..., None] * ranked(M, p.ndim + 1), -2)


def ranked(a: Array, ndim: int) -> Array:
    """An array with as many axes, the first of length one: what holds for all times or sequences meets one for each."""
    return a.reshape((1,) * (ndim - a.ndim) + a.shape)


def is_positive(q: Float[Array, "*n"], x: Float[Array, "..."], size: Float[Array, "..."]) -> Bool[Array, "*n"]:
    r"""Whether $q=xMw$ is more than rounding, where `size` is $|M||w|$."""
    return q > _ROOM * jnp.finfo(q.dtype).eps * jnp.sum(jnp.abs(x) * ranked(size, x.ndim), -1)


def has_no_signs(p0, T, w) -> Bool[Array, ""]:
    """Whether no entry is negative: then beliefs have none either, and small ones may matter."""
    return (p0 >= 0).all() & (T >= 0).all() & (w >= 0).all()


@jax.jit
def next_probabilities(states: Float[Array, "*n d"], T: Float[Array, "V d d"], w) -> Float[Array, "*n V"]:
    r"""$\pi T^zw$ for every token; exactly zero where it is no more than rounding."""
    size = jnp.einsum("zij,j->zi", jnp.abs(T), jnp.abs(w))
    q = jnp.sum(states[..., None, :] * ranked(jnp.einsum("zij,j->zi", T, w), states.ndim + 1), -1)
    return jnp.where(is_positive(q, states[..., None, :], size), q, 0)


@jax.jit
def filter_linear(
    p0: Float[Array, " d"], T: Float[Array, "V d d"], w: Float[Array, " d"], z: Int[Array, "T *batch"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])`, normalised at each token. An impossible token has `log q = -∞` and is stepped over."""
    table = operator_table(T)
    sizes = jnp.abs(table) @ jnp.abs(w)

    def step(p, row):
        new, log_q = advance(p, table[row], table[0], w, sizes[row])
        return new, (p, jnp.where(row == 0, 0, log_q))

    start = jnp.broadcast_to(p0, (*z.shape[1:], p0.shape[0]))
    last, (states, log_q) = lax.scan(step, start, row_numbers(z))
    return jnp.concatenate([states, last[None]]), log_q


def advance(p: Float[Array, "*n d"], M: Float[Array, "*n d d"], A: Float[Array, "d d"], w, size: Float[Array, "*n d"]):
    """The belief after a token of operator `M`, with `size` $=|M||w|$, and `log q`; an impossible token is stepped over with $A$."""
    after, ahead = moved(p, M), moved(p, A)
    q = after @ w
    possible = is_positive(q, p, size)
    safe = jnp.where(possible, q, 1)
    new = jnp.where(possible[..., None], after / safe[..., None], ahead / (ahead @ w)[..., None])
    return new, jnp.where(possible, jnp.log(safe), -jnp.inf)


@jax.jit
def may_have_lost_mass(
    p0, T: Float[Array, "V d d"], w, z: Int[Array, "T *batch"], states: Float[Array, "T1 *batch d"], log_q
) -> Bool[Array, ""]:
    """Whether an underflow in the states of a filter can matter: where no entry of the model is negative, and an entry of a
    state is so small that terms of its sum may be missing, a token is as rare, or a zero is not explained by the model's zeros.
    """
    limits = Limits.of(states.dtype)

    def look():
        support, weighed = (operator_table(T) > 0).astype(states.dtype), (w > 0).astype(states.dtype)

        def lost_at(x):
            before, after, row, log_q = x
            seen = moved((before > 0).astype(states.dtype), support[row])
            possible = jnp.isfinite(log_q)
            denied = ~possible & (seen @ weighed > 0)  # a product of positive numbers was zero
            ahead = jnp.where(possible[..., None], seen, moved((before > 0).astype(states.dtype), support[0]))
            return denied.any() | ((after == 0) & (ahead > 0)).any()

        small = (jnp.where(states > 0, states, 1) < limits.small).any()
        rare = (jnp.where(jnp.isfinite(log_q), log_q, 0) < jnp.log(limits.rare)).any()
        return small | rare | lax.map(lost_at, (states[:-1], states[1:], row_numbers(z), log_q)).any()

    return lax.cond(has_no_signs(p0, T, w), look, lambda: jnp.asarray(False))
