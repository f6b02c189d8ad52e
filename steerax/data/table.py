"""Tables of cells: what a CSV or parquet file holds, by column, with nothing converted."""

import codecs
import csv
import io
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .._errors import DataError

# what other programs write for a missing value; recognised, and said, unless the marks are declared
GAP_MARKS = ("NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None", "<NA>", "#N/A")
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*[+-]?(inf|nan|infinity)\s*", re.IGNORECASE)
_MARKS_OF_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class Table(NamedTuple):
    """Cells by column, `None` where one is empty; and what had to be found out to read them, in words."""

    columns: dict[str, list[str | None]]
    said: list[str]

    def column(self, name: str) -> list[str | None]:
        """The cells of a column. **Raises:** `DataError` if there is none of that name."""
        if name not in self.columns:
            raise DataError(f"there is no column {name!r}; the columns are {', '.join(map(repr, self.columns))}.")
        return self.columns[name]


def read_text(path: pathlib.Path, encoding: str | None = None) -> tuple[str, list[str]]:
    """The text of a file: UTF-8, or what its byte-order mark or `encoding` says; and a remark if it is not UTF-8."""
    content = path.read_bytes()
    found = encoding or next((name for mark, name in _MARKS_OF_ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(found), [] if found.startswith("utf-8") else [found.upper()]
    except LookupError:
        raise DataError(
            f"there is no encoding {encoding!r}; utf-8, latin-1 and utf-16 are three that there are."
        ) from None
    except ValueError as error:
        where = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(
            f'the text is not {found.upper()}{where}; save it as UTF-8, or name its encoding, such as encoding="latin-1".'
        ) from None


def read_csv(path: pathlib.Path, delimiter: str | None = None, encoding: str | None = None) -> Table:
    """A table from a text. Without a `delimiter`: a tab in a `.tsv` file; otherwise what a first line `sep=;` says, or a comma
    if the header has one, or a semicolon, tab or bar. Empty lines and comments (`#`) before the header are skipped.

    **Raises:** `DataError` for rows of unlike lengths, or two columns of one name.
    """
    text, said = read_text(path, encoding)
    lines = text.splitlines(keepends=True)
    skipped = 0
    while skipped < len(lines) and (not lines[skipped].strip() or lines[skipped].startswith("#")):
        skipped += 1
    if skipped:
        said.append(f"{skipped} line{'s' * (skipped > 1)} before the header skipped")
    if skipped < len(lines) and (mark := re.fullmatch(r"sep=(.)", lines[skipped].strip())):
        delimiter, skipped = delimiter or mark[1], skipped + 1
    if skipped >= len(lines):
        raise DataError("the table has no header.")
    used = delimiter or _delimiter_of(lines[skipped], path.suffix.lower())
    if len(used) != 1 or used in '"\r\n':
        raise DataError(f"a delimiter is one character, no quote and no line end, not {used!r}.")
    if used != ("\t" if path.suffix.lower() == ".tsv" else ",") and delimiter is None:
        said.append(f"columns separated by {used!r}")
    try:
        rows = list(csv.reader(io.StringIO("".join(lines[skipped:]), newline=""), delimiter=used, strict=True))
    except (csv.Error, ValueError) as error:
        raise DataError(f"the table is not readable: {error}.") from None
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if not body:
        raise DataError("the table has a header but no row.")
    check_names(header)
    wrong = next((i for i, row in enumerate(body) if len(row) not in (len(header), 0)), None)
    if wrong is not None:
        raise DataError(
            f"line {wrong + skipped + 2}: {len(body[wrong])} cells where the header has {len(header)} "
            f"({shortened(', '.join(header))})."
        )
    # a blank line is an empty cell in a table of one column, and nothing otherwise
    body = [row or [""] for row in body if row or len(header) == 1]
    return Table({name: [row[i] or None for row in body] for i, name in enumerate(header)}, said)


def _delimiter_of(header: str, suffix: str) -> str:
    if suffix == ".tsv":
        return "\t"
    outside = re.sub(r'"[^"]*"', "", header)
    return next((mark for mark in ",;\t|" if mark in outside), ",")


def read_parquet(path: pathlib.Path) -> Table:
    """A table from a parquet file; needs pyarrow. Whole numbers that pandas kept as floats, for a gap, are whole again."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError("reading it needs pyarrow; install steerax[parquet].") from None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"the file is not a readable parquet file: {shortened(' '.join(str(error).split()))}."
        ) from None
    check_names(table.column_names)
    return Table({name: [_cell(v) for v in table.column(name).to_pylist()] for name in table.column_names}, [])


def _cell(value) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def check_names(names: Sequence[str]) -> None:
    """**Raises:** `DataError` if two columns have one name."""
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"two columns are called {twice!r}; give every column a name of its own.")


def shortened(text: str, most: int = 80) -> str:
    """A text that a sentence quotes, cut to a length."""
    return text if len(text) <= most else f"{text[:most]}…"


def without_gaps(cells: list[str | None], marks: Iterable[str] | None, said: list[str]) -> list[str | None]:
    """Cells with `None` for those that are marks of a gap: the declared ones, or the common ones, and that is said."""
    known = set(GAP_MARKS if marks is None else marks)
    found = sorted({c for c in cells if c in known}) if known else []
    if found and marks is None:
        said.append(f"{', '.join(map(repr, found))} read as missing")
    return [None if c in known else c for c in cells] if found else cells


def as_symbols(name: str, cells: list[str | None], marks: Iterable[str] | None, said: list[str]) -> list[str | None]:
    """The tokens of a column, written as they stand in the file. In a column of whole numbers −1 is missing too, unless the
    marks are declared.

    **Raises:** `DataError` for a column of numbers with fractions, or without a token.
    """
    cells = without_gaps(cells, marks, said)
    present = [c for c in cells if c is not None]
    if not present:
        raise DataError(f"column {name!r} holds no token.")
    if all(_NUMBER.fullmatch(c) for c in present):
        fraction = next((c for c in present if not float(c).is_integer()), None)
        if fraction is not None:
            raise DataError(
                f"column {name!r} holds {shortened(fraction)}, not a token; for series of numbers name the columns as "
                "values, or on the command line choose --model linear."
            )
    if marks is None and "-1" in present and all(_INTEGER.fullmatch(c) for c in present):
        said.append("'-1' read as missing")
        return [None if c == "-1" else c for c in cells]
    return cells


def as_numbers(name: str, cells: list[str | None], marks: Iterable[str] | None, decimal: str | None, said: list[str]):
    """The numbers of a column, NaN where missing; a decimal comma is recognised where every cell has at most one and none has
    a point, and said.

    **Raises:** `DataError` for what is no number.
    """
    if decimal is not None and len(decimal) != 1:
        raise DataError(f"a decimal sign is one character, not {decimal!r}.")
    cells = without_gaps(cells, marks, said)
    present = [c for c in cells if c is not None]
    strange = next((c for c in present if not _NUMBER.fullmatch(c)), None)
    if decimal is not None or (strange is not None and _has_decimal_commas(present)):
        if decimal is None:
            said.append(f"decimal commas in {name!r}")
        if decimal != ".":
            cells = [None if c is None else c.replace(".", "x").replace(decimal or ",", ".") for c in cells]
            strange = next((c for c in cells if c is not None and not _NUMBER.fullmatch(c)), None)
    if strange is not None:
        hint = ""
        if re.fullmatch(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d*)?\s*", strange):
            hint = '; if the comma is the decimal sign, say decimal=","; if it separates thousands, remove it'
        raise DataError(f"column {name!r} is not numeric: it holds {shortened(strange)!r}{hint}.")
    numbers = np.asarray([np.nan if c is None else float(c) for c in cells])
    infinite = next((c for c, x in zip(cells, numbers, strict=True) if np.isinf(x)), None)
    if infinite is not None:
        raise DataError(
            f"column {name!r} holds {shortened(infinite)}, which is no finite number; leave a missing cell empty."
        )
    return numbers


def _has_decimal_commas(cells: list[str]) -> bool:
    """Whether all cells are numbers with a comma for the point, and one at least cannot be read with thousands."""
    numbers = [re.fullmatch(r"\s*[+-]?\d*(,\d*)?\s*", c) is not None and any(map(str.isdigit, c)) for c in cells]
    sure = any("," in c and not re.fullmatch(r"\s*[+-]?\d{1,3},\d{3}\s*", c) for c in cells)
    return all(numbers) and sure
