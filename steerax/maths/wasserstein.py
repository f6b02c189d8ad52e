r"""Distances between empirical laws: sorted on a line, matched exactly, or averaged over random lines."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import ConfigurationError


def wasserstein_on_line(a: Float[Array, "n ..."], b: Float[Array, "n ..."], p: int = 2) -> Float[Array, "..."]:
    r"""$W_p^p$ between two equally large samples of numbers, column by column.

    $W_p^p=\frac1n\sum_i|a_{(i)}-b_{(i)}|^p$: on a line the sorted samples are matched in order.
    """
    return jnp.mean(jnp.abs(jnp.sort(a, axis=0) - jnp.sort(b, axis=0)) ** p, axis=0)


def directions(key: PRNGKeyArray, number: int, dimension: int, dtype=None) -> Float[Array, "D k"]:
    """`number` unit vectors of $\\mathbb R^D$, uniform on the sphere, as columns."""
    v = jax.random.normal(key, (dimension, number), dtype or jnp.result_type(float))
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


def exact_wasserstein(a: Array | np.ndarray, b: Array | np.ndarray, p: int = 2) -> float:
    r"""$W_p^p$ between two samples `[n D]` of equal size by an optimal assignment: $O(n^3)$, for $n$ up to ~2000.

    Raises `ConfigurationError` for samples of unequal shape.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ConfigurationError(f"The samples have shapes {a.shape} and {b.shape}; exact matching needs equal ones.")
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1) ** p
    return float(cost[linear_sum_assignment(cost)].mean())
