"""Causal softmax attention and dropout, as pure functions on arrays.

Heads come first (`[H T K]`) so that both products are plain batched matrix products, the mask is added, and the
division by the normaliser happens after the product with the values: the fastest order on a CPU.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key


def scores(
    q: Float[Array, "H q K"], k: Float[Array, "H s K"], offset: int | Int[Array, ""] = 0
) -> Float[Array, "H q s"]:
    r"""Scores $\langle q_i,k_s\rangle/\sqrt K$, in float32 at least; $-\infty$ where $s$ is after query $i$.

    Query $i$ stands at position $i$ + `offset`.
    """
    s = (q * np.asarray(1 / np.sqrt(q.shape[-1]), q.dtype)) @ k.swapaxes(-1, -2)
    seen = jnp.arange(k.shape[-2])[None, :] <= jnp.arange(q.shape[-2])[:, None] + offset
    mask = jnp.where(seen, jnp.float32(0.0), -jnp.float32(jnp.inf))
    dtype = jnp.promote_types(s.dtype, jnp.float32)
    return s.astype(dtype) + mask.astype(dtype)[None]


def rotated(x: Float[Array, "H T K"], start: int | Int[Array, ""]) -> Float[Array, "H T K"]:
    r"""Rotary positions: the numbers $j$ and $j+K/2$ of the row at position $t$ are turned by the angle $t\,10000^{-2j/K}$, so that
    scores depend on differences of positions only [SuEtAl2021]."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-np.arange(half) / half)
    t = (start + jnp.arange(x.shape[-2])).astype(jnp.float32)
    angle = t[:, None] * frequency.astype(np.float32)[None]
    c, s = jnp.cos(angle).astype(x.dtype)[None], jnp.sin(angle).astype(x.dtype)[None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * c - b * s, a * s + b * c], -1)


def attention_weights(
    q: Float[Array, "H q K"], k: Float[Array, "H s K"], offset: int | Int[Array, ""] = 0
) -> Float[Array, "H q s"]:
    r"""$\mathrm{softmax}_s\langle q_i,k_s\rangle/\sqrt K$ over past and present: the matrices people plot; rows sum to 1."""
    return jax.nn.softmax(scores(q, k, offset), axis=-1)


def attend(
    q: Float[Array, "H q K"],
    k: Float[Array, "H s K"],
    v: Float[Array, "H s K"],
    offset: int | Int[Array, ""] = 0,
    *,
    rate: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "H q K"]:
    r"""Each head's output $\sum_s\mathrm{softmax}_s(\langle q_i,k_s\rangle/\sqrt K)v_s$, with dropout on the weights if a key is given."""
    s = scores(q, k, offset)
    e = jnp.exp(s - jax.lax.stop_gradient(s.max(-1, keepdims=True)))
    z = e.sum(-1, keepdims=True)
    e = dropout(e, rate, key)
    return ((e.astype(v.dtype) @ v) / z.astype(v.dtype)).astype(v.dtype)


def dropout(x: Float[Array, "..."], rate: float, key: Key[Array, ""] | None) -> Float[Array, "..."]:
    r"""$x\,m/(1-r)$ with independent $m\in\{0,1\}$, $P(m=0)=r$, the `rate`; $x$ itself without a key or at rate 0.

    The rate is rounded to a multiple of $2^{-16}$ (16 random bits per element, half the cost of 32) and the scale is that
    of the rounded rate, so the mean is exact. The mask is a pure function of the key.
    """
    if key is None or rate == 0.0:
        return x
    dropped = min(round(rate * 2**16), 2**16 - 1)
    kept = jax.random.bits(key, x.shape, jnp.uint16) >= jnp.uint16(dropped)
    return jnp.where(kept, x * np.asarray(2**16 / (2**16 - dropped), x.dtype), jnp.zeros((), x.dtype))
