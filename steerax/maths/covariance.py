"""Square roots of covariance matrices, singular ones included."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def square_root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""The symmetric square root $B$ of a covariance, $S=BB^\top=B^\top B$; a singular $S$ is allowed.

    Eigenvalues that rounding made negative count as zero.
    """
    w, V = jnp.linalg.eigh(S)
    return (V * jnp.sqrt(jnp.maximum(w, 0.0))[None]) @ V.T


def symmetric(S: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    r"""The symmetric part $(S+S^\top)/2$."""
    return (S + jnp.swapaxes(S, -1, -2)) / 2


def pseudo_inverse(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The pseudo-inverse of a covariance, with its rank judged after scaling it to unit variances.

    Directions whose share of the variance is below $4n$ units of rounding count as having none.
    """
    scale = jnp.sqrt(jnp.diag(S))
    inverse_scale = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1.0), 0.0)
    unit = inverse_scale[:, None] * inverse_scale[None, :]
    w, V = jnp.linalg.eigh(S * unit)
    present = w > 4 * len(S) * jnp.finfo(S.dtype).eps * jnp.max(w)
    inverse = jnp.where(present, 1 / jnp.where(present, w, 1.0), 0.0)
    return ((V * inverse[None]) @ V.T) * unit
