"""Sequences from files. Every fault of a file is one sentence that names the file; nothing is converted without a word."""

import dataclasses
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np

from .._errors import DataError
from .sequences import Sequences
from .table import Table, as_numbers, as_symbols, read_csv, read_parquet, read_text
from .times import in_order
from .vocabulary import Vocabulary

_SUFFIXES = (".txt", ".csv", ".tsv", ".parquet", ".npy", ".npz")
_LARGEST_CODE = 2**20  # of a file without names of tokens; every code up to the largest is a token of the model
_LARGEST_RATIO, _LARGEST_MEMBER = 200, 2**30  # an archive that unpacks to more than both is not opened


@dataclasses.dataclass(frozen=True)
class Format:
    """How a file is read as sequences: the options that the commands share."""

    _: dataclasses.KW_ONLY
    tokens: Annotated[
        str | None, "column of tokens in a table  [default: token]; for linear models columns such as a,b"
    ] = None
    sequence: Annotated[str | None, "column that names the sequence of each row"] = None
    time: Annotated[str | None, "column that orders the rows; absent steps become gaps"] = None
    missing: Annotated[str | None, "marks of a gap, such as NA,?  [default: the common ones, and it is said]"] = None
    symbols: Annotated[str | None, "all tokens there are, such as A,C,G,T; another one is refused"] = None
    lines: Annotated[bool, "read a .txt file as characters, a sequence per line"] = False
    words: Annotated[bool, "read a .txt file as words, a sequence per line"] = False
    delimiter: Annotated[str | None, "character between the cells of a table  [default: by the header]"] = None
    decimal: Annotated[str | None, "decimal sign of numbers  [default: point, or comma where it is the only sense]"] = (
        None
    )
    encoding: Annotated[str | None, "encoding of a text  [default: UTF-8, or by its mark]"] = None

    @property
    def names(self) -> list[str]:
        """The columns of observations."""
        return (self.tokens or "token").split(",")

    def read(
        self, path: str | os.PathLike, columns: Sequence[str] | None = None, vocabulary: Vocabulary | None = None
    ) -> Sequences:
        """Sequences of tokens, or of observations in some `columns`, of a file. **Raises:** `DataError`."""
        split = lambda text: None if text is None else [part for part in text.split(",") if part]
        if self.symbols is not None and columns is not None:
            raise DataError("symbols are for tokens, and the columns are numbers; leave them out.")
        if self.symbols is not None and vocabulary is None:
            vocabulary = Vocabulary(tuple(split(self.symbols) or ()))
        return read(
            path, self.tokens or "token", self.sequence, self.time, columns, split(self.missing), vocabulary, self.lines,
            words=self.words, delimiter=self.delimiter, decimal=self.decimal, encoding=self.encoding,
        )  # fmt: skip

    def for_file(self, path: str | os.PathLike) -> "Format":
        """Without the options that files of this kind do not have."""
        foreign = _foreign(pathlib.Path(path).suffix.lower())
        return dataclasses.replace(self, **{name: False if name in ("lines", "words") else None for name in foreign})

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, for another file of the same kind."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(Format)}
        return {name: value for name, value in fields.items() if value is not None and value is not False}


