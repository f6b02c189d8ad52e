"""Random keys: what a public verb takes, an integer seed or a typed key, and the host generator that belongs to one."""

import operator
from typing import Any

import jax
import numpy as np
from jaxtyping import Key

from .._bounds import SEED
from .._errors import ConfigurationError


def as_key(key: Any) -> Key[jax.Array, ""]:
    """The typed key of an integer seed, or the typed key itself. **Raises:** `ConfigurationError` for anything else."""
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return key
    try:
        seed = operator.index(key)
    except TypeError:
        raise ConfigurationError(f"{key!r} is not a random key; pass a seed or jax.random.key(seed).") from None
    SEED.check("The seed", seed)
    return jax.random.key(seed)


def generator(key: Any) -> np.random.Generator:
    """The NumPy generator on the host whose stream is determined by the key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))).ravel().tolist())
