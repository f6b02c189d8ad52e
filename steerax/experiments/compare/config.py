"""The options of `steerax compare`: what the command line says of each, its default, and the reason for it."""

import dataclasses
import pathlib
import re
from typing import Annotated, NamedTuple

from ..._bounds import COUNT, SEED, SHARE, Range, check_fields
from ..._errors import ConfigurationError
from ...data.read import Format

REFERENCES = {
    "support": "uniform over the tokens that can come next under the process",
    "uniform": "uniform over all tokens",
    "hmm": "drawn from the hidden Markov model",
}
_OWN = "--process"  # the source of data that are drawn from the process of that option
_TRAINED = ("layers", "heads", "width", "steps")
_KEY_USES = ("held out", "counts", "baum-welch", "gpt", "entropy", "beliefs")


class _Network(NamedTuple):
    """The size of a GPT, its training steps, and the tokens of a window."""

    layers: int
    heads: int
    width: int
    steps: int
    length: int


# two-cycle as in the paper; one layer where one attention layer is what is looked at; a small language model for data
_NETWORKS = {
    "two-cycle": _Network(1, 1, 8, 4000, 64),
    "casino": _Network(1, 1, 16, 3000, 32),
    "mess3": _Network(1, 1, 16, 2500, 32),
    # slow to learn
    **dict.fromkeys(("rrxor", "leaky-rrxor", "tom-quantum"), _Network(2, 2, 32, 6000, 16)),
}
_NETWORK_FOR_A_PROCESS = _Network(2, 2, 32, 2500, 32)
_NETWORK_FOR_DATA = _Network(2, 4, 64, 2000, 64)


@dataclasses.dataclass(frozen=True)
class Config(Format):
    """What is compared, on which data, and how long training may take. `None` means: what suits the source.

    **Raises:** `ConfigurationError` for a value that cannot work.
    """

    source: Annotated[str | None, "a process (mess3, two-cycle, rrxor, …), pydoc, or a file  [default: mess3]"] = None
    _: dataclasses.KW_ONLY
    process: Annotated[
        str | None, "own process: a model folder, or a JSON file of matrices (with a data file: the model behind it)"
    ] = None
    network: Annotated[str | None, "own network: a checkpoint to compare instead of training one"] = None
    out: Annotated[str | None, "folder to write to  [default: compare/SOURCE]"] = None
    states: Annotated[int | None, "hidden states to learn, 16 for data; a named process keeps its own model", COUNT] = (
        None
    )
    # Baum-Welch finds local optima; three starts rarely agree on a bad one
    restarts: Annotated[int, "random starts of Baum-Welch", COUNT] = 3
    iterations: Annotated[
        int, "largest number of Baum-Welch steps per start; it stops when it no longer gains", COUNT
    ] = 200
    # four to ten cycles of the default process
    length: Annotated[int | None, "tokens in a window, and the block size of the GPT", Range(2, 10**9, whole=True)] = (
        None
    )
    layers: Annotated[int | None, "layers of the GPT", COUNT] = None
    heads: Annotated[int | None, "heads of the GPT", COUNT] = None
    width: Annotated[int | None, "embedding dimension of the GPT", COUNT] = None
    steps: Annotated[int | None, "training steps of the GPT", COUNT] = None
    batch: Annotated[int, "windows in a training step", COUNT] = 64
    held_out: Annotated[float, "share of the data kept for the comparison", SHARE] = 0.1
    reference: Annotated[
        str | None, "continuations for contributions: support, uniform or hmm  [default: by source]"
    ] = None
    samples: Annotated[
        int, "sampled continuations per step, from which come standard errors", Range(8, 10**9, whole=True)
    ] = 256
    seed: Annotated[int, "seed of everything random", SEED] = 0
    quick: Annotated[bool, "a fifth of the training steps"] = False

    def __post_init__(self):
        check_fields(self)
        if self.reference is not None and self.reference not in REFERENCES:
            raise ConfigurationError(f"--reference must be one of {', '.join(REFERENCES)}, not {self.reference!r}.")
        if self.seed < 0:
            raise ConfigurationError(f"--seed must not be negative, not {self.seed}.")
        if self.process is not None and self.source is not None and self.is_process:
            raise ConfigurationError(f"{self.source} is a process and --process names another; leave out one of them.")
        if self.source is None:
            object.__setattr__(self, "source", "mess3" if self.process is None else _OWN)
        if self.network is not None and (given := [n for n in _TRAINED if getattr(self, n) is not None]):
            raise ConfigurationError(f"--network brings its own sizes; leave out --{given[0]}.")

    @property
    def is_process(self) -> bool:
        """Whether the data are drawn from a process: a named one, or one of a file where no data are named."""
        from ...models.catalogue import is_named  # the command line is read before JAX is imported

        return self.source == _OWN or is_named(str(self.source))

    @property
    def name(self) -> str:
        """What the comparison is called: the name of a process with its parameters, or that of a file."""
        path = self.process if self.source == _OWN else self.source
        return str(path) if self.is_process and self.source != _OWN else pathlib.Path(str(path)).stem

    @property
    def folder(self) -> pathlib.Path:
        """Where everything is written."""
        usual = pathlib.Path("compare") / re.sub(r"[^\w.-]+", "-", self.name).strip("-")
        return pathlib.Path(self.out) if self.out else usual

    def key(self, use: str):
        """The random key for one use of the seed."""
        import jax

        return jax.random.fold_in(jax.random.key(self.seed), _KEY_USES.index(use))

    @property
    def shape(self) -> _Network:
        """Layers, heads, width, steps and length: the options, and what suits the source for the others."""
        usual = _NETWORK_FOR_A_PROCESS if self.is_process else _NETWORK_FOR_DATA
        sizes = _NETWORKS.get(str(self.source).partition("(")[0].strip(), usual) if self.is_process else usual
        if self.quick:
            sizes = sizes._replace(steps=sizes.steps // 5)
        return _Network(*(getattr(self, name) or value for name, value in sizes._asdict().items()))
