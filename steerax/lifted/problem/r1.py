r"""The reference class R1: one head of hard attention, two small-integer coordinates per token, ternary weights.

Token $b_i$ at position $i$ enters as $x_i=(2b_i-(\text{V}-1),\ \mathrm{clip}(\mathrm{round}((2i-(n-1))C/(n-1)),-C,C))$,
halves away from zero. A layer with $B=Q^\top K$ and $V$ moves every token by
$$z_i=\lfloor4\bar x_i+\tfrac12\rfloor/4,\qquad x_i\leftarrow\mathrm{clip}(x_i+\lfloor Vz_i+\tfrac12\rfloor,-C,C),$$
$\bar x_i$ the mean of $x_j$ over the $j$ that maximise $x_i^\top Bx_j$. The read-out is
$\mathbf 1\{w^\top x_0\ge\tau\}$ or its complement. Every weight is −1, 0 or 1 ($Q,K,V,w$); $\tau$ is an integer.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError
from ...transformer.quantized import Forget, Local, Pool, QuantizedNetwork, Step
from .alphabet import hard_attention, score_matrices, ternary

QUARTERS = 4  # attended means are rounded to quarters


class Layer(NamedTuple):
    """One layer: `B` and `V`, two rows of two integers each."""

    B: tuple[tuple[int, int], tuple[int, int]]
    V: tuple[tuple[int, int], tuple[int, int]]


class Readout(NamedTuple):
    """The label is 1 where w·x₀ ≥ threshold, or where it is not if `flipped`."""

    w: tuple[int, int]
    threshold: int
    flipped: bool


class Weights(NamedTuple):
    """A network of the class."""

    layers: tuple[Layer, ...]
    readout: Readout


def standard_levels(length: int, vocabulary: int = 2) -> int:
    """C: 2 up to length 5, 3 up to 7, 4 from 8 on; at least V − 1."""
    return max(2 if length <= 5 else 3 if length <= 7 else 4, vocabulary - 1)


@dataclass(frozen=True, eq=False)
class R1:
    """The class for one length of sequences; the alphabets may be thinned out.

    **Arguments:** `length` n; `levels` C (default: see `standard_levels`); `vocabulary` V; `matrices [NB 2 2]`, the
    choices of B; `rows [NR 2]`, the choices of each row of V; `directions [NW 2]`, the read-out directions w.
    """

    length: int
    levels: int = 0
    vocabulary: int = 2
    matrices: Int[np.ndarray, "NB 2 2"] = field(default_factory=score_matrices)
    rows: Int[np.ndarray, "NR 2"] = field(default_factory=lambda: ternary(2))
    directions: Int[np.ndarray, "NW 2"] = field(default_factory=lambda: np.array([(1, 0), (0, 1), (1, 1), (1, -1)]))

    def __post_init__(self):
        if self.length < 1 or self.vocabulary < 2:
            raise ConfigurationError(
                "Class R1 needs sequences of at least one token and at least two tokens to choose."
            )
        if self.levels == 0:
            object.__setattr__(self, "levels", standard_levels(self.length, self.vocabulary))
        if not self.vocabulary - 1 <= self.levels <= 7:
            raise ConfigurationError(
                f"levels={self.levels}: with {self.vocabulary} tokens R1 needs {self.vocabulary - 1} to 7 levels."
            )
        for name in ("matrices", "rows", "directions"):
            choices = np.asarray(getattr(self, name), dtype=np.int64)
            if len(choices) == 0:
                raise ConfigurationError(f"Class R1 needs at least one choice of {name}.")
            choices.setflags(write=False)
            object.__setattr__(self, name, choices)
        if {tuple(w) for w in self.directions.tolist()} - {(1, 0), (0, 1), (1, 1), (1, -1)}:
            raise ConfigurationError(
                "Read-out directions are (1,0), (0,1), (1,1), (1,-1); others are their complements."
            )

    @property
    def side(self) -> int:
        """Values of a coordinate: 2C + 1."""
        return 2 * self.levels + 1

    @property
    def embedding(self) -> Int[np.ndarray, "n V 2"]:
        """x of every token at every position."""
        n, C, V = self.length, self.levels, self.vocabulary
        twice = (2 * np.arange(n) - (n - 1)) * C  # (n-1) times the position
        position = np.sign(twice) * ((2 * np.abs(twice) + max(n - 1, 1)) // (2 * max(n - 1, 1)))
        x = np.empty((n, V, 2), np.int64)
        x[:, :, 0] = 2 * np.arange(V) - (V - 1)
        x[:, :, 1] = np.clip(position, -C, C)[:, None]
        return x

    @property
    def cells(self) -> Int[np.ndarray, "G 2"]:
        """The coordinates of every cell code: code = (x₀ + C)(2C + 1) + (x₁ + C)."""
        return np.stack(np.divmod(np.arange(self.side**2), self.side), -1) - self.levels

    def codes(self, x: Int[np.ndarray, "*axes 2"]) -> Int[np.ndarray, "*axes"]:
        """The cell codes of tokens."""
        return (x[..., 0] + self.levels) * self.side + x[..., 1] + self.levels

    def steps(self, layer: Layer) -> list[Step]:
        """A layer as steps of the register machine."""
        cells, C = self.cells, self.levels
        score = cells @ np.asarray(layer.B) @ cells.T
        steps: list[Step] = [Pool(0, 0, 0, score, hard_attention(), QUARTERS * cells[:, a]) for a in (0, 1)]
        z = np.arange(-QUARTERS * C, QUARTERS * C + 1)
        state = 0
        for a, (v0, v1) in enumerate(layer.V):
            move = (2 * (v0 * z[:, None] + v1 * z[None, :]) + QUARTERS) // (2 * QUARTERS)
            low = int(move.min())
            moved = np.repeat(cells[:, None, :], move.max() - low + 1, axis=1)  # [G moves 2]
            moved[:, :, a] = np.clip(moved[:, :, a] + np.arange(low, move.max() + 1), -C, C)
            row, state = 3 + 2 * a, 4 + 2 * a
            steps += [Local(1, 2, move - low), Local(state - 2 if a else 0, row, self.codes(moved))]
        return [*steps, Forget((state,))]

    def output(self, readout: Readout) -> Int[np.ndarray, "G"]:
        """The label of every cell."""
        return ((self.cells @ np.asarray(readout.w) >= readout.threshold) != readout.flipped).astype(np.int64)

    def network(self, weights: Weights, name: str = "") -> QuantizedNetwork:
        """The network as it is deployed."""
        steps = tuple(step for layer in weights.layers for step in self.steps(layer))
        return QuantizedNetwork(self.codes(self.embedding), steps, self.output(weights.readout), "first", name)
