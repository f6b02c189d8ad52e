r"""Control weights of the dual filter for operators along one string, on arrays; see `layers.py` for the letters.

With $c=2T^zw-w$ and the gains $k$, the terms of all steps in the answer to a query are rows that move on with the query,

$$W_s\leftarrow W_sA-(W_sc)k,\qquad\text{new row }-k,\qquad a\leftarrow aA-(ac)k,\qquad\pi_TF=aF-\sum_sW_sF$$

for every target $F$; what is returned has the sign of the terms of the sum, $-W_sF$.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .recursions import operator_table, row_numbers


def _costs(T, w, z: Int[Array, " T"]) -> Float[Array, "T d"]:
    """$c_t$; the gain of a missing token is zero, whatever stands here."""
    return (2 * operator_table(T) @ w - w[None])[row_numbers(z)]


@jax.jit
def controls_of(
    gains: Float[Array, "T d"], p0, T, w, z: Int[Array, " T"], F: Float[Array, "d k"], times: Int[Array, " q"]
) -> tuple[Float[Array, "q k"], Float[Array, "q T k"]]:
    """`(prior, terms)` for the queries at `times`, by backward passes $y_t=Ay_{t+1}-c_t(k_ty_{t+1})$."""
    return controls_along(gains, p0, T.sum(0), _costs(T, w, z), F, times)


def controls_along(
    gains: Float[Array, "T d"],
    p0,
    A: Float[Array, "... d d"],
    costs: Float[Array, "T d"],
    F: Float[Array, "d k"],
    times,
) -> tuple[Float[Array, "q k"], Float[Array, "q T k"]]:
    """`controls_of` for $A$ `[d d]`, or one for each step, `[T d d]`, and the $c_t$."""
    (d, n_columns), n = F.shape, times.shape[0]

    def step(Y, x):
        s, k, c, own = x
        A = fixed if own is None else own
        active = jnp.repeat(times > s, n_columns)
        term = jnp.where(active, k @ Y, 0)
        return jnp.where(active[None], A @ Y - c[:, None] * term[None], Y), term

    fixed, each = (A, None) if A.ndim == 2 else (None, A)
    Y = jnp.broadcast_to(F[:, None, :], (d, n, n_columns)).reshape(d, -1)
    Y, terms = lax.scan(step, Y, (jnp.arange(len(gains)), gains, costs, each), reverse=True)
    return (p0 @ Y).reshape(n, n_columns), jnp.moveaxis(terms.reshape(len(gains), n, n_columns), 0, 1)


@functools.partial(jax.jit, static_argnames="dtype")
def all_controls(
    gains: Float[Array, "T d"], p0, T, w, z: Int[Array, " T"], F: Float[Array, "d k"] | None, dtype
) -> tuple[Float[Array, "T1 k"], Float[Array, "T1 T k"], Float[Array, "T1 T"]]:
    """`(prior, terms, norms)` for every query, by forward rows; `F = None` is the identity."""
    return all_controls_along(gains, p0, T.sum(0), _costs(T, w, z), F, dtype)


def all_controls_along(
    gains: Float[Array, "T d"],
    p0,
    A: Float[Array, "... d d"],
    costs: Float[Array, "T d"],
    F: Float[Array, "d k"] | None,
    dtype,
) -> tuple[Float[Array, "T1 k"], Float[Array, "T1 T k"], Float[Array, "T1 T"]]:
    """`all_controls` for $A$ `[d d]`, or one for each step, `[T d d]`, and the $c_t$."""
    apply = (lambda rows: rows) if F is None else (lambda rows: rows @ F)

    def kept(rows, a):
        terms = apply(rows)
        return apply(a), terms.astype(dtype), jnp.abs(terms).sum(-1).astype(dtype)

    def step(carry, x):
        rows, a = carry
        q, k, c, own = x
        A = fixed if own is None else own
        rows = lax.dynamic_update_slice(rows @ A - (rows @ c)[:, None] * k[None], k[None], (q, 0))
        a = a @ A - (a @ c) * k
        return (rows, a), kept(rows, a)

    fixed, each = (A, None) if A.ndim == 2 else (None, A)
    start = jnp.zeros((len(gains), len(p0)), p0.dtype), p0
    if not len(gains):
        return jax.tree.map(lambda first: first[None], kept(*start))
    found = lax.scan(step, start, (jnp.arange(len(gains)), gains, costs, each))[1]
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), kept(*start), found)
