r"""Forward recursions of hidden Markov models, on arrays.

Letters: `mu` `[d]` initial distribution, `A` transition (dense or acting as a matrix, see `OrderKTransition`), `C` `[d V]`
emission, `z` `[T]` or time-major `[T B]` tokens with −1 for missing. $\pi_t$ is the distribution of $X_t$ given $z_{<t}$:

$$\pi_0=\mu,\qquad \pi_{t+1}=A^\top(\pi_t\odot C_{z_t})/q_t,\qquad q_t=\pi_t^\top C_{z_t}\quad\text{(factor 1 for a missing token)}.$$
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# up to this many states, sums of products that XLA merges with the rest of a step are faster on a CPU than calls of a
# matrix product
_FEW_STATES = 8


def emission_table(C: Float[Array, "d V"]) -> Float[Array, "V1 d"]:
    """A first row of ones for a missing token, then the rows $C_z$."""
    return jnp.concatenate([jnp.ones((1, C.shape[0]), C.dtype), C.T])


def row_numbers(z: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """Rows of `emission_table` for tokens."""
    return z + 1


def moved(p: Float[Array, "... d"], A) -> Float[Array, "... d"]:
    """$pA$, the distribution one step later."""
    if isinstance(A, jax.Array) and A.shape[0] <= _FEW_STATES:
        return jnp.sum(p[..., None] * A.reshape((1,) * (p.ndim - 1) + A.shape), -2)
    return p @ A


@jax.jit
def filter_possible(
    mu: Float[Array, " d"], A, C: Float[Array, "d V"], z: Int[Array, " T"]
) -> tuple[Float[Array, "T1 d"], Float[Array, ""]]:
    """`(states [T+1 d], log-likelihood)` of one sequence, normalised at each token. −∞ if a token is impossible: then
    the states are not valid, see `filter_checked`.

    Only the states leave the loop, which pays where a step is a small matrix product.
    """
    rows, table = row_numbers(z), emission_table(C)

    def step(p, row):
        joint = p * table[row]
        q = joint.sum(-1, keepdims=True)
        after = (joint / jnp.where(q > 0, q, 1)) @ A
        return after, after

    states = jnp.concatenate([mu[None], lax.scan(step, mu, rows)[1]])
    q = jnp.sum(states[:-1] * table[rows], -1)
    return states, jnp.sum(jnp.where(q > 0, jnp.log(jnp.where(q > 0, q, 1)), -jnp.inf))


@jax.jit
def filter_checked(
    mu: Float[Array, " d"], A, C: Float[Array, "d V"], z: Int[Array, "T *batch"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])`, normalised at each token.

    An impossible token has `log q = -∞` and is stepped over. All arithmetic stands inside the loop: XLA runs a program
    that is small but for its loops without waking another thread.
    """
    table = emission_table(C)

    def step(p, token):
        joint = p * table.at[row_numbers(token)].get(mode="promise_in_bounds")
        q = joint.sum(-1, keepdims=True)
        possible = q > 0
        safe = jnp.where(possible, q, 1)
        after = moved(jnp.where(possible, joint / safe, p), A)
        return after, (p, jnp.where(possible, jnp.log(safe), -jnp.inf)[..., 0])

    start = jnp.broadcast_to(mu, (*z.shape[1:], mu.shape[0]))
    unroll = 1 if z.ndim == 1 and C.shape[0] <= _FEW_STATES else 4
    last, (states, log_q) = lax.scan(step, start, z, unroll=unroll)
    return jnp.concatenate([states, last[None]]), log_q


def is_small_product(z: Any, d: int) -> bool:
    """Whether `filter_possible` is faster than `filter_checked`, and its several arrays `[T d]` are small."""
    return z.ndim == 1 and d > _FEW_STATES and z.size * d <= 2**22


def filter_traced(
    mu: Float[Array, " d"], A, C: Float[Array, "d V"], z: Int[Array, "T *batch"]
) -> tuple[Int[Array, "T *batch"], Float[Array, "T1 *batch d"], Float[Array, "*batch"]]:
    """`(tokens that count, states, log-likelihood)`, by the faster recursion that is valid, decided while it runs: for
    use inside `jit` and `grad`. A token that was stepped over is −1 here."""

    def checked():
        states, log_q = filter_checked(mu, A, C, z)
        return jnp.where(jnp.isfinite(log_q), z, -1), states, log_q.sum(0)

    if not is_small_product(z, len(mu)):
        return checked()
    states, log_likelihood = filter_possible(mu, A, C, z)
    return lax.cond(jnp.isfinite(log_likelihood), lambda: (z, states, log_likelihood), checked)


def prior_distributions(mu: Float[Array, "*batch d"], A, length: int) -> Float[Array, "T1 *batch d"]:
    r"""$\mu A^t$ for $t=0\dots$ `length`: what is known of $X_t$ before any token."""
    return lax.scan(lambda p, _: (p @ A, p), mu, None, length=length + 1)[1]
