"""Read a GPT from the files people have: ours, Hugging Face GPT-2 folders, nanoGPT state dictionaries.

Everything is read as safetensors; a `.pt` file goes through `torch.load(weights_only=True)` where torch happens to be
installed. Nothing is ever unpickled. The two foreign layouts differ in how a linear map is stored: Hugging Face keeps
W [in out] (`Conv1D`), nanoGPT Wᵀ [out in]; both call the tensors `transformer.h.0.attn.c_attn.weight`.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import CheckpointError, ConfigurationError
from ..runs import files, models
from .gpt import GPT, GPTConfig

# our name in a block -> the name both foreign layouts use
NORMS = {"ln_attention": "ln_1", "ln_mlp": "ln_2"}
LINEARS = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
# buffers that carry no parameters: causal masks
IGNORED = (".attn.bias", ".attn.masked_bias")
PREFIXES = ("_orig_mod.", "module.", "model.", "transformer.")


def load_gpt(path: str | os.PathLike, n_head: int | None = None, *, vocab_size: int | None = None) -> GPT:
    """A GPT from a file or a folder.

    Known layouts: a folder written by `steerax.save`; a Hugging Face GPT-2 folder (`config.json` and
    `model.safetensors`, or shards with their index); a `.safetensors` file with Hugging Face or nanoGPT names; a
    nanoGPT `.pt` checkpoint, if torch is installed. The float dtype of the file is kept, half precisions become
    float32.

    **Arguments:** `path`; `n_head`, where the file does not say it (a state dictionary does not); `vocab_size`, to
    cut off the padding rows of a vocabulary rounded up for speed. Raises `CheckpointError` naming the tensor that is
    missing, left over or of the wrong shape.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}; check the path.")
    if path.is_dir() and (path / "model.json").exists():
        model = models.load(path)
        if not isinstance(model, GPT):
            raise CheckpointError(f"{path} holds a {type(model).__name__}, not a GPT; read it with steerax.load.")
        return model
    tensors, hints = read_tensors(path)
    return from_tensors(tensors, hints, n_head, vocab_size, str(path))


def save_gpt(gpt: GPT, path: str | os.PathLike, vocabulary: Any = None) -> None:
    """Write a GPT to a folder in this library's own layout. Raises `CheckpointError`."""
    models.save(gpt, path, vocabulary)


# ---- reading -----------------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors by name and what the files say about the architecture (Hugging Face's or nanoGPT's words)."""
    if path.is_dir():
        return read_folder(path)
    if path.suffix == ".safetensors":
        config = path.with_name("config.json")
        hints = files.read_json(config) if config.exists() else {}
        return files.read_arrays(path), {**hints, **read_metadata(path)}
    if path.suffix in (".pt", ".pth", ".bin"):
        return read_torch(path)
    raise CheckpointError(f"{path} is no checkpoint; known are folders, .safetensors files and .pt files.")


def read_folder(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(weight_map.values())):
        # The index names files beside itself; anything else is not followed.
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} names the shard {shard!r}, which is not a file beside it.")
        tensors |= files.read_arrays(path / shard)
    if absent := sorted(set(weight_map) - set(tensors)):
        raise CheckpointError(f"Tensor {absent[0]!r} is listed in {index} and is in none of the shards.")
    return tensors, hints


