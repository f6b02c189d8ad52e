r"""Forward recursions of hidden Markov models, on arrays.

Letters: `mu` `[d]` initial distribution, `A` transition (dense or acting as a matrix, see `OrderKTransition`), `C` `[d V]`
emission, `z` `[T]` or time-major `[T B]` tokens with −1 for missing. $\pi_t$ is the distribution of $X_t$ given $z_{<t}$:

$$\pi_0=\mu,\qquad \pi_{t+1}=A^\top(\pi_t\odot C_{z_t})/q_t,\qquad q_t=\pi_t^\top C_{z_t}\quad\text{(factor 1 for a missing token)}.$$
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ....models.transitions import as_transition
from .likelihoods import Emission, Likelihoods, emission_table, row_numbers

# up to this many states, sums of products that XLA merges with the rest of a step are faster on a CPU than calls of a
# matrix product
_FEW_STATES = 8


def moved(p: Float[Array, "... d"], A) -> Float[Array, "... d"]:
    """$pA$, the distribution one step later."""
    if isinstance(A, jax.Array) and A.shape[0] <= _FEW_STATES:
        return jnp.sum(p[..., None] * A.reshape((1,) * (p.ndim - 1) + A.shape), -2)
    return p @ A


@jax.jit
def filter_possible(
    mu: Float[Array, " d"], A, C: Emission, z: Int[Array, " T"]
) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
    """`(states [T+1 d], log q [T])` of one sequence, normalised at each token. If a token is impossible, its `log q` is −∞
    and the states are not valid, see `filter_checked`.

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
    return states, jnp.where(q > 0, jnp.log(jnp.where(q > 0, q, 1)), -jnp.inf)


@jax.jit
def filter_checked(
    mu: Float[Array, " d"], A, C: Emission, z: Int[Array, "T *batch"]
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


class Limits(NamedTuple):
    """What underflow can do in a precision, see `may_have_lost_mass`: an entry of at least `small` misses nothing, after
    tokens that are no rarer than `rare`; what is missing stays below rounding while later tokens multiply its share by
    no more than the exponential of `growth`, and 1/q and they together by no more than that of `at_once`."""

    small: float
    rare: float
    growth: float
    at_once: float

    @classmethod
    def of(cls, dtype) -> "Limits":
        tiny, eps = float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).eps)
        below = math.log(eps / 1e7)
        return cls(tiny**0.65, tiny**0.35 / eps, below - 0.65 * math.log(tiny), below - math.log(tiny))

    def respected(self, states: Any, log_q: Any) -> Any:
        """Whether no state is small, or zero, and no token rare: then nothing is missing."""
        return (states.min(initial=1) >= self.small) & (log_q.min(initial=0) >= math.log(self.rare))


def possible_growth(C: Emission, rows: Int[Array, "T *batch"], log_likelihood) -> Float[Array, "*batch"]:
    r"""$\sum_t\log(\max_xC_{z_t}(x)/q_t)$: by how much a share of mass can grow along the tokens."""
    if isinstance(C, Likelihoods):
        return -log_likelihood  # their largest entries are ones
    return jnp.log(emission_table(C).max(-1))[rows].sum(0) - log_likelihood


@jax.jit
def may_have_lost_mass(
    A, C: Emission, z: Int[Array, "T *batch"], states: Float[Array, "T1 *batch d"], log_q
) -> Bool[Array, ""]:
    r"""Whether an underflow in the states of a filter can matter, given all the values `log q [T …]` it found.

    Mass that falls below the precision is lost for good, a share of up to tiny / q at a token; each later token
    multiplies it by at most $\max_xC_z(x)/q$. Only where the product of these factors could bring it back the states are
    looked at: for entries so small that terms of their sums may be missing, and for zeros that the zeros of the model do
    not explain.
    """
    limits, rows, possible = Limits.of(states.dtype), row_numbers(z), jnp.isfinite(log_q)

    def look():
        before = states[:-1] > 0
        seen = before & (emission_table(C)[rows] > 0)
        denied = (~possible & seen.any(-1)).any()  # a product of positive numbers was zero

        def unexplained():
            reached = moved(
                jnp.where(possible[..., None], seen, before).astype(states.dtype), as_transition(A).support.matrix
            )
            return ((states[1:] == 0) & (reached > 0)).any()

        small = (jnp.where(states > 0, states, 1) < limits.small).any()
        rare = (possible & (log_q < math.log(limits.rare))).any()
        return small | rare | denied | lax.cond((states == 0).any(), unexplained, lambda: jnp.asarray(False))

    finite = jnp.where(possible, log_q, 0)
    growth = possible_growth(C, jnp.where(possible, rows, 0), finite.sum(0))
    suspicious = (growth > limits.growth) | (growth - finite.min(0, initial=0) > limits.at_once)
    return lax.cond(suspicious.any() | ~possible.all(), look, lambda: jnp.asarray(False))


@functools.partial(jax.jit, static_argnames="length")
def prior_distributions(mu: Float[Array, "*batch d"], A, length: int) -> Float[Array, "T1 *batch d"]:
    r"""$\mu A^t$ for $t=0\dots$ `length`: what is known of $X_t$ before any token."""
    return lax.scan(lambda p, _: (p @ A, p), mu, None, length=length + 1)[1]
