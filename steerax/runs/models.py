"""Save and load every kind of model: a folder with `model.json` and `arrays.safetensors`.

A class joins in three lines: an entry in `_KINDS`; `to_config(self) -> dict` (JSON values); and a class method
`from_config(config, arrays) -> model`. The arrays are the leaves of the model as a pytree, named by their path
(`blocks.mlp.up.weight`); `fill` puts them back into a template of the same structure.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import CheckpointError
from . import files

_FORMAT, _VERSION = "steerax-model", 1

# kind -> "module:Class"; a class is imported when a model of its kind is saved or loaded
_KINDS: dict[str, str] = {
    "dual_filter_network": "steerax.inference.hmm.network:DualFilterNetwork",
    "generalised_hmm": "steerax.models.generalised:GeneralisedHMM",
    "gpt": "steerax.transformer.gpt:GPT",
    "hidden_markov_model": "steerax.models.hmm:HiddenMarkovModel",
    "lagged_hmm": "steerax.models.lagged:LaggedHMM",
    "remembering_stream": "steerax.inference.stream:RememberingStream",
    "series_stream": "steerax.inference.stream:SeriesStream",
    "token_stream": "steerax.inference.stream:TokenStream",
    "linear_gaussian_model": "steerax.models.linear_gaussian:LinearGaussianModel",
    "time_varying_linear_gaussian_model": "steerax.models.linear_gaussian:TimeVaryingLinearGaussianModel",
}


def kind_of(model: Any) -> str:
    """The kind under which a model is registered. **Raises:** `CheckpointError` for any other object."""
    home = f"{type(model).__module__}:{type(model).__qualname__}"
    if kind := next((kind for kind, place in _KINDS.items() if place == home), None):
        return kind
    raise CheckpointError(f"A {type(model).__qualname__} cannot be saved; known kinds are {', '.join(_KINDS)}.")


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their path: attributes and indices joined with dots."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def fill(template: Any, arrays: Mapping[str, np.ndarray], where: str = "the checkpoint") -> Any:
    """The template with its leaves replaced by the arrays of the same names.

    Names and shapes must agree exactly; the dtype is the array's own. The template may hold `jax.ShapeDtypeStruct`.

    **Raises:** `CheckpointError` naming the first array that is missing, left over or of another shape.
    """
    wanted = named_leaves(template)
    for name, leaf in wanted.items():
        if name not in arrays:
            raise CheckpointError(f"Array {name!r} is missing from {where}; it was written for another configuration.")
        if tuple(arrays[name].shape) != tuple(leaf.shape):
            raise CheckpointError(f"Array {name!r} in {where} has shape {arrays[name].shape} where {leaf.shape} fits.")
    if extra := sorted(set(arrays) - set(wanted)):
        raise CheckpointError(f"Array {extra[0]!r} in {where} has no place in the configuration it comes with.")
    return jax.tree.unflatten(jax.tree.structure(template), [jnp.asarray(arrays[name]) for name in wanted])


def save(
    model: Any, folder: str | os.PathLike, vocabulary: Any = None, *, overwrite: bool = False, format: Any = None,
    inputs: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a model to a folder, whole or not at all.

    **Arguments:** `model`, of a registered kind; `folder`; `vocabulary`, a `Vocabulary` (kept as the list of its symbols) or
    another JSON value, kept beside the model; `overwrite`, whether a model in the folder is replaced; `format`, how the file it
    was fitted to is read (JSON values), which the commands do again; `inputs`, the weights on the channels of each known input by
    its name, of a linear model that belongs to the data less their effect.

    **Raises:** `CheckpointError` for what cannot be saved, or a folder that holds something else; `ConfigurationError` if it
    holds a model and `overwrite` is false.
    """
    folder = Path(folder)
    kind = kind_of(model)
    check_place(folder, overwrite)
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": kind,
        "config": model.to_config(),
        "vocabulary": list(vocabulary.symbols) if hasattr(vocabulary, "symbols") else vocabulary,
    }
    record |= ({"format_of_data": format} if format else {}) | ({"inputs": dict(inputs)} if inputs else {})
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(model).items()}

    def fill_folder(beside: Path) -> None:
        files.write_arrays(beside / "arrays.safetensors", arrays)
        files.write_whole(beside / "model.json", json.dumps(record, indent=1))

    files.write_folder(folder, fill_folder)


def check_place(folder: str | os.PathLike, overwrite: bool = False) -> None:
    """See whether a model may be written there. **Raises:** as `save`."""
    folder = Path(folder)
    files.recover(folder)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "model.json").exists())):
        raise CheckpointError(f"{folder} exists and is not a model folder; choose another place.")
    files.free_place(folder, overwrite)


def load(folder: str | os.PathLike) -> Any:
    """Read a model that `save` wrote, of whatever kind. **Raises:** `CheckpointError`."""
    return load_with_vocabulary(folder)[0]


def load_with_vocabulary(folder: str | os.PathLike) -> tuple[Any, Any]:
    """A model that `save` wrote, and the JSON value of the vocabulary beside it. **Raises:** `CheckpointError`."""
    files.recover(folder)
    record = _read_record(Path(folder) / "model.json")
    arrays = files.read_arrays(Path(folder) / "arrays.safetensors")
    module, name = _KINDS[record["kind"]].split(":")
    cls: Any = getattr(importlib.import_module(module), name)
    try:
        return cls.from_config(record["config"], arrays), record.get("vocabulary")
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder} does not fit a {record['kind']!r} of this version: {error}.") from None


def read_record(folder: str | os.PathLike) -> dict[str, Any]:
    """What a model folder says beside its arrays. **Raises:** `CheckpointError`."""
    return _read_record(Path(folder) / "model.json")


def _read_record(path: Path) -> dict[str, Any]:
    """The checked content of a `model.json`: format, version, kind, config, vocabulary."""
    if not path.exists():
        raise CheckpointError(f"{path.parent} holds no model: there is no model.json in it.")
    record = files.read_json(path)
    if record.get("format") != _FORMAT:
        raise CheckpointError(f"{path} has format {record.get('format')!r} where {_FORMAT!r} is expected.")
    version, kind = record.get("version"), record.get("kind")
    if not isinstance(version, int) or version > _VERSION:
        raise CheckpointError(f"{path} has version {version}, newer than {_VERSION}; upgrade steerax to read it.")
    if not isinstance(kind, str) or not isinstance(record.get("config"), dict):
        raise CheckpointError(f"{path} lacks the kind or the configuration of its model.")
    if kind not in _KINDS:
        raise CheckpointError(f"Models of kind {kind!r} are not known here; known kinds are {', '.join(_KINDS)}.")
    return record
