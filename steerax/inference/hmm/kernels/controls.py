"""Control weights of the dual filter along one string, on arrays; see `layers.py` for the letters.

With `y_s = (I - c_s k_s^⊤) A y_{s+1}`, `c = 2 C_z - 1`, the weight of step `s` in the answer to query `q` is
`u_{q,s} = -w_{s,q} F` for the row vector that starts as `w_{s,s+1} = k_s^⊤ A` and moves on with the query,

    w_{s,q+1} = (w_{s,q} - (w_{s,q}·c_q) k_q^⊤) A,

the term that the step adds to the answer is `-u_{q,s}`, and the prior term is `m_q F` with `m_0 = μ` and the same step. So one forward pass over queries carries one row per
past token, and every query and every target column falls out of it by matrix products.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .layers import gain_differences, posterior_difference
from .recursions import emission_table, row_numbers


@jax.jit
def controls_of(states: Float[Array, "T1 d"], mu, A, C, z: Int[Array, " T"], F: Float[Array, "d k"], times):
    """`(prior [q k], terms -u [q T k])` for the queries at `times` `[q]`, by backward passes of the control system."""
    d, n_columns = F.shape
    n = times.shape[0]

    table, rows = emission_table(C), row_numbers(z)

    def step(Y, x):
        s, rho, row = x
        Cz = table[row]
        k, c = posterior_difference(rho, Cz, Cz.sum(-1, keepdims=True)) / 2, 2 * Cz - 1
        Z = A @ Y
        active = jnp.repeat(times > s, n_columns)
        u = jnp.where(active, -(k @ Z), 0)
        return jnp.where(active[None], Z + c[:, None] * u[None], Y), -u

    Y = jnp.broadcast_to(F[:, None, :], (d, n, n_columns)).reshape(d, -1)
    Y, terms = lax.scan(step, Y, (jnp.arange(len(z)), states[:-1], rows), reverse=True)
    return (mu @ Y).reshape(n, n_columns), jnp.moveaxis(terms.reshape(len(z), n, n_columns), 0, 1)


@functools.partial(jax.jit, static_argnames=("weights", "dtype", "n_blocks"))
def all_controls(
    states: Float[Array, "T1 d"],
    mu,
    A,
    C,
    z: Int[Array, " T"],
    F: Float[Array, "d k"] | None,
    weights: bool,
    dtype,
    n_blocks: int = 8,
):
    """`(prior [T+1 k], terms -u [T+1 T k] or None, norms [T+1 T])` for every query, by forward gains.

    `F = None` is the identity. In `n_blocks` blocks of queries, so that rows of tokens still to come are not carried:
    about half the work.
    """
    T, d = len(z), len(mu)
    apply = (lambda rows: rows) if F is None else (lambda rows: rows @ F)
    Cz = emission_table(C)[row_numbers(z)]
    k, c = gain_differences(states[:-1], C, z) / 2, 2 * Cz - 1
    rows = jnp.zeros((0, d), mu.dtype)
    m = mu
    priors, controls, norms = [apply(mu)[None]], [], []
    edges = [T * b // n_blocks for b in range(n_blocks + 1)]

    def step(carry, x):
        rows, m = carry
        q, k_q, c_q = x
        rows = rows - (rows @ c_q)[:, None] * k_q[None]
        rows = lax.dynamic_update_slice(rows, k_q[None], (q, 0)) @ A
        m = (m - (m @ c_q) * k_q) @ A
        u = apply(rows)
        out = u.astype(dtype) if weights else None
        return (rows, m), (apply(m), out, jnp.abs(u).sum(-1).astype(dtype))

    for start, end in itertools.pairwise(edges):
        if start == end:
            continue
        rows = jnp.concatenate([rows, jnp.zeros((end - start, d), mu.dtype)])
        x = (jnp.arange(start, end), k[start:end], c[start:end])
        (rows, m), (prior, u, norm) = lax.scan(step, (rows, m), x)
        priors.append(prior)
        norms.append(jnp.pad(norm, ((0, 0), (0, T - end))))
        if u is not None:
            controls.append(jnp.pad(u, ((0, 0), (0, T - end), (0, 0))))
    none = jnp.zeros((1, T), dtype)
    u = jnp.concatenate([jnp.zeros((1, T, priors[0].shape[1]), dtype), *controls]) if weights else None
    return jnp.concatenate(priors), u, jnp.concatenate([none, *norms])
