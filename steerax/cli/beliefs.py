"""`steerax beliefs`: what a network knows of the process it was trained on."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from .._bounds import POSITIVE, Range
from .._errors import ConfigurationError, DataError
from ..runs.json import plain
from .answers import Answer
from .inputs import read_codes
from .options import Heads, Options, Overwrite, Seed, command

_CAPTURED = (".npz", ".safetensors")


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    network: Annotated[Path, "a checkpoint, or captured activations in a .npz or .safetensors file (name → [B T D])"]
    process: Annotated[str, "a process by name (mess3, rrxor, …), a model folder, or a JSON file of matrices"]
    _: dataclasses.KW_ONLY
    data: Annotated[Path | None, "the strings [B T] of captured activations, as codes in a .npy file"] = None
    strings: Annotated[int | None, "strings to read, drawn from the process  [default: 2048, fewer for a large network]", Range(32, 10**7, whole=True)] = None  # fmt: skip
    length: Annotated[int | None, "tokens of a string  [default: what the network reads, at most 64]", Range(2, 10**6, whole=True)] = None  # fmt: skip
    extract: Annotated[float | None, "also look for the smallest machine within so many nats of the network", POSITIVE] = None  # fmt: skip
    out: Annotated[Path, "report to write"] = Path("beliefs.html")
    heads: Heads = None
    overwrite: Overwrite = False
    seed: Seed = 0


@command
def beliefs(options: _Options) -> Answer:
    """Probe a network for the exact belief beside its nulls, test whether it uses it, and compare its attention with theory.

    Example: `steerax beliefs compare/mess3/gpt mess3`.
    """
    from ..beliefs.knowledge import knowledge_of
    from ..beliefs.page import write_html
    from ..models.catalogue import is_named, named_process
    from ..models.matrices import read_process
    from ..runs.files import free_place, try_place

    try_place(free_place(options.out, options.overwrite))
    named = is_named(options.process)
    process = named_process(options.process) if named else read_process(options.process)
    network, strings = _captured(options) if options.network.suffix in _CAPTURED else _drawn(options, process)
    known = knowledge_of(network, process, strings, options.seed)
    found: dict[str, Any] = {"beliefs": known.numbers}
    lines = [text for text in (known.sentence, known.prediction) if text]
    if known.probed is not None:
        lines += ["", known.probed.summary()]
    if known.attention is not None:
        lines += ["", known.attention.summary()]
    if known.swapped is not None:
        lines += ["", known.swapped.summary()]
    if options.extract is not None:
        lines += ["", _machine(options, network, strings, found)]
    name = options.process if named else Path(options.process).stem
    facts = [
        ("Network", options.network),
        ("Strings", f"{len(strings):,} of {strings.shape[1]} tokens"),
        ("Seed", options.seed),
    ]
    write_html(known, options.out, name, facts, overwrite=True)
    return Answer(plain(found) | {"report": str(options.out)}, "\n".join([*lines, f"Report: {options.out}"]))


def _drawn(options: _Options, process: Any) -> tuple[Any, np.ndarray]:
    """The network of a checkpoint, and fresh strings of the process. Raises `ConfigurationError` if they do not fit together."""
    from ..beliefs.knowledge import strings_for
    from ..models.sampling import sample_sequences
    from ..transformer.checkpoint import open_checkpoint

    if options.data is not None:
        raise ConfigurationError(
            "--data holds the strings of captured activations; a checkpoint reads strings of the process."
        )
    gpt = open_checkpoint(options.network, options.heads).gpt
    if gpt.config.vocab_size != process.n_tokens:
        raise ConfigurationError(f"The network has {gpt.config.vocab_size} tokens and the process {process.n_tokens}.")
    length = options.length or min(gpt.config.block_size, 64)
    if length > gpt.config.block_size:
        raise ConfigurationError(
            f"The network reads {gpt.config.block_size} tokens; choose --length {gpt.config.block_size}."
        )
    number = options.strings or strings_for(gpt, length)
    return gpt, np.asarray(sample_sequences(process, options.seed, number, length).values)


def _captured(options: _Options) -> tuple[Path, np.ndarray]:
    """The file of activations, and the strings that they belong to. Raises `ConfigurationError` or `DataError`."""
    if options.data is None:
        raise ConfigurationError("Captured activations need --data, the strings [B T] that the network read.")
    codes, _ = read_codes(options.data, lambda text: None)
    if codes.ndim != 2:
        raise DataError(f"{options.data} holds an array of shape {codes.shape}; the strings are [B T].")
    return options.network, codes


def _machine(options: _Options, network: Any, strings: np.ndarray, found: dict[str, Any]) -> str:
    """The extraction in lines of text; its numbers go into `found`."""
    from ..beliefs.extraction import extract

    if isinstance(network, Path):
        raise ConfigurationError("--extract needs a network that predicts, not captured activations.")
    assert options.extract is not None
    machine = extract(network, strings[:800], options.extract, key=options.seed)
    found["machine"] = {
        "states": machine.best.n_states, "excess": machine.excess, "within": machine.reached,
        "candidates": [{"states": c.n_states, "excess": c.excess, "error": c.error} for c in machine.candidates],
    }  # fmt: skip
    return machine.summary()
