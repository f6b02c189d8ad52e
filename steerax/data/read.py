"""Sequences from files. Every fault of a file is one sentence that names the file."""

import csv
import io
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from .._errors import DataError
from .sequences import Sequences
from .vocabulary import Vocabulary

_SUFFIXES = (".txt", ".csv", ".tsv", ".parquet", ".npy", ".npz")


def read(
    path: str | os.PathLike,
    tokens: str = "token",
    sequence: str | None = None,
    vocabulary: Vocabulary | None = None,
    *,
    words: bool = False,
    values: Sequence[str] | None = None,
) -> Sequences:
    """Sequences of a file, by its suffix.

    * `.txt` (UTF-8): one sequence of characters, line ends included; with `words=True` one sequence of
      whitespace-separated tokens per non-empty line.
    * `.csv`, `.tsv`, `.parquet`: a table with a header. Column `tokens` holds the tokens; column `sequence`, if
      given, names the sequence of each row (rows keep their order). An empty cell is a missing token, and so is −1
      in a column of integers. With `values=[columns]` those numeric columns are observations instead.
    * `.npy`, `.npz`: integer codes, `[T]` or `[B T]` (−1 is missing, trailing −1 padding). An `.npz` holds either
      `tokens` and `lengths` (sequences one after the other) or one array per sequence. Float arrays are
      observations.

    **Raises:** `DataError` for a file that is missing, empty, of another kind, undecodable, or all gaps.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a directory; give a file ({', '.join(_SUFFIXES)}).")
    if not path.exists():
        raise DataError(f"There is no file {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{path} has the suffix {suffix or 'none'!r}; known are {', '.join(_SUFFIXES)}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    try:
        if suffix == ".txt":
            data = _read_text(path, vocabulary, words)
        elif suffix in (".npy", ".npz"):
            data = _read_arrays(path, vocabulary)
        else:
            columns = (
                _read_parquet(path) if suffix == ".parquet" else _read_csv(path, "\t" if suffix == ".tsv" else ",")
            )
            data = _from_table(columns, tokens, sequence, vocabulary, values)
        empty = np.flatnonzero(~data.mask.any(axis=1))
        if len(empty):
            name = data.names[empty[0]] if data.names else str(empty[0])
            raise DataError(f"sequence {name} has no observed value; remove it, or mend the file.")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return data


def open_tokens(path: str | os.PathLike) -> np.ndarray:
    """A memory-mapped token file: `.npy` (integers) or `.bin` (raw uint16, nanoGPT's). **Raises:** `DataError`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise DataError(f"There is no token file {path}; check the path.")
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".bin":
            return np.memmap(path, dtype=np.uint16, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as tokens ({error}).") from None
    raise DataError(f"{path} is no token file; known endings are .npy (integers) and .bin (raw uint16).")


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the text is not UTF-8 (byte {error.start}); save it as UTF-8.") from None


def _read_text(path: pathlib.Path, vocabulary: Vocabulary | None, words: bool) -> Sequences:
    text = _text(path)
    units = [line.split() for line in text.splitlines() if line.strip()] if words else [list(text)]
    if not units or not units[0]:
        raise DataError("the file holds no token.")
    vocabulary = vocabulary or Vocabulary.collect(symbol for unit in units for symbol in unit)
    codes = [vocabulary.encode(unit, f" of line {i}" if words else "") for i, unit in enumerate(units, start=1)]
    return Sequences.from_arrays(codes, vocabulary)


def _read_arrays(path: pathlib.Path, vocabulary: Vocabulary | None) -> Sequences:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"array": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"it cannot be read as a NumPy file without pickled objects: {error}.") from None
    if not arrays or any(a.size == 0 for a in arrays.values()):
        raise DataError("the file holds an empty array.")
    if set(arrays) == {"tokens", "lengths"}:
        flat, lengths = arrays["tokens"], arrays["lengths"]
        if flat.ndim != 1 or lengths.ndim != 1 or lengths.sum() != len(flat):
            raise DataError(f"'lengths' must add up to the length of 'tokens', {flat.shape}.")
        parts = np.split(flat, np.cumsum(lengths)[:-1])
    else:
        parts = [row for array in arrays.values() for row in (array if array.ndim > 1 else [array])]
        parts = [_without_padding(part) for part in parts]
    if any(p.dtype.kind not in "iubf" for p in parts):
        raise DataError(f"values of type {parts[0].dtype} are neither tokens (integers) nor observations (floats).")
    data = Sequences.from_arrays(parts, vocabulary)
    if data.is_tokens and vocabulary is None:
        data = Sequences(data.values, data.lengths, Vocabulary.of_codes(max(data.n_tokens, 1)))
    return data


def _without_padding(part: np.ndarray) -> np.ndarray:
    """`part` without its trailing missing values, as long as something is left."""
    if part.ndim == 0:
        raise DataError("a NumPy file of sequences needs arrays, not single numbers.")
    seen = part >= 0 if part.dtype.kind in "iu" else np.isfinite(part)
    seen = seen if seen.ndim == 1 else seen.any(-1)
    return part[: int(np.flatnonzero(seen)[-1]) + 1] if seen.any() else part


def _read_csv(path: pathlib.Path, delimiter: str) -> dict[str, list]:
    try:
        rows = list(csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"the table is not readable: {error}.") from None
    header, body = rows[0], rows[1:]
    if not body:
        raise DataError("the table has a header but no row.")
    wrong = next((i for i, row in enumerate(body) if len(row) not in (len(header), 0)), None)
    if wrong is not None:
        raise DataError(f"line {wrong + 2}: {len(body[wrong])} cells where the header has {len(header)}.")
    # a blank line is an empty cell in a table of one column, and nothing otherwise
    body = [row or [""] for row in body if row or len(header) == 1]
    return {name.strip(): [row[i].strip() or None for row in body] for i, name in enumerate(header)}


def _read_parquet(path: pathlib.Path) -> dict[str, list]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError("reading it needs pyarrow; install steerax[parquet].") from None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the file is not a readable parquet file: {error}") from None
    return {name: [_cell(v) for v in table.column(name).to_pylist()] for name in table.column_names}


def _cell(value) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _from_table(
    columns: dict[str, list],
    tokens: str,
    sequence: str | None,
    vocabulary: Vocabulary | None,
    values: Sequence[str] | None,
) -> Sequences:
    for name in (*(values or [tokens]), *([sequence] if sequence else [])):
        if name not in columns:
            raise DataError(f"there is no column {name!r}; the columns are {', '.join(map(repr, columns))}.")
    groups: dict[str, list[int]] = {}
    for row, cell in enumerate(columns[sequence or next(iter(columns))]):
        key = cell if sequence else "0"
        if key is None:
            raise DataError(f"the sequence column {sequence!r} is empty in row {row + 1}.")
        groups.setdefault(key, []).append(row)
    if values:
        series = np.stack([_numbers(name, columns[name]) for name in values], axis=1)
        return Sequences.from_arrays([series[index] for index in groups.values()], names=list(groups))
    symbols = _tokens(tokens, columns[tokens])
    present = [s for s in symbols if s is not None]
    if not present:
        raise DataError(f"column {tokens!r} holds no token.")
    vocabulary = vocabulary or Vocabulary.collect(present)
    parts = [vocabulary.encode([symbols[row] for row in index]) for index in groups.values()]
    return Sequences.from_arrays(parts, vocabulary, list(groups))


def _tokens(name: str, cells: list[str | None]) -> list[str | None]:
    """The cells as symbols; in a column of integers −1 is missing, and numbers with fractions are refused."""
    try:
        numbers = [math.nan if c is None else float(c) for c in cells]
    except ValueError:
        return cells
    fraction = next((n for n in numbers if math.isinf(n) or n % 1 > 0), None)
    if fraction is not None:
        raise DataError(f"column {name!r} holds {fraction}, not a token; name columns of numbers as values.")
    return [None if math.isnan(n) or n == -1 else str(int(n)) for n in numbers]


def _numbers(name: str, cells: list[str | None]) -> np.ndarray:
    try:
        return np.asarray([np.nan if c is None else float(c) for c in cells])
    except ValueError as error:
        raise DataError(f"column {name!r} is not numeric ({error}).") from None
