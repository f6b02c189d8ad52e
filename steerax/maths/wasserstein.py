r"""Distances between empirical distributions: sorted on a line, or averaged over random lines."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .keys import as_key


def wasserstein_on_line(a: Float[Array, "n ..."], b: Float[Array, "n ..."], p: int = 2) -> Float[Array, "..."]:
    r"""$W_p^p$ between two equally large samples of numbers, column by column.

    $W_p^p=\frac1n\sum_i|a_{(i)}-b_{(i)}|^p$: on a line the sorted samples are matched in order.
    """
    return jnp.mean(jnp.abs(jnp.sort(a, axis=0) - jnp.sort(b, axis=0)) ** p, axis=0)


def directions(key: PRNGKeyArray | int, number: int, dimension: int, dtype=None) -> Float[Array, "D k"]:
    r"""`number` unit vectors of $\mathbb R^D$, uniform on the sphere, as columns."""
    v = jax.random.normal(as_key(key), (dimension, number), dtype or jnp.result_type(float))
    return v / jnp.linalg.norm(v, axis=0, keepdims=True)


def sliced_wasserstein(
    a: Float[Array, "n D"], b: Float[Array, "n D"], theta: Float[Array, "D k"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""$D\cdot SW_2^2$ and its standard error over the directions.

    $SW_2^2=\mathbb E_\theta W_2^2(\theta^\top a,\theta^\top b)$, times the dimension so that a translation by $m$
    gives $|m|^2$, as $W_2^2$ does. The error counts the random directions only, not the samples; compare with the
    distance between two halves of one sample (the noise floor) to see the latter.
    """
    D, k = theta.shape
    each = D * wasserstein_on_line(a @ theta, b @ theta)
    return each.mean(), each.std() / np.sqrt(k)
