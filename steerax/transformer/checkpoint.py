r"""Read a GPT from the files people have: ours, Hugging Face GPT-2 folders, nanoGPT state dictionaries.

Everything is read as safetensors; a `.pt` file goes through `torch.load(weights_only=True)` where torch happens to be
installed. Nothing is ever unpickled. The two foreign layouts differ in how a linear map is stored: Hugging Face keeps
$W$ `[in out]` (`Conv1D`), nanoGPT $W^\top$ `[out in]`; both call the tensors `transformer.h.0.attn.c_attn.weight`.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._bounds import COUNT, bounded
from .._errors import CheckpointError, ConfigurationError
from ..runs import files, models
from .gpt import GPT, GPTConfig
from .tokenizer import Tokenizer, tokenizer_of

# our name, or its part before `.weight` and `.bias` -> the name both foreign layouts use
_NAMES = {
    "token_embedding": "wte.weight",
    "position_embedding": "wpe.weight",
    "unembedding": "lm_head.weight",
    "ln_final": "ln_f",
    "blocks.ln_attention": "h.{}.ln_1",
    "blocks.qkv": "h.{}.attn.c_attn",
    "blocks.out": "h.{}.attn.c_proj",
    "blocks.ln_mlp": "h.{}.ln_2",
    "blocks.up": "h.{}.mlp.c_fc",
    "blocks.down": "h.{}.mlp.c_proj",
}
_IGNORED = (".attn.bias", ".attn.masked_bias")  # buffers that carry no parameters: causal masks
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
# what compilers and wrappers put in front of a tensor's name
_PREFIXES = re.compile(r"^((_orig_mod|module|model|transformer)\.)+")

_Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A GPT and what its files say about text.

    **Attributes:** `gpt`; `path`; `vocabulary`, as it was saved with the model.
    """

    gpt: GPT
    path: Path
    vocabulary: Any = None

    @functools.cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the folder (ours, or Hugging Face's `tokenizer.json`); `None` if the tokens are no text.

        **Raises:** `CheckpointError` for one that cannot be read, `ConfigurationError` if it needs a missing package.
        """
        beside = self.path / "tokenizer.json"
        return tokenizer_of(files.read_json(beside) if beside.exists() else self.vocabulary, str(self.path))


def open_checkpoint(
    path: str | os.PathLike, n_head: int | None = None, *, vocab_size: int | None = None, activation: str | None = None
) -> Checkpoint:
    """A GPT with its tokenizer, from the files and with the arguments of `load_gpt`."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}; check the path.")
    if path.is_dir() and (path / "model.json").exists():
        model, vocabulary = models.load_with_vocabulary(path)
        if not isinstance(model, GPT):
            raise CheckpointError(f"{path} holds a {type(model).__name__}, not a GPT; read it with steerax.load.")
        return Checkpoint(model, path, vocabulary)
    tensors, hints = _read_tensors(path)
    try:
        return Checkpoint(from_tensors(tensors, hints, n_head, vocab_size, activation), path)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


@bounded(n_head=COUNT, vocab_size=COUNT)
def load_gpt(
    path: str | os.PathLike, n_head: int | None = None, *, vocab_size: int | None = None, activation: str | None = None
) -> GPT:
    """A GPT from a file or a folder.

    Known layouts: a folder written by `steerax.save`; a Hugging Face GPT-2 folder (`config.json` and
    `model.safetensors`, or shards with their index); a `.safetensors` file with Hugging Face or nanoGPT names; a
    nanoGPT `.pt` checkpoint, if torch is installed, also inside a wrapper (`state_dict`, …) or with a prefix before the
    names. The float dtype of the file is kept, half precisions become float32.

    **Arguments:** `path`; `n_head`, where the file does not say it (a state dictionary does not); `vocab_size`, to
    cut off the padding rows of a vocabulary rounded up for speed; `activation`, "gelu" or "gelu_new", where the file does
    not say it and it is not that of its layout (exact for nanoGPT, tanh for Hugging Face).

    **Raises:** `CheckpointError` naming the tensor that is missing, left over or of the wrong shape.
    """
    return open_checkpoint(path, n_head, vocab_size=vocab_size, activation=activation).gpt