def read(
    path: str | os.PathLike,
    tokens: str = "token",
    sequence: str | None = None,
    time: str | None = None,
    values: Sequence[str] | str | None = None,
    missing: Iterable[str] | str | None = None,
    vocabulary: Vocabulary | Iterable[str] | None = None,
    lines: bool = False,
    *,
    words: bool = False,
    delimiter: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
) -> Sequences:
    """Sequences of a file, by its suffix. `source` of the result says in one line what was read, and what had to be found out.

    * `.txt`: one sequence of characters, line ends included; with `lines=True` one sequence of characters, with
      `words=True` one of whitespace-separated tokens, per non-empty line. `missing` characters or words are gaps.
    * `.csv`, `.tsv`, `.parquet`: a table with a header. Column `tokens` holds the tokens, which are the texts as they stand;
      column `sequence`, if given, names the sequence of each row; column `time` (numbers or ISO dates) orders the rows, and
      a step that is absent from an even grid becomes a gap. An empty cell is a gap, and so are the marks `missing`; where
      none are given, the common ones (NA, NaN, null, …) and −1 in a column of whole numbers. With `values=[columns]` those
      numeric columns are observations instead.
    * `.npy`, `.npz`: integer codes, `[T]` or `[B T]` (−1 is missing, trailing −1 padding); floats are observations. An `.npz`
      holds either `tokens` and `lengths` (sequences one after the other) or one array per sequence.

    `vocabulary` holds all tokens there are, by default those found; `delimiter`, `decimal` and `encoding` are found out.
    **Raises:** `DataError` for what cannot be read so: the file, a column, a number, a time, a token outside the vocabulary.
    """
    path = _checked(pathlib.Path(path))
    suffix = path.suffix.lower()
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        vocabulary = Vocabulary(tuple(vocabulary))
    marks = [missing] if isinstance(missing, str) else None if missing is None else list(missing)
    values = [values] if isinstance(values, str) else values
    _check_options(
        path, sequence=sequence, time=time, delimiter=delimiter, decimal=decimal, encoding=encoding, missing=missing,
        lines=lines or None, words=words or None,
    )  # fmt: skip
    said: list[str] = []
    try:
        if suffix == ".txt":
            if values:
                raise DataError("a text holds tokens, not numbers; write a table with a header (.csv).")
            data = _read_text(path, vocabulary, lines, words, marks or (), encoding, said)
        elif suffix in (".npy", ".npz"):
            data = _read_arrays(path, vocabulary, bool(values))
        else:
            table = read_parquet(path) if suffix == ".parquet" else read_csv(path, delimiter, encoding)
            said = table.said
            data = _from_table(table, tokens, sequence, time, values, marks, vocabulary, decimal)
        _check_seen(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into memory; cut it into smaller files.") from None
    return dataclasses.replace(data, source=f"{path.name}: {'; '.join([_in_words(data), *said])}")


def _foreign(suffix: str) -> tuple[str, ...]:
    """The options that say nothing about a file of this kind."""
    of_tables, of_texts, of_csv = ("sequence", "time", "decimal"), ("lines", "words"), ("delimiter", "encoding")
    match suffix:
        case ".csv" | ".tsv":
            return of_texts
        case ".parquet":
            return (*of_texts, *of_csv)
        case ".txt":
            return (*of_tables, "delimiter")
    return (*of_tables, *of_texts, *of_csv, "missing")


def _check_options(path: pathlib.Path, **given: Any) -> None:
    """**Raises:** `DataError` for an option that says nothing about a file of this kind."""
    for name in _foreign(path.suffix.lower()):
        if given[name] is not None:
            raise DataError(f"{path}: {name} says nothing about a {path.suffix} file; leave it out.")


def _checked(path: pathlib.Path) -> pathlib.Path:
    """The path of a file with something in it, of a kind that can be read; otherwise raises `DataError`."""
    if path.is_dir():
        raise DataError(f"{path} is a directory; give a file ({', '.join(_SUFFIXES)}).")
    if not path.exists():
        raise DataError(f"There is no file {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{path} has the suffix {suffix or 'none'!r}; known are {', '.join(_SUFFIXES)}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    return path


def _check_seen(data: Sequences) -> None:
    """**Raises:** `DataError` for a sequence in which everything is missing."""
    empty = np.flatnonzero(~data.mask.any(axis=1))
    if len(empty):
        name = data.names[empty[0]] if data.names else str(empty[0])
        raise DataError(f"sequence {name} has no observed value; remove it, or mend the file.")


def _in_words(data: Sequences) -> str:
    """What was read."""
    gaps = data.total - data.n_observed
    named = f" of {', '.join(data.columns)}" if data.columns else ""
    what = f"tokens of {data.n_tokens} symbols" if data.is_tokens else f"times{named}"
    several = f"{data.number} sequence{'s' * (data.number > 1)}"
    return f"{data.total:,} {what} in {several}" + (f", {gaps:,} missing" if gaps else "")


def open_tokens(path: str | os.PathLike) -> np.ndarray:
    """A memory-mapped token file: `.npy` (integers) or `.bin` (raw uint16, nanoGPT's). **Raises:** `DataError`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise DataError(f"There is no token file {path}; check the path.")
    try:
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                _check_header(file, path.stat().st_size)
            tokens = np.load(path, mmap_mode="r", allow_pickle=False)
            if tokens.dtype.kind not in "iu" or not tokens.ndim:
                raise DataError(f"it holds {tokens.dtype}{list(tokens.shape)}, not whole numbers in a row.")
            return tokens
        if path.suffix == ".bin":
            return np.memmap(path, dtype=np.uint16, mode="r")
    except Exception as error:  # torn headers raise a dozen kinds
        raise DataError(f"{path} cannot be read as tokens ({' '.join(str(error).split())[:120]}).") from None
    raise DataError(f"{path} is no token file; known endings are .npy (integers) and .bin (raw uint16).")


def _read_text(
    path: pathlib.Path, vocabulary: Vocabulary | None, lines: bool, words: bool, marks: Sequence[str], encoding: str | None,
    said: list[str],
) -> Sequences:  # fmt: skip
    text, found = read_text(path, encoding)
    said += found
    if lines and words:
        raise DataError("a line is read as characters (lines) or as words, not as both.")
    if lines or words:
        units = [line.split() if words else list(line) for line in re.split("\r\n|\n|\r", text) if line.strip()]
    else:
        units = [list(text)]
    units = [[None if symbol in marks else symbol for symbol in unit] for unit in units]
    symbols = {symbol for unit in units for symbol in unit if symbol is not None}
    if not symbols:
        raise DataError("the file holds no token.")
    vocabulary = vocabulary or Vocabulary.collect(symbols)
    where = lambda i: f" of line {i}" if lines or words else ""
    codes = [vocabulary.encode(unit, where(i)) for i, unit in enumerate(units, start=1)]
    return Sequences.from_arrays(codes, vocabulary)


def _read_arrays(path: pathlib.Path, vocabulary: Vocabulary | None, numbers: bool) -> Sequences:
    arrays = _arrays_of(path)
    if not arrays or any(a.size == 0 for a in arrays.values()):
        raise DataError("the file holds an empty array.")
    if set(arrays) == {"tokens", "lengths"}:
        flat, lengths = arrays["tokens"], arrays["lengths"]
        whole = lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths > 0).all()
        if flat.ndim != 1 or not whole or int(lengths.sum(dtype=float)) != len(flat):
            raise DataError(
                f"'lengths' must be whole numbers above 0 that add up to the length of 'tokens', {flat.shape}."
            )
        parts = np.split(flat, np.cumsum(lengths)[:-1])
    else:
        parts = [row for array in arrays.values() for row in (array if array.ndim > 1 else [array])]
    wrong = next((p for p in parts if p.dtype.kind not in "iubf"), None)
    if wrong is not None:
        raise DataError(f"values of type {wrong.dtype} are neither tokens (integers) nor observations (floats).")
    parts = [_without_padding(part.astype(float) if numbers else part) for part in parts]
    data = Sequences.from_arrays(parts, vocabulary)
    if data.is_tokens and vocabulary is None:
        largest = int(data.values.max())
        if largest >= _LARGEST_CODE:
            raise DataError(
                f"it holds code {largest:,}, and every code up to the largest is a token; number the tokens anew, such as by "
                "np.unique(codes, return_inverse=True)."
            )
        data = dataclasses.replace(data, vocabulary=Vocabulary.of_codes(max(largest + 1, 1)))
    return data


def _arrays_of(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy file, whose sizes are looked at before they are read."""
    try:
        if path.suffix.lower() == ".npy":
            with open(path, "rb") as file:
                _check_header(file, path.stat().st_size)
            return {"array": np.load(path, allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > max(_LARGEST_MEMBER, _LARGEST_RATIO * path.stat().st_size):
                    raise DataError(
                        f"{member.filename!r} unpacks to {member.file_size / 2**30:.1f} GiB, {_LARGEST_RATIO} times the size of "
                        "the file or more; save it as .npy, if that is meant."
                    )
                with archive.open(member) as file:
                    _check_header(file, member.file_size)
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for torn files, some of them SyntaxError
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"it cannot be read as a NumPy file without pickled objects: {said or type(error).__name__}."
        ) from None


def _check_header(file: Any, size: int) -> None:
    """Raises `DataError` if an array of this header cannot lie in `size` bytes."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise DataError("it holds pickled objects, which are not read.")
    if math.prod(shape) * dtype.itemsize > size:
        raise DataError(f"its header promises an array {dtype}{list(shape)}, more than the file holds; copy it again.")


def _without_padding(part: np.ndarray) -> np.ndarray:
    """`part` without its trailing missing values, as long as something is left."""
    if part.ndim == 0:
        raise DataError("a NumPy file of sequences needs arrays, not single numbers.")
    seen = part >= 0 if part.dtype.kind in "iu" else np.isfinite(part)
    seen = seen if seen.ndim == 1 else seen.any(-1)
    return part[: int(np.flatnonzero(seen)[-1]) + 1] if seen.any() else part


def _from_table(
    table: Table, tokens: str, sequence: str | None, time: str | None, values: Sequence[str] | None,
    marks: Sequence[str] | None, vocabulary: Vocabulary | None, decimal: str | None,
) -> Sequences:  # fmt: skip
    for name in (*(values or [tokens]), sequence, time):
        if name is not None:
            table.column(name)
    groups: dict[str, list[int]] = {}
    for row, cell in enumerate(
        table.column(sequence) if sequence else ["0"] * len(table.column((values or [tokens])[0]))
    ):
        if cell is None:
            raise DataError(f"the sequence column {sequence!r} is empty in row {row + 1}.")
        groups.setdefault(cell, []).append(row)
    places = in_order(time, table.column(time), groups, table.said) if time else groups
    names = list(groups) if sequence else None
    if values:
        series = np.stack([as_numbers(name, table.column(name), marks, decimal, table.said) for name in values], axis=1)
        series = np.concatenate([series, np.full((1, len(values)), np.nan)])  # the last row stands for an absent step
        parts = [series[[-1 if row is None else row for row in rows]] for rows in places.values()]
        return Sequences.from_arrays(parts, names=names, columns=values)
    symbols = as_symbols(tokens, table.column(tokens), marks, table.said)
    vocabulary = vocabulary or Vocabulary.collect(s for s in symbols if s is not None)
    parts = [vocabulary.encode([None if row is None else symbols[row] for row in rows]) for rows in places.values()]
    return Sequences.from_arrays(parts, vocabulary, names)
