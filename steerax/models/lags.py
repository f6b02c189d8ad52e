r"""Mixtures over lags, on arrays: which of the last `m` tokens the next step reads, and what it reads there.

Letters: `codes` `[… m]`, the token at each lag, −1 where it is missing or before the start; `w` `[m]` weights; `a` `[m V]` attention.

$$\lambda_j=\frac{w_je^{a_j[z_{t-j}]}}{\sum_{i}w_ie^{a_i[z_{t-i}]}}\quad\text{over the lags whose token is there},\qquad
M=\sum_j\lambda_jM_j[z_{t-j}].$$

A lag on a missing token falls away. If none that has weight is left, $\lambda_j\propto w_j$ and every $M_j$ is its plain mean over
the tokens: the context is *blank*.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_FEW_TOKENS = 64  # up to this many, rows are picked by a product


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
        scores = picked_scores(a, codes)
        counted = known & (w > 0)
        top = lax.stop_gradient(jnp.where(counted, scores, -jnp.inf).max(-1, keepdims=True))
        lift = jnp.where(counted, scores - jnp.where(jnp.isfinite(top), top, 0), 0)
        u = jnp.where(counted, w * jnp.exp(lift), 0)
    total = u.sum(-1, keepdims=True)
    return jnp.where(total > 0, u / jnp.where(total > 0, total, 1), jnp.broadcast_to(base, u.shape))


def is_blank(codes: Int[Array, "*n m"], weights: Float[Array, "*n m"]) -> Bool[Array, "*n"]:
    r"""Whether no lag that has weight, by its $\lambda$, is on a token, so that every $M_j$ is read as its mean."""
    return ~((codes >= 0) & (weights > 0)).any(-1)


def picked_scores(a: Float[Array, "m V"], codes: Int[Array, "*n m"]) -> Float[Array, "*n m"]:
    """$a_j[z_{t-j}]$, anything where the token is missing."""
    m, V = a.shape
    if V > _FEW_TOKENS:
        return a[jnp.arange(m), jnp.maximum(codes, 0)]
    return jnp.sum(jax.nn.one_hot(codes, V, dtype=a.dtype) * a.reshape((1,) * (codes.ndim - 1) + a.shape), -1)


def mixed(
    tables: Float[Array, "m V *r"], codes: Int[Array, "*n m"], weights: Float[Array, "*n m"]
) -> Float[Array, "..."]:
    r"""$\sum_j\lambda_jM_j[z_{t-j}]$, with the mean over tokens where the context is blank.

    For few tokens it is one product with rows that are zero but for the weights: the derivative of that is a product too, where the
    derivative of reading rows is a scatter, which is slow on a CPU.
    """
    (m, V), rest, shape = tables.shape[:2], tables.shape[2:], codes.shape[:-1]
    known = codes >= 0
    if V > _FEW_TOKENS:
        rows = tables[jnp.arange(m), jnp.maximum(codes, 0)].reshape(*shape, m, math.prod(rest))
        found = jnp.sum(jnp.where(known, weights, 0)[..., None] * rows, -2)
    else:
        chosen = jax.nn.one_hot(codes, V, dtype=tables.dtype) * weights[..., None]
        found = jnp.dot(chosen.reshape(*shape, m * V), tables.reshape(m * V, -1), precision=lax.Precision.HIGHEST)
    blank = jnp.dot(weights, tables.mean(1).reshape(m, -1), precision=lax.Precision.HIGHEST)
    return jnp.where(is_blank(codes, weights)[..., None], blank, found).reshape(*shape, *rest)