def save_gpt(gpt: GPT, path: str | os.PathLike, vocabulary: Any = None, *, overwrite: bool = False) -> None:
    """Write a GPT to a folder in this library's own layout; see `save`. **Raises:** `CheckpointError`, `ConfigurationError`."""
    models.save(gpt, path, vocabulary, overwrite=overwrite)


# keys under which training programs keep the dictionary of tensors
_WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "ema", "net", "params")


def _read_tensors(path: Path) -> tuple[_Tensors, dict[str, Any]]:
    """The tensors by name and what the files say about the architecture (Hugging Face's or nanoGPT's words)."""
    if path.is_dir():
        return _read_folder(path)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        config = path.with_name("config.json")
        hints, tensors = files.read_json(config) if config.exists() else {}, files.read_arrays(path)
        with safe_open(path, framework="numpy") as file:  # its metadata may hold integers, such as `n_head`
            told = file.metadata() or {}
        if any({"wte", "lm_head"} <= {part.split(".")[-2] for part in pair if "." in part} for pair in told.items()):
            hints = hints | {"tie_word_embeddings": True}  # safetensors kept one of two tensors and says which
        return tensors, hints | {name: int(value) for name, value in told.items() if value.isdecimal()}
    if path.suffix in (".pt", ".pth", ".bin"):
        return _read_torch(path)
    raise CheckpointError(f"{path} is no checkpoint; known are folders, .safetensors files and .pt files.")


def _read_folder(path: Path) -> tuple[_Tensors, dict[str, Any]]:
    """A Hugging Face folder: one `model.safetensors`, or shards listed in `model.safetensors.index.json`."""
    hints = files.read_json(path / "config.json")
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").exists():
        return files.read_arrays(path / "model.safetensors"), hints
    if not index.exists():
        raise CheckpointError(f"{path} holds neither model.safetensors nor an index of shards; convert it first.")
    weight_map = files.read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to shards.")
    tensors: _Tensors = {}
    for shard in sorted(set(weight_map.values())):
        # The index names files beside itself; anything else is not followed.
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} names the shard {shard!r}, which is not a file beside it.")
        tensors |= files.read_arrays(path / shard)
    if absent := sorted(set(weight_map) - set(tensors)):
        raise CheckpointError(f"Tensor {absent[0]!r} is listed in {index} and is in none of the shards.")
    return tensors, hints