def read_metadata(path: Path) -> dict[str, Any]:
    """The integers in a safetensors file's metadata, such as `n_head`."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        found = file.metadata() or {}
    return {name: int(value) for name, value in found.items() if value.isdecimal()}


def read_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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
    state = content.get("model", content)
    hints = content.get("model_args", {}) if "model" in content else {}
    tensors = {
        name: t.detach().to(torch.float32 if t.dtype in (torch.float16, torch.bfloat16) else t.dtype).numpy()
        for name, t in state.items()
        if isinstance(t, torch.Tensor)
    }
    return tensors, dict(hints)


# ---- translating -------------------------------------------------------------------------------------------------


def from_tensors(
    tensors: Mapping[str, np.ndarray],
    hints: Mapping[str, Any],
    n_head: int | None = None,
    vocab_size: int | None = None,
    where: str = "the checkpoint",
) -> GPT:
    """A GPT from tensors in the Hugging Face or the nanoGPT layout; see `load_gpt`."""
    tensors = {bare(name): t for name, t in tensors.items() if not name.endswith(IGNORED)}
    take = Reader(tensors, where)
    V, D = take.shape("wte.weight")
    block_size, _ = take.shape("wpe.weight", (None, D))
    layers = sorted({int(n.split(".")[1]) for n in tensors if n.startswith("h.") and n.split(".")[1].isdecimal()})
    if not layers or layers != list(range(len(layers))):
        raise CheckpointError(f"{where} has layers {layers}; they must be numbered 0, 1, 2, … without a gap.")
    config = GPTConfig(
        vocab_size=V,
        block_size=block_size,
        n_layer=len(layers),
        n_head=head_count(n_head, hints, D, where),
        n_embd=D,
        bias="ln_f.bias" in tensors,
        dropout=float(hints.get("dropout", 0.0) or 0.0),
        tied="lm_head.weight" not in tensors or np.array_equal(tensors["lm_head.weight"], tensors["wte.weight"]),
        activation=activation(hints, where),
        epsilon=float(hints.get("layer_norm_epsilon", 1e-5)),
    )
    # Hugging Face stores W [D 3D], nanoGPT its transpose; the shape tells which.
    rows, columns = take.shape("h.0.attn.c_attn.weight")
    if (rows, columns) not in ((D, 3 * D), (3 * D, D)):
        raise CheckpointError(
            f"Tensor 'h.0.attn.c_attn.weight' in {where} has shape {(rows, columns)}, neither {(D, 3 * D)} nor its "
            "transpose."
        )
    arrays = {
        "token_embedding": take("wte.weight", (V, D)),
        "position_embedding": take("wpe.weight", (block_size, D)),
        **take.norm("ln_f", "ln_final", D, config.bias),
        **blocks(take, config, transposed=rows == 3 * D),
    }
    if not config.tied:
        arrays["unembedding"] = take("lm_head.weight", (V, D))
    take.nothing_left(also="lm_head.weight" if config.tied else None)
    if vocab_size is not None:
        if not 1 <= vocab_size <= V:
            raise ConfigurationError(f"vocab_size is {vocab_size}; {where} has {V} rows, so it must be 1 to {V}.")
        config = dataclasses.replace(config, vocab_size=vocab_size)
        for name in {"token_embedding", "unembedding"} & set(arrays):
            arrays[name] = arrays[name][:vocab_size]
    return models.fill(GPT.template(config), arrays, where)


def bare(name: str) -> str:
    """A tensor's name without the prefixes that compilers and wrappers put in front."""
    while match := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(match)
    return name


def head_count(n_head: int | None, hints: Mapping[str, Any], D: int, where: str) -> int:
    """The number of heads: given, or said by the files; tensors alone do not tell it."""
    said = hints.get("n_head")
    if n_head is not None and said is not None and n_head != said:
        raise CheckpointError(f"{where} says n_head={said} and the argument n_head is {n_head}; drop the argument.")
    n_head = said if n_head is None else n_head
    if n_head is None:
        raise CheckpointError(f"{where} does not say how many heads it has; pass n_head=….")
    if not isinstance(n_head, int) or n_head < 1 or D % n_head:
        raise CheckpointError(f"{where} has width {D}, which {n_head!r} heads cannot share.")
    return n_head


def activation(hints: Mapping[str, Any], where: str) -> str:
    """Our name of the MLP's activation; nanoGPT's exact GELU where nothing is said."""
    if hints.get("scale_attn_by_inverse_layer_idx") or hints.get("scale_attn_weights") is False:
        raise CheckpointError(f"{where} scales its attention in a way that GPT-2 does not; it cannot be read.")
    known = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
    said = hints.get("activation_function", "gelu_new" if "model_type" in hints else "gelu")
    if said not in known:
        raise CheckpointError(f"{where} has activation {said!r}; known are {', '.join(known)}.")
    return known[said]


