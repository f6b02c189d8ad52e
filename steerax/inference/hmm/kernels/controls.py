r"""Control weights of the dual filter along one string, on arrays; see `layers.py` for the letters.

With $y_s=(I-c_sk_s^\top)Ay_{s+1}$, $c=2C_z-1$, the term of step $s$ in the answer to query $q$ is $w_{s,q}F$ for the row
vector that starts as $w_{s,s+1}=k_s^\top A$ and moves on with the query,

$$w_{s,q+1}=\big(w_{s,q}-(w_{s,q}c_q)k_q^\top\big)A,$$

and the prior term is $m_qF$ with $m_0=\mu$ and the same step. So one forward pass over queries carries one row per past
token, and every query and every target column falls out of it by matrix products. The paper's control is $u=-wF$.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .likelihoods import emission_table, row_numbers

_BLOCKS = 8  # of queries: rows of tokens still to come are not carried, about half the work


@jax.jit
def controls_of(
    gains: Float[Array, "T d"],
    mu: Float[Array, " d"],
    A,
    C: Float[Array, "d V"],
    z: Int[Array, " T"],
    F: Float[Array, "d k"],
    times: Int[Array, " q"],
) -> tuple[Float[Array, "q k"], Float[Array, "q T k"]]:
    """`(prior, terms)` for the queries at `times`, by backward passes of the control system; `gains` are the $k_t$."""
    d, n_columns = F.shape
    n = times.shape[0]
    table, rows = emission_table(C), row_numbers(z)

    def step(Y, x):
        s, k, row = x
        c = 2 * table[row] - 1
        Z = A @ Y
        active = jnp.repeat(times > s, n_columns)
        term = jnp.where(active, k @ Z, 0)
        return jnp.where(active[None], Z - c[:, None] * term[None], Y), term

    Y = jnp.broadcast_to(F[:, None, :], (d, n, n_columns)).reshape(d, -1)
    Y, terms = lax.scan(step, Y, (jnp.arange(len(z)), gains, rows), reverse=True)
    return (mu @ Y).reshape(n, n_columns), jnp.moveaxis(terms.reshape(len(z), n, n_columns), 0, 1)


@functools.partial(jax.jit, static_argnames="dtype")
def all_controls(
    gains: Float[Array, "T d"],
    mu: Float[Array, " d"],
    A,
    C,
    z: Int[Array, " T"],
    F: Float[Array, "d k"] | None,
    dtype,
) -> tuple[Float[Array, "T1 k"], Float[Array, "T1 T k"], Float[Array, "T1 T"]]:
    """`(prior, terms, norms)` for every query, by forward gains; `F = None` is the identity."""
    prior, terms, norms = _sweep(gains, mu, A, C, z, F, lambda u: (u.astype(dtype), jnp.abs(u).sum(-1).astype(dtype)))
    return prior, terms, norms


@jax.jit
def control_norms(
    gains: Float[Array, "T d"], mu: Float[Array, " d"], A, C, z: Int[Array, " T"], F: Float[Array, "d k"] | None
) -> tuple[Float[Array, "T1 k"], Float[Array, "T1 T"]]:
    """`(prior, norms)` for every query: `all_controls` without ever holding its terms."""
    prior, norms = _sweep(gains, mu, A, C, z, F, lambda u: (jnp.abs(u).sum(-1),))
    return prior, norms


def _sweep(k, mu, A, C, z, F, keep):
    """The prior `[T+1 k]` and what `keep` makes of the terms `[T k]` of each query, `[T+1 T …]`."""
    T, d = len(z), len(mu)
    apply = (lambda rows: rows) if F is None else (lambda rows: rows @ F)
    Cz = emission_table(C)[row_numbers(z)]
    c = 2 * Cz - 1

    def step(carry, x):
        rows, m = carry
        q, k_q, c_q = x
        rows = rows - (rows @ c_q)[:, None] * k_q[None]
        rows = lax.dynamic_update_slice(rows, k_q[None], (q, 0)) @ A
        m = (m - (m @ c_q) * k_q) @ A
        return (rows, m), (apply(m), keep(apply(rows)))

    rows, m = jnp.zeros((0, d), mu.dtype), mu
    at_zero = jax.tree.map(jnp.zeros_like, keep(apply(jnp.zeros((T, d), mu.dtype))))
    priors, kept = [apply(mu)[None]], [jax.tree.map(lambda a: a[None], at_zero)]
    for start, end in itertools.pairwise([T * b // _BLOCKS for b in range(_BLOCKS + 1)]):
        if start == end:
            continue
        rows = jnp.concatenate([rows, jnp.zeros((end - start, d), mu.dtype)])
        x = (jnp.arange(start, end), k[start:end], c[start:end])
        (rows, m), (prior, parts) = lax.scan(step, (rows, m), x)
        priors.append(prior)
        kept.append(jax.tree.map(lambda a: jnp.pad(a, ((0, 0), (0, T - a.shape[1]), *[(0, 0)] * (a.ndim - 2))), parts))
    return jnp.concatenate(priors), *jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)
