"""The options of `steerax compare`, with a reason beside each default."""

import dataclasses
import pathlib
from typing import NamedTuple

from ..._errors import ConfigurationError

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
class Config:
    """What is compared, on which data, and how long training may take. `None` means: what suits the source.

    **Raises:** `ConfigurationError` for a value that cannot work.
    """

    source: str = "two-cycle"
    out: str | None = None  # compare/SOURCE
    tokens: str = "token"  # column of a table
    sequence: str | None = None  # column that names the sequence of a row
    words: bool = False  # a text file as whitespace-separated tokens, one sequence per line
    states: int | None = None  # None: the true model of a named process, 16 states for data
    restarts: int = 3  # Baum-Welch finds local optima; three starts rarely agree on a bad one
    iterations: int = 200  # Baum-Welch steps per start at most; it stops earlier once it no longer gains
    length: int = 64  # window, and block size of the GPT: four to ten cycles of the default process
    layers: int | None = None
    heads: int | None = None
    width: int | None = None
    steps: int | None = None
    batch: int = 64
    held_out: float = 0.1  # share of the data kept for the comparison
    reference: str | None = None  # distribution of the continuations that contributions are averaged over
    samples: int = 256  # continuations per step; standard errors are shown
    seed: int = 0
    quick: bool = False  # a fifth of the training steps

    def __post_init__(self):
        counts = ("restarts", "iterations", "length", "layers", "heads", "width", "steps", "batch", "samples", "states")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"--{name} must be at least 1, not {value}.")
        if self.length < 2:
            raise ConfigurationError("--length must be at least 2, so that a window has a token to predict.")
        if self.samples < 8:
            raise ConfigurationError("--samples must be at least 8, so that there is a standard error.")
        if not 0 < self.held_out < 1:
            raise ConfigurationError(f"--held-out must lie between 0 and 1, not {self.held_out}.")
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
