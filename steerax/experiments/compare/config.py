"""The options of `steerax compare`: what the command line says of each, its default, and the reason for it."""

import dataclasses
import pathlib
from typing import Annotated, NamedTuple

from ..._bounds import COUNT, SEED, SHARE, Range, check_fields
from ..._errors import ConfigurationError
from ...data.read import Format

PROCESSES = ("two-cycle", "casino", "mess3")
REFERENCES = {
    "support": "uniform over the tokens that can come next under the process",
    "uniform": "uniform over all tokens",
    "hmm": "drawn from the hidden Markov model",
}
_KEY_USES = ("held out", "counts", "baum-welch", "gpt", "entropy")


class _Network(NamedTuple):
    """The size of a GPT and its training steps."""

    layers: int
    heads: int
    width: int
    steps: int


# one head of width 8 for the binary process, as in the paper; a small language model for data
_NETWORKS = {
    "two-cycle": _Network(1, 1, 8, 4000),
    "casino": _Network(1, 1, 16, 3000),
    "mess3": _Network(2, 2, 32, 2500),
}
_NETWORK_FOR_DATA = _Network(2, 4, 64, 2000)


@dataclasses.dataclass(frozen=True)
class Config(Format):
    """What is compared, on which data, and how long training may take. `None` means: what suits the source.

    **Raises:** `ConfigurationError` for a value that cannot work.
    """

    source: Annotated[str, "two-cycle, casino, mess3, pydoc, or a file"] = "two-cycle"
    _: dataclasses.KW_ONLY
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
    length: Annotated[int, "tokens in a window, and the block size of the GPT", Range(2, 10**9, whole=True)] = 64
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

    @property
    def is_process(self) -> bool:
        """True for a named process, False for data."""
        return self.source in PROCESSES

    @property
    def folder(self) -> pathlib.Path:
        """Where everything is written."""
        return pathlib.Path(self.out) if self.out else pathlib.Path("compare") / pathlib.Path(self.source).stem

    def key(self, use: str):
        """The random key for one use of the seed."""
        import jax

        return jax.random.fold_in(jax.random.key(self.seed), _KEY_USES.index(use))

    @property
    def network(self) -> _Network:
        """Layers, heads, width and steps of the GPT: the options, and what suits the source for the others."""
        sizes = _NETWORKS.get(self.source, _NETWORK_FOR_DATA)
        if self.quick:
            sizes = sizes._replace(steps=sizes.steps // 5)
        return _Network(*(getattr(self, name) or value for name, value in sizes._asdict().items()))
