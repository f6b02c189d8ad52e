"""Tables of categorical sequences: arrays, frames, lists of unequal length, strings, as small integer codes.

The codes of a vocabulary of V names are 0..V−1 in the order in which the names appear, row by row. So a renaming of the
tokens leaves every integer behind this module as it was. Code V is "no token here" (behind the end of a short row), code V+1
stands for every name that training did not show.
"""

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError, DataError

MISSING = None  # the name of a missing cell


@dataclass(frozen=True)
class Alphabet:
    """How cells of a table become codes.

    **Attributes:** `names`, what the codes 0..V−1 stand for; `length`, tokens of the longest row that can be read; `columns`, the names
    of the columns of a frame (None for sequences); `ragged`, whether rows may be shorter than `length`; `by_column`, whether a
    name belongs to one column (then `names` are pairs of column number and name); `others`, whether a name that is not
    listed gets the code V+1.
    """

    names: tuple[Any, ...]
    length: int
    columns: tuple[Any, ...] | None
    ragged: bool
    by_column: bool
    others: bool

    @property
    def size(self) -> int:
        """V."""
        return len(self.names)

    @property
    def nothing(self) -> int:
        """The code of a place behind the end of a row."""
        return len(self.names)

    @property
    def other(self) -> int:
        """The code of all names that are not listed."""
        return len(self.names) + 1

    def read(self, X: Any) -> Int[np.ndarray, "N n"]:
        """The codes of the rows of a table. **Raises:** `DataError` on another width, a longer row or an unknown name."""
        rows, columns = _rows(X)
        if self.columns is not None and columns is not None and columns != self.columns:
            absent = [name for name in self.columns if name not in columns]
            if absent:
                raise DataError(f"The table has no column {absent[0]!r}; training had {_some(self.columns)}.")
            place = [columns.index(name) for name in self.columns]
            rows = [[row[j] for j in place] for row in rows]
        self._check_lengths(rows)
        code = {name: c for c, name in enumerate(self.names)}
        codes = np.full((len(rows), self.length), self.nothing, np.int64)
        for i, row in enumerate(rows):
            for j, name in enumerate(row):
                found = code.get((j, name) if self.by_column else name)
                if found is None:
                    if not self.others:
                        raise DataError(
                            f'{_place(i, j, self.columns)} holds {name!r}, which training did not show; pass unknown="other" to read '
                            "all such names as one."
                        )
                    found = self.other
                codes[i, j] = found
        return codes

    def _check_lengths(self, rows: list[list[Any]]) -> None:
        for i, row in enumerate(rows):
            if not self.ragged and len(row) != self.length:
                raise DataError(
                    f"X has {len(row)} features, but OptimalAttentionClassifier is expecting {self.length} features as input "
                    f"(row {i})."
                )
            if len(row) > self.length:
                raise DataError(
                    f"Row {i} has {len(row)} tokens, and the network reads {self.length} at most; train with length={len(row)}."
                )

    def token(self, code: int) -> str:
        """A token in words."""
        if code >= self.size:
            return "nothing" if code == self.nothing else "another name"
        name = self.names[code][1] if self.by_column else self.names[code]
        return "missing" if name is MISSING else f"'{name}'"

    def column(self, position: int) -> str:
        """A place in words."""
        return f"position {position + 1}" if self.columns is None else str(self.columns[position])


def alphabet_of(
    X: Any,
    length: int | None = None,
    vocabulary: str = "auto",
    unknown: str = "error",
    used: Iterable[bool] | None = None,
) -> Alphabet:
    """The alphabet of a table.

    **Arguments:** `X [N n]`, an array or frame, a dictionary of columns, a list of sequences of any lengths, or a list of strings (whose
    tokens are their characters); cells are strings, whole numbers or truth values; None and NaN are a name of their own, "missing".
    `length`, of the longest row to be read later. `vocabulary`: "shared", one name means the same everywhere; "columns",
    each column has its own names; "auto" is "columns" for a frame in which no two columns share a name, else "shared".
    `unknown`, what a name is that training did not show. `used [N]`, the rows whose names count.

    **Raises:** `DataError` for empty data, numbers with fractions, or cells that are no names.
    """
    if vocabulary not in ("auto", "shared", "columns"):
        raise ConfigurationError(f'vocabulary={vocabulary!r}: choose "auto", "shared" or "columns".')
    if unknown not in ("error", "other"):
        raise ConfigurationError(f'unknown={unknown!r}: choose "error" or "other".')
    rows, columns = _rows(X)
    keep = [True] * len(rows) if used is None else list(used)
    if len(keep) != len(rows):
        raise DataError(f"There are {len(rows)} rows and {len(keep)} labels; there must be one label a row.")
    rows = [row for row, use in zip(rows, keep, strict=True) if use]
    longest = max((len(row) for row in rows), default=0)
    if longest == 0:
        raise DataError(
            f"The table has 0 feature(s) (shape=({len(rows)}, 0)) while a minimum of 1 is required: no row has a token."
        )
    if length is not None and length < longest:
        raise DataError(f"length={length} is below the longest row, which has {longest} tokens.")
    ragged = length not in (None, longest) or any(len(row) < longest for row in rows)
    by_column = vocabulary == "columns" or (vocabulary == "auto" and columns is not None and not _share(rows))
    if by_column and ragged:
        raise DataError('vocabulary="columns" needs rows of one length.')
    names: dict[Any, None] = {}
    for row in rows:
        names.update(dict.fromkeys(enumerate(row) if by_column else row))
    return Alphabet(tuple(names), length or longest, columns, ragged, by_column, unknown == "other")


