"""Arrays of real numbers in one precision."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def in_one_precision(*values: Any) -> list[Float[Array, "..."]]:
    """Floating arrays of the widest precision among the values; integers take JAX's default one."""
    arrays = [jnp.asarray(value) for value in values]
    arrays = [a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.result_type(float)) for a in arrays]
    dtype = jnp.result_type(*arrays)
    return [a.astype(dtype) for a in arrays]
