"""What is to be learnt: weighted, labelled sequences, and the class the network must come from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError, DataError
from ...data.table import GAP_MARKS, read_csv
from .r1 import R1


@dataclass(frozen=True, eq=False)
class Problem:
    """Find the network of a class that mislabels the least weight of sequences.

    Equal (sequence, label) pairs are merged and their weights added: only their distribution matters.

    **Arguments:** `name`; `tokens [N n]`; `labels [N]`, 0 or 1; `weights [N]`, integers > 0 (default 1); `model`; `symbols` and
    `classes`, what the tokens and the two labels stand for, which exported networks know too.
    Raises `DataError` on other shapes, labels, tokens or weights.
    """

    name: str
    tokens: Int[np.ndarray, "N n"]
    labels: Int[np.ndarray, "N"]
    weights: Int[np.ndarray, "N"]
    model: R1
    symbols: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.tokens.shape[1] != self.model.length or self.tokens.max() >= self.model.vocabulary:
            raise ConfigurationError("The class reads sequences of another length or vocabulary than these.")

    @classmethod
    def create(
        cls,
        tokens: Any,
        labels: Any,
        weights: Any = None,
        model: R1 | None = None,
        name: str = "data",
        symbols: tuple[str, ...] | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> "Problem":
        """A problem from arrays; the class is R1 for their length and vocabulary unless given."""
        if any(np.ma.getmaskarray(a).any() for a in (tokens, labels) if isinstance(a, np.ma.MaskedArray)):
            raise DataError(
                "Some tokens or labels are hidden by a mask; class R1 knows no gaps, so leave these rows out."
            )
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
        return cls(name, distinct[:, :-1], distinct[:, -1], merged, model, symbols, classes)

    @property
    def total(self) -> int:
        """The total weight."""
        return int(self.weights.sum())

    def errors(self, predicted: Int[np.ndarray, "N"]) -> int:
        """The weight of the sequences that are mislabelled."""
        return int(self.weights[predicted != self.labels].sum())


def read_table(
    path: str | os.PathLike, label: str = "label", weight: str | None = None, missing: Sequence[str] = GAP_MARKS
) -> Problem:
    """A problem from a CSV file with a header: one row a sequence, its tokens in the other columns, in order.

    **Arguments:** `label`, the column of labels; `weight`, a column of integer weights. Tokens and labels may be any
    text, as it stands; they are numbered in sorted order (numbers by value). `missing`, the marks of a missing value. Raises
    `DataError` on a missing column or value.
    """
    try:
        table = read_csv(Path(path)).columns
        absent = [name for name in (label, weight) if name is not None and name not in table]
        columns = [name for name in table if name not in (label, weight)]
        if absent or not columns:
            raise DataError(f"it needs a column {', '.join(absent) or 'of tokens'}; its header is {list(table)}.")
        for name, cells in table.items():
            row = next((i for i, c in enumerate(cells) if c is None or not c.strip() or c in missing), None)
            if row is not None:
                raise DataError(
                    f"row {row + 1} has no value in column {name!r} ({cells[row]!r}); class R1 knows no gaps."
                )
        cells = {name: [cell for cell in table[name] if cell] for name in table}
        symbols, tokens = _number(np.array([cells[name] for name in columns]).T)
        classes, labels = _number(np.array(cells[label]))
        both = lambda names: names if len(names) > 1 else None  # class R1 has two tokens and two labels at least
        if len(classes) > 2:
            raise DataError(f"column {label!r} has {len(classes)} different values; class R1 tells two apart.")
        try:
            weights = np.array([int(cell) for cell in cells[weight]]) if weight else None
        except ValueError:
            raise DataError(f"column {weight!r} must hold integers.") from None
        return Problem.create(
            tokens,
            labels,
            weights,
            name=os.path.basename(os.fspath(path)),
            symbols=both(symbols),
            classes=both(classes),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None


def _number(texts: np.ndarray) -> tuple[tuple[str, ...], Int[np.ndarray, "..."]]:
    """The distinct texts in sorted order, as numbers where all of them are, and their codes."""
    distinct = {str(t) for t in texts.ravel()}
    try:
        order = sorted(distinct, key=lambda t: (float(t), t))
    except ValueError:
        order = sorted(distinct)
    code = {t: i for i, t in enumerate(order)}
    return tuple(order), np.vectorize(lambda t: code[str(t)], otypes=[np.int64])(texts)
