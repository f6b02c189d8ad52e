"""Known inputs: the last columns of data, which an emission reads and no state emits."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import DataError
from ...data.sequences import Sequences


def with_inputs(data: Sequences, n_inputs: int) -> Sequences:
    """Data whose last columns are inputs, which do not count as observed. **Raises:** `DataError` where there is no other column,
    or an input is missing."""
    if n_inputs == 0:
        return data
    p = data.values.shape[-1] - n_inputs
    if p < 1:
        raise DataError(
            f"The data have {p + n_inputs} columns; {n_inputs} inputs stand behind at least one observed channel."
        )
    refuse_missing(data.values[..., p:], data.inside, data.columns[p:] if data.columns else None)
    return dataclasses.replace(data, n_inputs=n_inputs)


def refuse_missing(u: Any, inside: Any, names: tuple[str, ...] | None) -> Any:
    """The inputs `[*batch T q]` on the host. **Raises:** `DataError` for one that is missing where `inside` `[*batch T]` holds."""
    wrong = np.isnan(u) & inside[..., None]
    if wrong.any():
        *sequence, t, c = map(int, np.argwhere(wrong)[0])
        of = f" of sequence {sequence[0]}" if sequence else ""
        name = repr(names[c]) if names else f"{c}, column {c - u.shape[-1]},"
        raise DataError(f"The input {name} is missing at position {t}{of}; a known input is a number at every time.")
    return u


def refuse_missing_traced(z: Float[Array, "*batch w"], p: int) -> Float[Array, "*batch w"]:
    """Traced rows. **Raises:** at run time, where the inputs of something observed are missing."""
    wrong = jnp.isnan(z[..., p:]).any(-1) & ~jnp.isnan(z[..., :p]).all(-1)
    return eqx.error_if(z, wrong.any(), "A known input is missing; it is a number at every time.")
