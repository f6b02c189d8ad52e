r"""The lifted state: the distribution of (sequence, label) over the training set, and its push-forward by a layer.

$\Lambda=\sum_iw_i\,\delta_{(\mu^i,y^i)}$: every atom is a whole sequence in its registers, with a label and a weight.
A layer moves every token of an atom by what the other tokens of the same atom are (attention is nonlinear in
$\mu^i$); across atoms the distribution is only carried along: $\Lambda^+=(\Phi_a)_\#\Lambda$, linear in the weights. Atoms that
fall together are one from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ..._errors import DataError
from ...transformer.quantized import Step, embed, registers_after


@dataclass(frozen=True, eq=False)
class Distribution:
    """A weighted set of distinct (sequence, label) atoms, in a canonical order.

    **Attributes:** `registers`, arrays `[N n]` of codes; `labels [N k]`, one label a sequence (k = 1) or a token
    (k = n); `weights [N]`, integers > 0.
    """

    registers: tuple[np.ndarray, ...]
    labels: Int[np.ndarray, "N k"]
    weights: Int[np.ndarray, "N"]

    @classmethod
    def of(cls, registers: Sequence[np.ndarray], labels: np.ndarray, weights: np.ndarray) -> "Distribution":
        """The distribution of atoms that need be neither distinct nor ordered."""
        rows = np.concatenate([*registers, labels], axis=1)
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
        mass = np.bincount(inverse.ravel(), weights, len(distinct)).astype(np.int64)
        parts = np.split(distinct, np.cumsum([r.shape[1] for r in registers]), axis=1)
        return cls(tuple(parts[:-1]), parts[-1], mass)

    @classmethod
    def embedded(
        cls, embedding: np.ndarray, tokens: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> "Distribution":
        """The distribution of tokens `[N n]` with labels `[N]` or `[N n]`. Raises `DataError` on other shapes or weights."""
        tokens, labels = np.asarray(tokens), np.asarray(labels)
        weights = np.ones(len(tokens), np.int64) if weights is None else np.asarray(weights)
        labels = labels[:, None] if labels.ndim == 1 else labels
        if len(labels) != len(tokens) or labels.shape[1] not in (1, tokens.shape[1]) or labels.min() < 0:
            raise DataError("Labels are integers ≥ 0, one a sequence [N] or one a token [N n].")
        if weights.shape != (len(tokens),) or weights.dtype.kind not in "iu" or (weights <= 0).any():
            raise DataError("Weights are integers > 0, one a sequence.")
        return cls.of(embed(embedding, tokens), labels, weights)

    def push(self, steps: Sequence[Step]) -> "Distribution":
        """The push-forward by some steps of a network."""
        return Distribution.of(registers_after(list(self.registers), steps), self.labels, self.weights)

    def cost(self, loss: Int[np.ndarray, "K Y"]) -> int:
        """Σ weight · loss[code of register 0, label]: at the first token, or summed over all tokens."""
        codes = self.registers[0][:, : self.labels.shape[1]]
        return int((loss[codes, self.labels].sum(1) * self.weights).sum())

    def part(self, atoms: np.ndarray | list[int], weights: np.ndarray | None = None) -> "Distribution":
        """The restriction to some atoms, optionally with other weights."""
        weights = self.weights[atoms] if weights is None else weights
        return Distribution(tuple(r[atoms] for r in self.registers), self.labels[atoms], weights)

    @property
    def key(self) -> bytes:
        """Equal for equal distributions and for no others (of the same problem)."""
        return np.concatenate([*self.registers, self.labels, self.weights[:, None]], axis=1).tobytes()
