r"""Transformers in integers: registers of small codes, attention by integer tables, look-ups. NumPy only.

A sequence is an array of *registers*, each holding one small code per token. A network is a list of steps, and there
are three kinds: `Pool` (attention), `Local` (a look-up of two registers) and `Forget`. No step contains a
transcendental function or a float, so a network gives the same answer on every machine: the tables are the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from .._errors import ConfigurationError, DataError
from ..runs.json import plain

_FORMAT = 1


def _freeze(record: Any, **n_axes: int) -> None:
    """Make the named tables of a frozen record int64 and read-only. **Raises:** `ConfigurationError`."""
    for name, n in n_axes.items():
        table = np.array(getattr(record, name))
        if table.dtype.kind not in "iu" or table.ndim != n or table.size == 0:
            raise ConfigurationError(f"{type(record).__name__}.{name} must be a non-empty integer table of {n} axes.")
        table = table.astype(np.int64)
        table.setflags(write=False)
        object.__setattr__(record, name, table)


@dataclass(frozen=True, eq=False)
class Pool:
    r"""Attention: a new register with the rounded weighted mean of a value over the tokens.

    $$s_{ij}=\mathrm{score}[q_i,k_j],\qquad w_{ij}=E[\min(\max_ls_{il}-s_{ij},S)],\qquad
      z_i=\mathrm{round}\Big(\sum_jw_{ij}u[v_j]\Big/\sum_jw_{ij}\Big),$$
    stored as the code $z_i-\min u$. Hard attention is $E=[1,0]$, the mean $E=[1]$, softmax at temperature $T$ in $b$
    bits $E[k]=\mathrm{round}(2^be^{-k/T})$; `weights=None` takes the scores (≥ 0) themselves as weights: linear
    attention. A query whose weights are all zero gets $z=0$ (or the value nearest to it).

    **Arguments:** `query`, `key`, `value`, register numbers; `score [K_q K_k]`; `weights` $E$ `[S+1]` or None;
    `values` $u$ `[K_v]`; `causal`, whether $j\le i$; `rounding`, of halves: "up", or "odd" (away from zero).
    """

    query: int
    key: int
    value: int
    score: Int[np.ndarray, "..."]
    weights: Int[np.ndarray, "..."] | None
    values: Int[np.ndarray, "..."]
    causal: bool = False
    rounding: Literal["up", "odd"] = "up"

    def __post_init__(self):
        _freeze(self, score=2, values=1)
        if self.weights is not None:
            _freeze(self, weights=1)
        weights = self.score if self.weights is None else self.weights
        if weights.min() < 0:
            raise ConfigurationError("Attention weights are integers ≥ 0.")
        if self.weights is not None and self.weights[0] == 0:
            raise ConfigurationError("The first attention weight belongs to the best token and must not be 0.")
        # 2 Σ w u + Σ w must fit in 63 bits for the longest sequence anybody enumerates
        if (2 * int(np.abs(self.values).max()) + 1) * int(weights.max()) * 2**12 >= 2**63:
            raise ConfigurationError("Values times attention weights must stay below 2**50; use fewer bits.")

    def sizes(self, sizes: list[int]) -> list[int]:
        """The number of codes of each register after the step. **Raises:** `ConfigurationError` if a table is too small."""
        _covers(self.score.shape, (sizes[self.query], sizes[self.key]))
        _covers(self.values.shape, (sizes[self.value],))
        return [*sizes, int(self.values.max() - self.values.min()) + 1]

    def attention(self, registers: list[Int[np.ndarray, "N n"]]) -> Int[np.ndarray, "N n n"]:
        """$w_{ij}$, the integer weights before they are divided by their sums."""
        s = self.score[registers[self.query][:, :, None], registers[self.key][:, None, :]]  # [N n n]
        n = s.shape[-1]
        seen = np.tril(np.ones((n, n), bool)) if self.causal else np.ones((n, n), bool)
        if self.weights is None:
            return s * seen
        best = np.where(seen, s, s.min()).max(-1, keepdims=True)
        return self.weights[np.clip(best - s, 0, len(self.weights) - 1)] * seen

    def apply(self, registers: list[Int[np.ndarray, "N n"]]) -> list[Int[np.ndarray, "N n"]]:
        """The registers with $z$ appended."""
        w, u = self.attention(registers), self.values[registers[self.value]]
        total, mass = (w * u[:, None, :]).sum(-1), w.sum(-1)
        z = np.where(mass > 0, _round_ratio(total, np.maximum(mass, 1), self.rounding), 0)
        return [*registers, np.clip(z, self.values.min(), self.values.max()) - self.values.min()]


@dataclass(frozen=True, eq=False)
class Local:
    """A look-up at every token: a new register `table[left, right]` (rows of V, neurons, residuals, clipping)."""

    left: int
    right: int
    table: Int[np.ndarray, "..."]

    def __post_init__(self):
        _freeze(self, table=2)
        if self.table.min() < 0:
            raise ConfigurationError("A Local table holds codes, integers ≥ 0.")

    def sizes(self, sizes: list[int]) -> list[int]:
        """The number of codes of each register after the step. **Raises:** `ConfigurationError` if a table is too small."""
        _covers(self.table.shape, (sizes[self.left], sizes[self.right]))
        return [*sizes, int(self.table.max()) + 1]

    def apply(self, registers: list[Int[np.ndarray, "N n"]]) -> list[Int[np.ndarray, "N n"]]:
        """The registers with the looked-up codes appended."""
        return [*registers, self.table[registers[self.left], registers[self.right]]]


@dataclass(frozen=True)
class Forget:
    """Keep only the registers listed, in that order."""

    keep: tuple[int, ...]

    def sizes(self, sizes: list[int]) -> list[int]:
        """The number of codes of each register after the step."""
        return [sizes[r] for r in self.keep]

    def apply(self, registers: list[Int[np.ndarray, "N n"]]) -> list[Int[np.ndarray, "N n"]]:
        """The registers kept."""
        return [registers[r] for r in self.keep]


Step = Pool | Local | Forget


def _round_ratio(numerator: np.ndarray, denominator: np.ndarray, rounding: Literal["up", "odd"]) -> np.ndarray:
    """Integers nearest to `numerator / denominator` (> 0), exactly; halves go up, or away from zero ("odd")."""
    if rounding == "up":
        return (2 * numerator + denominator) // (2 * denominator)
    return np.sign(numerator) * ((2 * np.abs(numerator) + denominator) // (2 * denominator))


def _covers(shape: tuple[int, ...], needed: tuple[int, ...]) -> None:
    if any(have < need for have, need in zip(shape, needed, strict=True)):
        raise ConfigurationError(f"A table of shape {shape} is looked up with codes of sizes {needed}.")


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """A whole integer transformer: embed, run the steps, read a label off one register.

    **Arguments:** `embedding [n V]`, the code of token v at position i; `steps`; `output [K]`, the label of each code
    of register 0; `reads`, "first" (one label a sequence, from its first token) or "all" (one label a token).
    Read-outs of the last or of the mean token are a `Pool` away. `symbols` and `classes`, what tokens and labels stand for.
    """

    embedding: Int[np.ndarray, "n V"]
    steps: tuple[Step, ...]
    output: Int[np.ndarray, "..."]
    reads: Literal["first", "all"] = "first"
    name: str = ""
    symbols: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    _sizes: list[int] = field(init=False, repr=False)

    def __post_init__(self):
        _freeze(self, embedding=2, output=1)
        sizes = [int(self.embedding.max()) + 1]
        for step in self.steps:
            sizes = step.sizes(sizes)
        _covers(self.output.shape, (sizes[0],))
        object.__setattr__(self, "_sizes", sizes)
        labels = int(self.output.max()) + 1
        for name, texts, size in (
            ("symbols", self.symbols, self.embedding.shape[1]),
            ("classes", self.classes, labels),
        ):
            if texts is not None and len(texts) < size:
                raise ConfigurationError(f"The network has {len(texts)} {name} where it needs {size}.")

    def __call__(self, sequences: Int[np.ndarray, "N n"]) -> Int[np.ndarray, "..."]:
        """Labels `[N]` (or `[N n]` if it reads all tokens). **Raises:** `DataError` on another length or vocabulary."""
        labels = self.output[registers_after(embed(self.embedding, sequences), self.steps)[0]]
        return labels[:, 0] if self.reads == "first" else labels

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "reads": self.reads,
            "embedding": self.embedding.tolist(),
            "steps": [{"kind": type(step).__name__, **plain(vars(step))} for step in self.steps],
            "output": self.output.tolist(),
            "symbols": None if self.symbols is None else list(self.symbols),
            "classes": None if self.classes is None else list(self.classes),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "QuantizedNetwork":
        """The network written by `to_dict`. **Raises:** `ConfigurationError` if it is malformed or newer."""
        try:
            if content["format"] > _FORMAT:
                raise ConfigurationError(f"The network has format {content['format']}; this version reads {_FORMAT}.")
            if content["reads"] not in ("first", "all") or not isinstance(content["name"], str):
                raise ConfigurationError("The network reads neither the first token nor all, or has no name.")
            steps = tuple(_step_from_dict(step) for step in content["steps"])
            embedding, output = np.array(content["embedding"]), np.array(content["output"])
            symbols, classes = (
                None if (names := content.get(key)) is None else tuple(map(str, names))
                for key in ("symbols", "classes")
            )
            return cls(embedding, steps, output, content["reads"], content["name"], symbols, classes)
        except ConfigurationError:
            raise
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigurationError(f"This is not an integer network: {error!r} while reading it.") from None


def embed(embedding: Int[np.ndarray, "n V"], sequences: Int[np.ndarray, "..."]) -> list[Int[np.ndarray, "N n"]]:
    """The first register: the code of every token at its position. **Raises:** `DataError` on foreign data."""
    n, V = embedding.shape
    sequences = np.asarray(sequences)
    if sequences.ndim != 2 or sequences.shape[1] != n:
        raise DataError(f"The network reads sequences of {n} tokens, an array [N {n}], not {sequences.shape}.")
    if sequences.size and not (sequences.min() >= 0 and sequences.max() < V):
        raise DataError(f"The network knows the tokens 0..{V - 1}; there are others among the sequences.")
    return [embedding[np.arange(n), sequences]]


def _step_from_dict(content: dict[str, Any]) -> Step:
    kinds: dict[str, type[Step]] = {"Pool": Pool, "Local": Local, "Forget": Forget}
    read = lambda name, v: tuple(v) if name == "keep" else np.array(v) if isinstance(v, list) else v
    fields: dict[str, Any] = {name: read(name, v) for name, v in content.items() if name != "kind"}
    return kinds[content["kind"]](**fields)


def registers_after(registers: list[np.ndarray], steps: Sequence[Step]) -> list[np.ndarray]:
    """Run a list of steps on registers."""
    for step in steps:
        registers = step.apply(registers)
    return registers