def _read_torch(path: Path) -> tuple[_Tensors, dict[str, Any]]:
    """A torch checkpoint: nanoGPT's `{"model": …, "model_args": …}` or a bare state dictionary."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CheckpointError(
            f"{path} needs torch to be read; install it, or convert the file where torch is: "
            "safetensors.torch.save_file(checkpoint['model'], 'model.safetensors', {'n_head': '12'})."
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, all of them meaning the same to a user
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint that can be read without running code ({first}).") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
    hints = content.get("model_args", {}) if isinstance(content.get("model_args"), dict) else {}
    state: dict[str, Any] = content
    while inside := next((state[key] for key in _WRAPPERS if isinstance(state.get(key), dict)), None):
        state = inside
    tensors = {
        name: t.detach().to(torch.float32 if t.dtype in (torch.float16, torch.bfloat16) else t.dtype).numpy()
        for name, t in state.items()
        if isinstance(t, torch.Tensor)
    }
    return tensors, dict(hints)


def from_tensors(
    tensors: _Tensors,
    hints: Mapping[str, Any],
    n_head: int | None = None,
    vocab_size: int | None = None,
    activation: str | None = None,
) -> GPT:
    """A GPT from tensors in the Hugging Face or the nanoGPT layout; see `load_gpt`."""
    try:
        return _from_tensors(tensors, hints, n_head, vocab_size, activation)
    except _AbsentError as error:  # with the names as the file has them
        raise CheckpointError(f"{error} {_names_of(tensors)}") from None


class _AbsentError(CheckpointError):
    """A tensor that must be there is not."""


def _from_tensors(
    tensors: _Tensors, hints: Mapping[str, Any], n_head: int | None, vocab_size: int | None, activation: str | None
) -> GPT:
    if (kind := hints.get("model_type") or "gpt2") != "gpt2":
        raise CheckpointError(f"It is a network of type {kind!r}; steerax reads GPT-2 and nanoGPT.")
    tensors = _without_wrappers(tensors, hints)
    config = _config_of(tensors, hints, n_head, activation)
    L, V, D = config.n_layer, config.vocab_size, config.n_embd
    transposed = _is_nano(tensors, D)
    arrays, left = {}, set(tensors) - ({"lm_head.weight"} if config.tied else set())
    for ours, leaf in models.named_leaves(GPT.template(config)).items():
        stem, _, kind = ours.rpartition(".")
        theirs = _NAMES[ours] if ours in _NAMES else f"{_NAMES[stem]}.{kind}"
        stacked = ours.startswith("blocks.")
        shape, names = leaf.shape[stacked:], [theirs.format(layer) for layer in range(L)] if stacked else [theirs]
        flip = stacked and len(shape) == 2 and transposed
        found = [_tensor(tensors, name, shape[::-1] if flip else shape) for name in names]
        found = [np.asarray(t.T if flip else t, np.promote_types(t.dtype, np.float32)) for t in found]
        arrays[ours] = np.stack(found) if stacked else found[0]
        left -= set(names)
    if left:  # it would be silently ignored
        raise CheckpointError(f"Tensor {min(left)!r} has no place in a GPT-2 ({len(left)} tensors are left over).")
    if vocab_size is not None:
        if not 1 <= vocab_size <= V:
            raise ConfigurationError(f"vocab_size is {vocab_size}; it must be 1 to {V}, the rows of the checkpoint.")
        config = dataclasses.replace(config, vocab_size=vocab_size)
        for name in {"token_embedding", "unembedding"} & set(arrays):
            arrays[name] = arrays[name][:vocab_size]
    return models.fill(GPT.template(config), arrays)


def _without_wrappers(tensors: _Tensors, hints: Mapping[str, Any]) -> _Tensors:
    """The tensors by GPT-2's names: what stands before `wte.weight` in the names of a wrapper is cut off, buffers go, and where
    a file says that it kept one of two tied tensors, the unembedding, it is the embedding too."""
    ends = ("wte.weight", "wpe.weight")
    prefix = next((name.removesuffix(end) for end in ends for name in tensors if name.endswith(end)), "")
    cut = {
        _PREFIXES.sub("", name.removeprefix(prefix)): t for name, t in tensors.items() if not name.endswith(_IGNORED)
    }
    if len(cut) < sum(not name.endswith(_IGNORED) for name in tensors):
        raise CheckpointError(
            f"{_names_of(tensors)} Two of them have one name but for what stands before it; keep one copy."
        )
    head = (
        "lm_head.weight" if "lm_head.weight" in cut else next((n for n in cut if n.endswith(".lm_head.weight")), None)
    )
    if head is not None:
        cut["lm_head.weight"] = cut.pop(head)
        if "wte.weight" not in cut and hints.get("tie_word_embeddings", "model_type" in hints or "block_size" in hints):
            cut["wte.weight"] = cut["lm_head.weight"]
    return cut


def _names_of(tensors: _Tensors) -> str:
    """What is there, and what could be read."""
    shown = ", ".join(sorted(tensors)[:6]) + (", …" if len(tensors) > 6 else "")
    return (
        f"The file has {len(tensors)} tensors ({shown}); steerax reads those of GPT-2 or nanoGPT (wte.weight, wpe.weight, "
        "h.0.attn.c_attn.weight, …, ln_f.weight), also behind a prefix."
    )


def _is_nano(tensors: _Tensors, D: int) -> bool:
    """Whether the layout is nanoGPT's: Hugging Face stores W [D 3D], nanoGPT its transpose; the shape tells which."""
    return _tensor(tensors, _NAMES["blocks.qkv"].format(0) + ".weight", (D, 3 * D), (3 * D, D)).shape[1] == D


