"""Square roots of covariance matrices, singular ones included."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def square_root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The symmetric square root `B` of a covariance, `S = B Bᵀ = Bᵀ B`; a singular `S` is allowed.

    Eigenvalues that rounding made negative count as zero.
    """
    w, V = jnp.linalg.eigh(S)
    return (V * jnp.sqrt(jnp.maximum(w, 0.0))[None]) @ V.T


def symmetric(S: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """The symmetric part `(S + Sᵀ)/2`."""
    return (S + jnp.swapaxes(S, -1, -2)) / 2
