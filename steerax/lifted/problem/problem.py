"""What is to be learnt: weighted, labelled sequences, and the class the network must come from."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError, DataError
from .r1 import R1


@dataclass(frozen=True, eq=False)
class Problem:
    """Find the network of a class that mislabels the least weight of sequences.

    Equal (sequence, label) pairs are merged and their weights added: only their distribution matters.

    **Arguments:** `name`; `tokens [N n]`; `labels [N]`, 0 or 1; `weights [N]`, integers > 0 (default 1); `model`.
    Raises `DataError` on other shapes, labels, tokens or weights.
    """

    name: str
    tokens: Int[np.ndarray, "N n"]
    labels: Int[np.ndarray, "N"]
    weights: Int[np.ndarray, "N"]
    model: R1

    def __post_init__(self):
        if self.tokens.shape[1] != self.model.length or self.tokens.max() >= self.model.vocabulary:
            raise ConfigurationError("The class reads sequences of another length or vocabulary than these.")

    @classmethod
    def create(
        cls, tokens: Any, labels: Any, weights: Any = None, model: R1 | None = None, name: str = "data"
    ) -> "Problem":
        """A problem from arrays; the class is R1 for their length and vocabulary unless given."""
        tokens, labels = np.asarray(tokens), np.asarray(labels)
        weights = np.ones(len(labels), np.int64) if weights is None else np.asarray(weights)
        if tokens.ndim != 2 or 0 in tokens.shape or tokens.dtype.kind not in "iu" or tokens.min() < 0:
            raise DataError("Sequences are a non-empty array [N n] of tokens 0, 1, ..., all of one length.")
        if labels.shape != (len(tokens),) or not np.isin(labels, (0, 1)).all():
            raise DataError(f"There must be one label, 0 or 1, for each of the {len(tokens)} sequences.")
        if weights.shape != labels.shape or weights.dtype.kind not in "iu" or (weights <= 0).any():
            raise DataError("Weights are integers > 0, one a sequence; multiply fractions by their denominator.")
        if weights.sum() >= 2**31:
            raise DataError("The weights add up to 2**31 or more; divide them by a common factor.")
        model = model or R1(tokens.shape[1], vocabulary=max(2, int(tokens.max()) + 1))
        rows = np.concatenate([tokens, labels[:, None]], axis=1).astype(np.int64)
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
        merged = np.zeros(len(distinct), np.int64)
        np.add.at(merged, inverse.ravel(), weights)
        return cls(name, distinct[:, :-1], distinct[:, -1], merged, model)

    @property
    def total(self) -> int:
        """The total weight."""
        return int(self.weights.sum())

    def errors(self, predicted: Int[np.ndarray, "N"]) -> int:
        """The weight of the sequences that are mislabelled."""
        return int(self.weights[predicted != self.labels].sum())


def read_table(path: str | os.PathLike, label: str = "label", weight: str | None = None) -> Problem:
    """A problem from a CSV file with a header: one row a sequence, its tokens in the other columns, in order.

    **Arguments:** `label`, the column of labels; `weight`, a column of integer weights. Tokens and labels may be any
    text; they are numbered in sorted order (numbers by value). Raises `DataError` on a missing column or value.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}.") from None
    if not rows:
        raise DataError(f"{path} holds no rows below its header.")
    columns = [c for c in rows[0] if c not in (label, weight)]
    missing = {label, *([weight] if weight else [])} - set(rows[0])
    if missing or not columns:
        raise DataError(
            f"{path} needs a column {', '.join(sorted(missing)) or 'of tokens'}; its header is {list(rows[0])}."
        )
    for number, row in enumerate(rows, start=2):
        if None in row or any(v is None or v.strip() == "" for v in row.values()):
            raise DataError(f"Line {number} of {path} has not one value for every column; missing tokens are refused.")
    tokens = _number([[row[c].strip() for c in columns] for row in rows])
    labels = _number([[row[label].strip()] for row in rows])[:, 0]
    if labels.max() > 1:
        raise DataError(
            f"The column {label} of {path} has {labels.max() + 1} different values; class R1 tells two apart."
        )
    try:
        weights = np.array([int(row[weight]) for row in rows]) if weight else None
    except ValueError:
        raise DataError(f"The column {weight} of {path} must hold integers.") from None
    return Problem.create(tokens, labels, weights, name=os.path.basename(os.fspath(path)))


def _number(texts: Sequence[Sequence[str]]) -> Int[np.ndarray, "N k"]:
    """Texts as codes 0, 1, ... in sorted order; as numbers where all of them are."""
    distinct = {t for row in texts for t in row}
    try:
        order = sorted(distinct, key=float)
    except ValueError:
        order = sorted(distinct)
    code = {t: i for i, t in enumerate(order)}
    return np.array([[code[t] for t in row] for row in texts])
