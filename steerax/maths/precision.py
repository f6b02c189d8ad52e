"""Arrays of real numbers in one precision."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import DataError


def in_one_precision(*values: Any, names: Sequence[str] = ()) -> list[Float[Array, "..."]]:
    """Floating arrays of the widest precision among the values; integers take JAX's default one.

    **Arguments:** `names`, one for each value, for the sentence of an error. **Raises:** `DataError` for complex numbers and whatever else
    is no array of real numbers.
    """
    arrays = [_real(value, names[i] if names else "") for i, value in enumerate(values)]
    dtype = jnp.result_type(*arrays)
    return [a.astype(dtype) for a in arrays]


def _real(value: Any, name: str) -> Array:
    said = f"`{name}` needs to be an array of real numbers" if name else "An array of real numbers is needed"
    if any(isinstance(leaf, str | bytes) for leaf in jax.tree.leaves(value)):  # which JAX takes for the name of a type
        raise DataError(f"{said}; got {value!r}.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{said}; got {_named(value)}.") from None
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if not (jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool):
        raise DataError(f"{said}; got {_named(array)}.")
    return array.astype(jnp.result_type(float))


def _named(value: Any) -> str:
    """What a value is, in a few words."""
    dtype = getattr(value, "dtype", None)
    return f"a {type(value).__name__}" if dtype is None else f"one of {dtype}"
