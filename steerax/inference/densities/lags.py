"""The observations before each one, for emissions that read them, and the gaps that these cannot have."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import DataError
from ..._results import is_traced
from ...models.emissions.base import AbstractEmission

_NO_GAPS = "An emission that reads the observations before it cannot read a gap"
_INSTEAD = "fill the gap, or cut the sequence in two there"


def windows(z: Any, lags: int) -> Any:
    """Each of some observations `[T *batch p]`, on the host or not, followed by those `1 … lags` steps before it, NaN before the
    start: `[T *batch p(lags+1)]`."""
    if lags == 0:
        return z
    here = np if isinstance(z, np.ndarray) else jnp
    padded = here.concatenate([here.full_like(z[:1], np.nan)] * lags + [z])
    return here.concatenate([padded[lags - lag : len(padded) - lag] for lag in range(lags + 1)], axis=-1)


def given_of(z: Float[Array, "T *batch w"], emission: AbstractEmission) -> Float[Array, "T1 *batch k"] | None:
    """What the observations $0\\dots T$ read: those before, NaN before the start, or inputs, NaN at $T$; `None` if they read nothing."""
    if emission.reads is None:
        return None
    return windows(jnp.concatenate([z, jnp.full_like(z[:1], jnp.nan)]), emission.lags)[..., emission.n_channels :]


def refuse_gaps(z: Float[Array | np.ndarray, "T *batch p"]) -> Any:
    """The observations. **Raises:** `DataError` unless each is missing or complete, and the complete ones follow each other."""
    here = jnp if is_traced(z) else np
    complete, missing = (~here.isnan(z)).all(-1), here.isnan(z).all(-1)
    since = here.cumsum(complete, axis=0)
    between = (since > 0) & (since < since[-1:])
    wrong = ~complete & (between | ~missing)
    if is_traced(z):
        return eqx.error_if(z, wrong.any(), f"{_NO_GAPS}; {_INSTEAD}.")
    if wrong.any():
        t, *sequence = map(int, np.argwhere(wrong)[0])
        of = f" of sequence {sequence[0]}" if sequence else ""
        raise DataError(f"{_NO_GAPS}, as the one at position {t}{of}; {_INSTEAD}.")
    return z


def refuse_gaps_after(z: Float[Array | np.ndarray, "*batch p"], recent: Float[Array, "*batch k"]) -> Any:
    """The observations of streams. **Raises:** `DataError` if one is missing in part, or comes after those of `recent`, newest
    first, and is missing."""
    p = z.shape[-1]
    begun = ~jnp.isnan(recent[..., :p]).any(-1)
    wrong = jnp.isnan(z).any(-1) & (begun | ~jnp.isnan(z).all(-1))
    said = f"{_NO_GAPS}; give every observation of a stream once it has begun."
    if is_traced(wrong):
        return eqx.error_if(z, wrong.any(), said)
    if bool(wrong.any()):
        raise DataError(said)
    return z


def last_pasts(
    given: Float[Array, "T1 *batch k"] | None, lengths: np.ndarray | None
) -> Float[Array, "*batch k"] | None:
    """What the observation after each sequence's own end reads. **Raises:** `DataError` where some of it is missing."""
    if given is None:
        return None
    last = given[-1] if lengths is None else given[jnp.asarray(lengths), jnp.arange(len(lengths))]
    if not is_traced(last) and np.isnan(np.asarray(last)).any():
        raise DataError("A forecast reads the last observations of every sequence, as many as lags; some are missing.")
    return last