def _config_of(tensors: _Tensors, hints: Mapping[str, Any], n_head: int | None, activation: str | None) -> GPTConfig:
    """The configuration that the shapes of the tensors and the words of the files describe."""
    V, D = _tensor(tensors, "wte.weight").shape
    layers = sorted({int(n.split(".")[1]) for n in tensors if n.startswith("h.") and n.split(".")[1].isdecimal()})
    if not layers:
        raise _AbsentError("It has no layers.")
    if layers != list(range(len(layers))):
        raise CheckpointError(f"The layers {layers} must be numbered 0, 1, 2, … without a gap.")
    if hints.get("scale_attn_by_inverse_layer_idx") or hints.get("scale_attn_weights") is False:
        raise CheckpointError("It scales its attention in a way that GPT-2 does not; it cannot be read.")
    # where nothing is said, each layout's own: nanoGPT computes the exact GELU
    said = hints.get("activation_function", activation or ("gelu" if _is_nano(tensors, D) else "gelu_new"))
    if not isinstance(said, str) or said not in _ACTIVATIONS:
        raise CheckpointError(f"The activation {said!r} is none of {', '.join(_ACTIVATIONS)}.")
    if activation is not None and _ACTIVATIONS.get(activation) != _ACTIVATIONS[said]:
        raise CheckpointError(
            f"It says activation_function={said!r} and the argument activation is {activation!r}; drop it."
        )
    return GPTConfig(
        vocab_size=V,
        block_size=_tensor(tensors, "wpe.weight").shape[0],
        n_layer=len(layers),
        n_head=_head_count(n_head, hints.get("n_head"), D),
        n_embd=D,
        bias="ln_f.bias" in tensors,
        dropout=_real(hints, "dropout", 0.0),
        tied="lm_head.weight" not in tensors or np.array_equal(tensors["lm_head.weight"], tensors["wte.weight"]),
        activation=_ACTIVATIONS[said],
        epsilon=_real(hints, "layer_norm_epsilon", 1e-5),
    )


def _real(hints: Mapping[str, Any], name: str, default: float) -> float:
    """A number that the files may say. Raises `CheckpointError` if it is none."""
    try:
        return float(default if hints.get(name) is None else hints[name])
    except (TypeError, ValueError, OverflowError):
        raise CheckpointError(f"Its {name} is {hints[name]!r}, not a number.") from None


def _head_count(n_head: int | None, said: Any, D: int) -> int:
    """The number of heads: given, or said by the files; tensors alone do not tell it."""
    if n_head is not None and said is not None and n_head != said:
        raise CheckpointError(f"It says n_head={said} and the argument n_head is {n_head}; drop the argument.")
    n_head = said if n_head is None else n_head
    if n_head is None:
        raise CheckpointError("It does not say how many heads it has; pass n_head=….")
    if not isinstance(n_head, int) or n_head < 1 or D % n_head:
        raise CheckpointError(f"The width {D} is one that {n_head!r} heads cannot share.")
    return n_head


def _tensor(tensors: _Tensors, name: str, *shapes: tuple[int, ...]) -> np.ndarray:
    """A tensor that must be there, of one of the `shapes`; a non-empty matrix if none is given."""
    if name not in tensors:
        raise _AbsentError(f"Tensor {name!r} is missing.")
    tensor = tensors[name]
    if not (tensor.shape in shapes if shapes else tensor.ndim == 2 and tensor.size):
        fit = " or ".join(map(str, shapes)) or "a non-empty matrix"
        raise CheckpointError(f"Tensor {name!r} has shape {tensor.shape} where {fit} fits.")
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise CheckpointError(f"Tensor {name!r} holds {tensor.dtype}, not real numbers.")
    return tensor
