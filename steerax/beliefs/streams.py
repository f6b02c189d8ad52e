"""What a probe reads: the residual stream of a network of the house at every half-step, or numbers captured elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..data.chunks import chunks
from ..inference.results import DualFiltered

_AT_ONCE = 512  # strings


def is_network(activations: Any) -> bool:
    """Whether the residual stream can be asked for."""
    return hasattr(activations, "hidden_states")


def half_steps(n_states: int) -> list[str]:
    """Names of the states of a residual stream: the embedding, then attention and MLP of each layer."""
    if n_states == 1 or n_states % 2 == 0:
        return ["embedding", *(f"half-step {m}" for m in range(1, n_states))]
    several = n_states > 3
    names = ("attention", "MLP")
    return ["embedding", *(f"{name} {l + 1}" if several else name for l in range(n_states // 2) for name in names)]


def streams_of(activations: Any, tokens: Int[np.ndarray, "B T"]) -> dict[str, Float[np.ndarray, "B T D"]]:
    """Name → residual stream of every string and position.

    **Arguments:** `activations`: a network with `hidden_states` (all half-steps); a path to a `.npz` or `.safetensors` file, a
    mapping name → `[B T D]`, or an array `[layers B T D]`; or what `dual_filter(…, layers=…, keep=True)` returned (its layers).

    **Raises:** `DataError` for numbers that do not belong to these strings or are not finite; `ConfigurationError` for another object.
    """
    B, T = tokens.shape
    if is_network(activations):
        states = hidden_states(activations, tokens)
        return dict(zip(half_steps(len(states)), states, strict=True))
    if isinstance(activations, DualFiltered):
        if activations.history is None:
            raise ConfigurationError("The dual filter kept no layers; call it with layers=… and keep=True.")
        history = np.asarray(activations.history)
        history = history if history.ndim == 4 else history[:, None]
        activations = {f"layer {n}" if n else "start": layer[:, 1:] for n, layer in enumerate(history)}
    elif isinstance(activations, (str, os.PathLike)):
        activations = _read(Path(activations))
    elif not isinstance(activations, Mapping):
        array = np.asarray(activations)
        if array.ndim != 4:
            raise DataError(f"Activations are [layers B T D] or name → [B T D], but an array {array.shape} was given.")
        activations = dict(zip(half_steps(len(array)), array, strict=True))
    if not activations:
        raise DataError("There are no activations to read.")
    return {str(name): _checked(str(name), value, B, T) for name, value in activations.items()}


def hidden_states(network: Any, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "M B T D"]:
    """The residual stream after every half-step, for many strings."""
    parts = [np.asarray(_states(network, jnp.asarray(tokens[rows]))) for rows in chunks(len(tokens), _AT_ONCE)]
    return np.concatenate(parts).swapaxes(0, 1)


@eqx.filter_jit
def _states(network: Any, tokens: Int[Array, "B T"]) -> Float[Array, "B M T D"]:
    return jax.vmap(network.hidden_states)(tokens)


def untrained(network: Any, key: Any) -> Any:
    """A network of the same shape with the weights of its initialisation. **Raises:** `ConfigurationError` if it has none."""
    if not hasattr(network, "config"):
        raise ConfigurationError(f"A {type(network).__name__} has no configuration to draw an untrained twin from.")
    return type(network)(network.config, key=key)


def _checked(name: str, value: Any, B: int, T: int) -> Float[np.ndarray, "B T D"]:
    value = np.asarray(value)
    if value.ndim != 3 or value.shape[:2] != (B, T):
        raise DataError(f"The activations {name!r} have shape {value.shape}; [{B} {T} D] belongs to these strings.")
    if value.dtype.kind not in "fiu" or not np.isfinite(value.astype(np.float64)).all():
        raise DataError(f"The activations {name!r} hold a value that is not a finite real number.")
    return value


def _read(path: Path) -> dict[str, np.ndarray]:
    from ..runs.files import read_arrays

    if path.suffix == ".safetensors":
        return dict(read_arrays(path))
    if path.suffix != ".npz":
        raise DataError(f"{path} is neither a .npz nor a .safetensors file.")
    if not path.exists():
        raise DataError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a .npz file: {error}.") from None
