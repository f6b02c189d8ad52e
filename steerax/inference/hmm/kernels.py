"""Forward recursions of hidden Markov models, on arrays.

Letters: `mu` `[d]` initial law, `A` transition (dense or acting as a matrix, see `OrderKTransition`), `C` `[d V]`
emission, `z` `[T]` or time-major `[T B]` tokens with −1 for missing. `π_t` is the law of `X_t` given `z_1..z_t`, so
`π_0 = mu` and

    π_{t+1} = A^⊤(π_t ⊙ C_{z_{t+1}}) / q_t,        q_t = π_t · C_{z_{t+1}}      (factor 1 for a missing token).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# masses below this are recomputed with a normalisation per token
SMALLEST_MASS = 1e-200

# up to this many states, sums of products that XLA merges with the rest of a step are faster on a CPU than calls of a
# matrix product
FEW_STATES = 8


def emission_table(C) -> Float[Array, "V1 d"]:
    """A first row of ones for a missing token, then the rows `C_z`."""
    return jnp.concatenate([jnp.ones((1, C.shape[0]), C.dtype), C.T])


def row_numbers(z):
    """Rows of [`emission_table`][] for tokens."""
    return z + 1


def moved(p: Float[Array, "... d"], A) -> Float[Array, "... d"]:
    """`p A`, the law one step later."""
    if isinstance(A, jax.Array) and A.shape[0] <= FEW_STATES:
        return jnp.sum(p[..., None] * A.reshape((1,) * (p.ndim - 1) + A.shape), -2)
    return p @ A


def block_length(d: int, batch: int, dtype) -> int:
    """Tokens between two normalisations: eight while a step is cheap, one where arithmetic or range forbids it."""
    return 8 if batch * d * d <= 100_000 and dtype == jnp.float64 else 1


def filter_block(d: int, batch: int, dtype) -> int:
    """The same for the filter, whose step merges with its normalisation if states are few or sequences several."""
    return block_length(d, batch, dtype) if batch == 1 and d > FEW_STATES else 1


@functools.partial(jax.jit, static_argnames="block")
def filter_deferred(mu, A, C, z: Int[Array, "T ..."], block: int):
    """`(states [T+1 … d], log-likelihood […], smallest mass […])`, normalising only once per `block` tokens.

    Between normalisations a step is a gather, a product and a matrix product; all states are normalised at the end in
    one pass. The masses at the ends of blocks give the likelihood, since `Π q_t` telescopes. If the smallest mass is
    close to underflow (or a token is impossible) the result is not valid: use [`filter_checked`][].
    """
    T, batch = z.shape[0], z.shape[1:]
    n_blocks = T // block + 1  # at least one step more than tokens, so that π_T is among the emitted states
    rows = jnp.zeros((n_blocks * block, *batch), z.dtype).at[:T].set(row_numbers(z))
    table = emission_table(C)

    def step(p, rows_of_block):
        mass = p.sum(-1, keepdims=True)
        p = p / jnp.where(mass > 0, mass, 1)
        states = []
        for row in rows_of_block:
            states.append(p)
            p = moved(p * table[row], A)
        return p, (jnp.stack(states), mass[..., 0])

    start = jnp.broadcast_to(mu, (*batch, mu.shape[0]))
    last, (states, mass) = lax.scan(step, start, rows.reshape(n_blocks, block, *batch))
    states = states.reshape(n_blocks * block, *start.shape)[: T + 1]
    total = states.sum(-1, keepdims=True)
    mass = jnp.concatenate([mass[1:], last.sum(-1)[None]])
    log_likelihood = jnp.sum(jnp.log(jnp.where(mass > 0, mass, 1)), 0)
    return states / jnp.where(total > 0, total, 1), log_likelihood, mass.min(0)


@jax.jit
def filter_checked(mu, A, C, z: Int[Array, "T ..."]):
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
    unroll = 1 if z.ndim == 1 and C.shape[0] <= FEW_STATES else 4
    last, (states, log_q) = lax.scan(step, start, z, unroll=unroll)
    return jnp.concatenate([states, last[None]]), log_q


def filter_traced(mu, A, C, z: Int[Array, "T ..."], block: int):
    """`(tokens that count, states, log-likelihood)`, by whichever recursion is valid, decided while it runs: for use
    inside `jit` and `grad`. A token that was stepped over is −1 here."""

    def checked():
        states, log_q = filter_checked(mu, A, C, z)
        return jnp.where(jnp.isfinite(log_q), z, -1), states, log_q.sum(0)

    if block == 1:
        return checked()
    states, log_likelihood, smallest = filter_deferred(mu, A, C, z, block)
    return lax.cond(
        jnp.min(smallest, initial=1.0) > SMALLEST_MASS,
        lambda: (z, states, log_likelihood),
        checked,
    )


def prior_laws(mu, A, length: int) -> Float[Array, "T1 *batch d"]:
    """`μ A^t` for `t = 0 … length`: what is known of `X_t` before any token."""
    return lax.scan(lambda p, _: (p @ A, p), mu, None, length=length + 1)[1]
