r"""Mixtures over lags, on arrays: which of the last `m` tokens the next step reads, and what it reads there.

Letters: `codes` `[… m]`, the token at each lag, −1 where it is missing or before the start; `w` `[m]` weights; `a` `[m V]` attention.

$$\lambda_j=\frac{w_je^{a_j[z_{t-j}]}}{\sum_{i}w_ie^{a_i[z_{t-i}]}}\quad\text{over the lags whose token is there},\qquad
M=\sum_j\lambda_jM_j[z_{t-j}].$$

A lag on a missing token falls away. If all have, $\lambda_j\propto w_j$ and every $M_j$ is its plain mean over the tokens.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

_FEW_TOKENS = 64  # up to this many a row is picked by a product


def codes_at_lags(tokens: Int[Array, " T"], m: int, first: int = 0) -> Int[Array, "T m"]:
    """`tokens[t - first - j]` for each time and lag $j=0\\dots m-1$, −1 before the start."""
    padded = jnp.concatenate([jnp.full(m - 1 + first, -1, tokens.dtype), tokens])
    return jnp.stack([padded[m - 1 - j : m - 1 - j + len(tokens)] for j in range(m)], -1)


def codes_before(tokens: Int[Array, " T"], t, m: int) -> Int[Array, " m"]:
    """`tokens[t - j]` for $j=0\\dots m-1$, −1 before the start; `t` may be −1."""
    padded = jnp.concatenate([jnp.full(m, -1, tokens.dtype), tokens])
    return lax.dynamic_slice_in_dim(padded, t + 1, m)[::-1]


def lag_weights(
    codes: Int[Array, "*n m"], w: Float[Array, " m"], a: Float[Array, "m V"] | None
) -> Float[Array, "*n m"]:
    r"""$\lambda$; rows sum to one."""
    known, base = codes >= 0, w / w.sum()
    w = jnp.broadcast_to(w, codes.shape)
    if a is None:
        u = jnp.where(known, w, 0)
    else:
        scores = jnp.stack([picked(a[j], codes[..., j]) for j in range(codes.shape[-1])], -1)
        counted = known & (w > 0)
        top = lax.stop_gradient(jnp.where(counted, scores, -jnp.inf).max(-1, keepdims=True))
        lift = jnp.where(counted, scores - jnp.where(jnp.isfinite(top), top, 0), 0)
        u = jnp.where(counted, w * jnp.exp(lift), 0)
    total = u.sum(-1, keepdims=True)
    return jnp.where(total > 0, u / jnp.where(total > 0, total, 1), jnp.broadcast_to(base, u.shape))


def picked(table: Float[Array, "V *r"], codes: Int[Array, "*n"]) -> Float[Array, "..."]:
    """Rows of a table, zero for −1. For few tokens it is a product with rows of zeros and a one: the derivative of that is a
    product too, where the derivative of reading rows is a scatter, which is slow on a CPU."""
    V, shape = table.shape[0], (*codes.shape, *table.shape[1:])
    if V > _FEW_TOKENS:
        rows = table[jnp.maximum(codes, 0)]
        return jnp.where((codes < 0).reshape(*codes.shape, *(1,) * (table.ndim - 1)), 0, rows)
    chosen = jax.nn.one_hot(codes, V, dtype=table.dtype)
    return jnp.dot(chosen.reshape(-1, V), table.reshape(V, -1), precision=lax.Precision.HIGHEST).reshape(shape)


def mixed(
    tables: Float[Array, "m V *r"], codes: Int[Array, "*n m"], weights: Float[Array, "*n m"]
) -> Float[Array, "..."]:
    r"""$\sum_j\lambda_jM_j[z_{t-j}]$, with the mean over tokens where no token is there."""
    spread = lambda x: x.reshape(*x.shape, *(1,) * (tables.ndim - 2))
    found = sum(spread(weights[..., j]) * picked(tables[j], codes[..., j]) for j in range(tables.shape[0]))
    none = spread((weights * (codes >= 0)).sum(-1) == 0)
    blank = jnp.tensordot(weights, tables.mean(1), 1)
    return jnp.where(none, blank, found)
