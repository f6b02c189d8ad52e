"""A layer of the dual filter as a product of matrices."""

import jax
import jax.numpy as jnp
from jax import lax

from steerax.inference.hmm.kernels.layers import gains
from steerax.inference.hmm.kernels.likelihoods import emission_table, row_numbers


@jax.jit
def layer_by_associative_scan(rho, mu, A, C, z):
    """The layer as a product of `T` matrices: equal to it where the linear recursion stays in the simplex."""
    delta = 2 * gains(rho, C, z)
    keys = 1 - emission_table(C)[row_numbers(z)]
    steps = A[None] + keys[:, :, None] * (delta @ A)[:, None, :]
    products = lax.associative_scan(jnp.matmul, steps)
    return jnp.concatenate([mu[None], jnp.einsum("i,tij->tj", mu, products)])