class Reader:
    """Tensors taken by name with their shape checked, and a memory of what was taken."""

    def __init__(self, tensors: Mapping[str, np.ndarray], where: str):
        self.tensors, self.where, self.taken = tensors, where, set()

    def shape(self, name: str, expected: tuple[int | None, int] | None = None) -> tuple[int, int]:
        """The shape of a matrix that must be there."""
        if name not in self.tensors:
            raise CheckpointError(f"Tensor {name!r} is missing from {self.where}; it is no GPT-2 or is cut short.")
        shape = self.tensors[name].shape
        if (
            len(shape) != 2
            or 0 in shape
            or (expected and any(e not in (None, s) for e, s in zip(expected, shape, strict=True)))
        ):
            raise CheckpointError(f"Tensor {name!r} in {self.where} has shape {shape}; {expected or 'a matrix'} fits.")
        return shape[0], shape[1]

    def __call__(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.tensors:
            raise CheckpointError(f"Tensor {name!r} is missing from {self.where}; it is no GPT-2 or is cut short.")
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise CheckpointError(f"Tensor {name!r} in {self.where} has shape {tensor.shape} where {shape} fits.")
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise CheckpointError(f"Tensor {name!r} in {self.where} holds {tensor.dtype}, not real numbers.")
        self.taken.add(name)
        return tensor if tensor.dtype.itemsize >= 4 else tensor.astype(np.float32)

    def norm(self, name: str, ours: str, D: int, bias: bool) -> dict[str, np.ndarray]:
        """A LayerNorm by our names."""
        found = {f"{ours}.weight": self(f"{name}.weight", (D,))}
        return found | ({f"{ours}.bias": self(f"{name}.bias", (D,))} if bias else {})

    def nothing_left(self, also: str | None) -> None:
        """Raise for a tensor nobody asked for: it would be silently ignored."""
        if left := sorted(set(self.tensors) - self.taken - {also}):
            raise CheckpointError(f"Tensor {left[0]!r} in {self.where} has no place in a GPT-2.")


def blocks(take: Reader, config: GPTConfig, transposed: bool) -> dict[str, np.ndarray]:
    """The tensors of all blocks, stacked, by our names."""
    D = config.n_embd
    shapes = {"qkv": (D, 3 * D), "out": (D, D), "up": (D, 4 * D), "down": (4 * D, D)}

    def one(layer: int) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for ours, theirs in NORMS.items():
            found |= take.norm(f"h.{layer}.{theirs}", ours, D, config.bias)
        for ours, theirs in LINEARS.items():
            m, n = shapes[ours]
            weight = take(f"h.{layer}.{theirs}.weight", (n, m) if transposed else (m, n))
            found[f"{ours}.weight"] = weight.T if transposed else weight
            if config.bias:
                found[f"{ours}.bias"] = take(f"h.{layer}.{theirs}.bias", (n,))
        return found

    layers = [one(layer) for layer in range(config.n_layer)]
    return {f"blocks.{name}": np.stack([layer[name] for layer in layers]) for name in layers[0]}


# ---- parity ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far the model's logits are from reference logits.

    **Attributes:** `largest`, the largest absolute difference; `relative`, the same over the largest reference logit;
    `agree`, the share of positions whose most likely token is the same; `positions`.
    """

    largest: float
    relative: float
    agree: float
    positions: int

    def __str__(self) -> str:
        return (
            f"{self.positions} positions: largest difference {self.largest:.2e} ({self.relative:.2e} of the largest "
            f"logit), same most likely token at {self.agree:.2%}"
        )


def parity(gpt: GPT, tokens: np.ndarray, logits: np.ndarray) -> Parity:
    """Compare a loaded model with reference logits [B T V] (or more columns: a padded vocabulary) on tokens [B T].

    Raises `CheckpointError` if the shapes do not go together.
    """
    tokens, logits = np.asarray(tokens), np.asarray(logits)
    V = gpt.config.vocab_size
    if tokens.ndim != 2 or logits.shape[:2] != tokens.shape or logits.shape[-1] < V:
        raise CheckpointError(
            f"Tokens {tokens.shape} and reference logits {logits.shape} do not go together; [B T] and [B T {V}] do."
        )
    ours = np.asarray(jax.vmap(gpt)(jnp.asarray(tokens, jnp.int32)), np.float64)
    difference = float(np.abs(ours - logits[..., :V]).max())
    return Parity(
        largest=difference,
        relative=difference / max(float(np.abs(logits[..., :V]).max()), np.finfo(np.float64).tiny),
        agree=float((ours.argmax(-1) == logits[..., :V].argmax(-1)).mean()),
        positions=tokens.size,
    )