def renamed(alphabet: Alphabet, names: Sequence[Any]) -> Alphabet:
    """The same codes under other names."""
    return replace(alphabet, names=tuple(names))


def _share(rows: list[list[Any]]) -> bool:
    """Whether a name other than "missing" stands in two columns."""
    home: dict[Any, int] = {}
    return any(home.setdefault(name, j) != j for row in rows for j, name in enumerate(row) if name is not MISSING)


def _rows(X: Any) -> tuple[list[list[Any]], tuple[Any, ...] | None]:
    """The rows of a table as lists of names, and the names of its columns if it has any."""
    columns = None
    if hasattr(X, "toarray"):
        raise DataError("Sparse input is not supported: cells are names; X.toarray() gives a dense table.")
    if isinstance(X, dict):
        columns, cells = tuple(X), [list(column) for column in X.values()]
        if len({len(column) for column in cells}) > 1:
            raise DataError(f"The columns have {sorted({len(c) for c in cells})} cells; they need the same number.")
        rows: Any = list(zip(*cells, strict=True))
    elif hasattr(X, "columns") and hasattr(X, "shape"):
        columns = tuple(X.columns)
        rows = list(zip(*(list(X[name]) for name in columns), strict=True))
    elif isinstance(X, (str, bytes)) or not (isinstance(X, Sequence) or hasattr(X, "__array__")):
        raise DataError(f"X is a {type(X).__name__}; it must be a table [N n], a frame, or a list of sequences.")
    else:
        rows = _plain(X)
    out = []
    for i, row in enumerate(rows):
        if hasattr(row, "tolist"):
            row = row.tolist()
        if not isinstance(row, (str, Sequence)):
            raise DataError(
                f"Row {i} is {row!r}, and no sequence of tokens. Reshape your data: X must be a 2D table, or a list of sequences."
            )
        out.append([_name(cell, i, j, columns) for j, cell in enumerate(row)])
    if not out:
        raise DataError("The table has 0 sample(s) while a minimum of 1 is required.")
    return out, columns


def _plain(X: Any) -> list[Any]:
    """An array, a series or a list as a list."""
    if isinstance(X, Sequence):
        return list(X)
    array = np.asarray(X)
    if array.ndim not in (1, 2) or (array.ndim == 1 and array.dtype.kind not in "OUS"):
        raise DataError(f"X has the shape {array.shape}. Reshape your data: it must be a 2D table [N n].")
    if array.dtype.kind == "c":
        raise DataError("Complex data not supported: cells are names.")
    return array.tolist()


def _name(cell: Any, i: int, j: int, columns: Sequence[Any] | None) -> Any:
    """A cell as a name: a string, a whole number, or `MISSING`."""
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return MISSING
    if isinstance(cell, numbers.Integral):
        return int(cell)
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, numbers.Real):
        number = float(cell)
        if math.isnan(number):
            return MISSING
        if number.is_integer():
            return int(number)
        raise DataError(
            f"{_place(i, j, columns)} holds {cell}, a number that is not whole (infinity included). Tokens are names, which are only "
            "compared for equality; put numbers into bins first."
        )
    raise DataError(f"{_place(i, j, columns)} holds a {type(cell).__name__}; a token is a string or a whole number.")


def _place(i: int, j: int, columns: Sequence[Any] | None) -> str:
    return f"Row {i}, " + (f"position {j}" if columns is None else f"column {columns[j]!r}")


def _some(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
