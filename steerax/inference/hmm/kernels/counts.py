r"""Expected counts of a hidden Markov model given its tokens: forward–backward with memory for a chunk of time only.

With $a_t=p_t\odot C_{z_t}$ forward ($p_{t+1}=a_tA$) and $m_t$ the message from the tokens after $t$,
$w_t=m_t\odot C_{z_t}$, $m_{t-1}=Aw_t$, suitably scaled:

$$P(X_t=i\mid z)=a_t(i)\,m_t(i),\qquad P(X_t=i,X_{t+1}=j\mid z)=a_t(i)\,A(i,j)\,w_{t+1}(j).$$

The forward pass is normalised once per `block` tokens and the backward pass divides by the same masses, so the first
product sums to one without a normaliser. Time is cut into chunks: states at the starts of chunks are kept, everything
else is computed again when the backward pass comes by. The sum over time of the second product is one matrix product
per chunk.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from ....models.transitions import as_transition
from .likelihoods import Emission, Likelihoods, emission_table
from .recursions import Limits, possible_growth

# with masses below this, counts are computed again with a normalisation per token
SMALLEST_MASS = 1e-200

# numbers that one array of a chunk may hold: 64 MiB in double precision
CHUNK_SIZE = 2**23


class ExpectedCounts(NamedTuple):
    """Sums over all sequences. `transition` has the shape of the free parameters: `[d d]`, or the order-k tensor's; `emission`
    counts tokens, or for `Likelihoods` holds what there is to sum, the transpose of the distribution of the state at each of
    the $TB$ observations, time first and 0 beyond the end.

    `doubtful`: mass may have underflowed that later tokens could bring back, see `recursions.may_have_lost_mass`.
    """

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "d V"]
    log_likelihood: Float[Array, ""]
    smallest_mass: Float[Array, ""]
    doubtful: Bool[Array, ""]


def chunk_blocks(length: int, batch: int, d: int, block: int) -> int:
    """Blocks of tokens per chunk, so that an array of a chunk stays within `CHUNK_SIZE` numbers."""
    needed = -(-length // block)
    return max(1, min(needed, CHUNK_SIZE // (batch * d * block)))


@functools.partial(jax.jit, static_argnames=("block", "per_chunk"))
def expected_counts(
    mu, A, C: Emission, rows: Int[Array, "T B"], lengths: Int[Array, " B"], block: int, per_chunk: int
) -> ExpectedCounts:
    """`ExpectedCounts` of rows of the table (0 for missing, and beyond the end); of `Likelihoods` all of them in their order."""
    (T, B), (d, V), chain, by_time = rows.shape, C.shape, as_transition(A), isinstance(C, Likelihoods)
    seen, chunks = _read(C, rows, block, per_chunk)

    def forward_block(carry, rows):
        (p, least), after = carry, []
        for row in rows:
            after.append(p * seen(row))
            p = after[-1] @ A
        mass = p.sum(-1, keepdims=True)
        p = p / jnp.where(mass > 0, mass, 1)
        return (p, jnp.minimum(least, p)), (jnp.stack(after), mass[..., 0])

    def backward_block(carry, x):
        m, following, transition, emission, _ = carry
        time, rows, mass, a = x
        # what enters from the right has not been divided by the mass at the end of the block
        m, following = m / mass[:, None], following / mass[:, None]
        messages, products = [], [following]
        for row in reversed(rows):
            w = m * seen(row)
            messages.append(m)
            products.append(w)
            m = (A @ w.T).T
        counted = time + 1 + jnp.arange(block)[:, None] < lengths[None]
        gamma = a * jnp.stack(messages[::-1])
        transition += chain.pair_counts(jnp.where(counted[..., None], a, 0), jnp.stack(products[-2::-1]))
        if not by_time:
            emission = emission + _token_counts(gamma.reshape(-1, d), rows.reshape(-1), V)
        return (m, products[-1], transition, emission, gamma[0]), gamma if by_time else None

    def forward_chunk(carry, rows):
        end, (_, mass) = lax.scan(forward_block, carry, rows)
        return end, (carry[0], mass)

    kept, start = None, jnp.broadcast_to(mu, (B, d))
    if len(chunks) == 1:
        (_, least), (kept, mass) = lax.scan(forward_block, (start, start), chunks[0])
        starts, masses = start[None], mass[None]
    else:
        (_, least), (starts, masses) = lax.scan(forward_chunk, (start, start), chunks)
    safe = jnp.where(masses > 0, masses, 1)

    def backward_chunk(carry, x):
        time, p, rows, mass = x
        a = lax.scan(forward_block, (p, p), rows)[1][0] if kept is None else kept
        return lax.scan(backward_block, carry, (time, rows, mass, a), reverse=True)

    one, none = jnp.ones((B, d), mu.dtype), jnp.zeros((0 if by_time else V, d), mu.dtype)
    carry = (one, one, jnp.zeros_like(chain.free, mu.dtype), none, one)
    times = (block * jnp.arange(len(chunks) * per_chunk)).reshape(-1, per_chunk)
    carry, each = lax.scan(backward_chunk, carry, (times, starts, chunks, safe), reverse=True)
    emission = carry[3].T if each is None else _inside(each.reshape(-1, B, d)[:T], lengths).reshape(-1, d).T
    first = jnp.where(lengths[:, None] > 0, carry[4], 0).sum(0)
    logs, mass = jnp.log(safe).sum((0, 1)), masses.min()
    found = first, chain.free * carry[2], emission, logs.sum(), mass
    return ExpectedCounts(*found, _doubtful(C, rows, logs, least.min(), mass))


def _read(C: Emission, rows: Int[Array, "T B"], block: int, per_chunk: int) -> tuple[Callable[[Array], Array], Array]:
    """What a step makes a likelihood of, and how: rows of the table, or the likelihoods without a look into one."""
    if isinstance(C, Likelihoods):
        return lambda row: row, _in_chunks(C.rows.reshape(*rows.shape, -1), block, per_chunk, 1)
    table = emission_table(C)
    return lambda row: table[row], _in_chunks(rows, block, per_chunk, 0)


def _doubtful(C: Emission, rows: Int[Array, "T B"], logs: Float[Array, " B"], least, mass) -> Bool[Array, ""]:
    """Whether a small state or a rare block may hide mass that can grow again."""
    limits = Limits.of(C.dtype)

    def grows():
        growth = possible_growth(C, rows, logs)
        return ((growth > limits.growth) | (growth - jnp.log(mass) > limits.at_once)).any()

    return lax.cond((least < limits.small) | (mass < limits.rare), grows, lambda: jnp.asarray(False))


def _in_chunks(rows: Shaped[Array, "T ..."], block: int, per_chunk: int, missing: int) -> Shaped[Array, "n c b ..."]:
    """Rows by chunk, block and time, padded with missing tokens."""
    T, *rest = rows.shape
    n_chunks = max(1, -(-T // (block * per_chunk)))
    padding = ((0, n_chunks * block * per_chunk - T), *[(0, 0)] * len(rest))
    return jnp.pad(rows, padding, constant_values=missing).reshape(n_chunks, per_chunk, block, *rest)


def _inside(gamma: Float[Array, "T B d"], lengths: Int[Array, " B"]) -> Float[Array, "T B d"]:
    """Zero beyond the ends."""
    return jnp.where((jnp.arange(len(gamma))[:, None] < lengths[None])[..., None], gamma, 0)


def _token_counts(gamma: Float[Array, "n d"], rows: Int[Array, " n"], V: int) -> Float[Array, "V d"]:
    """Sums of `gamma` by token."""
    return jax.ops.segment_sum(gamma, rows, V + 1)[1:]
