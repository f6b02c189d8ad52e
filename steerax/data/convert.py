"""The one door for data from Python: whatever holds one sequence or several becomes an array or `Sequences`."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from .._errors import DataError
from .._results import is_traced
from .sequences import Sequences, without_mask
from .table import check_names
from .vocabulary import Vocabulary

Wanted = Literal["tokens", "observations"]


def converted(
    data: Any, wanted: Wanted | None = None, vocabulary: Vocabulary | None = None, collect: bool = False
) -> Any:
    """One sequence as an array, or several as `Sequences`; one array of JAX, and `Sequences`, stay what they are.

    Taken are arrays, masked arrays (what they hide is missing), numbers, strings (a token per character), lists of symbols,
    lists of sequences, tensors of torch, and series, columns and frames of pandas, polars and Arrow. Symbols get the codes
    of `vocabulary`; without one they are refused, or, with `collect`, numbered in sorted order.

    **Arguments:** `wanted`: with `"observations"`, whole numbers are numbers, and a hidden one is NaN; with `"tokens"`, they are
    codes, and a hidden one is −1; `None` goes by their type.

    **Raises:** `DataError` for what cannot be read so.
    """
    if isinstance(data, Sequences) or is_traced(data):
        return data
    if _is_jax(data):
        several = data.ndim == 3 or (data.ndim == 2 and data.dtype.kind in "iu" and wanted != "observations")
        return Sequences.from_arrays(list(np.asarray(data)), vocabulary) if several else data
    data = _plain(data, wanted)
    if isinstance(data, Sequences):
        return data
    if isinstance(data, list | tuple) and len(data) and all(_is_sequence(part) for part in data):
        return _several(data, wanted, vocabulary, collect)
    values = _column(data, wanted)
    if not isinstance(values, np.ndarray):
        if vocabulary is None:
            vocabulary = _collected([values], collect)
            return Sequences.from_arrays([vocabulary.encode(values)], vocabulary)
        return vocabulary.encode(values)
    if wanted == "observations" and values.dtype.kind in "bO":  # truth values, and numbers among which some are `None`
        with contextlib.suppress(TypeError, ValueError):  # anything else stays what it is, to be refused
            values = values.astype(np.float64)
    several = values.ndim == 3 or (values.ndim == 2 and values.dtype.kind in "iu" and wanted != "observations")
    return Sequences.from_arrays(list(values), vocabulary) if several else values


def one_frame(found: Any, given: Any, check: Callable[[tuple[str, ...]], None]) -> Any:
    """What `converted` found; a single frame is one sequence, as an array, once `check` has seen its columns."""
    if isinstance(found, Sequences) and found is not given and found.columns and not isinstance(given, list | tuple):
        check(found.columns)
        return found[0]
    return found


def as_sequences(
    data: Any, wanted: Wanted | None = None, vocabulary: Vocabulary | None = None, collect: bool = False
) -> Sequences:
    """The same as `Sequences`, if it is one sequence too. **Raises:** `DataError`."""
    found = converted(data, wanted, vocabulary, collect)
    if isinstance(found, Sequences):
        return found
    found = np.asarray(found)
    found = found.astype(float) if wanted == "observations" and found.dtype.kind in "iub" else found
    return Sequences.from_arrays([found], vocabulary)


def string_of(tokens: Any, n_tokens: int, vocabulary: Vocabulary | None) -> Any:
    """The codes `[T]` of one string of tokens of a model; a traced one stays what it is. **Raises:** `DataError`."""
    if is_traced(tokens):
        return tokens
    found = converted(tokens, "tokens", vocabulary)
    if isinstance(found, Sequences):
        raise DataError(f"One string of tokens is needed; these are {found.number} sequences.")
    return checked_codes(without_mask(found), n_tokens)


def checked_codes(host: np.ndarray, n_tokens: int, several: bool = False) -> np.ndarray:
    """Codes of tokens, time first. **Raises:** `DataError` for another type or rank, or a code outside −1 … V−1."""
    if host.dtype.kind not in "iu" and (host.size or several):
        raise DataError(f"Tokens are integer codes, one per position; got an array {host.dtype}{list(host.shape)}.")
    if host.ndim > 1 and not several:
        raise DataError(f"Tokens of shape {host.shape} are several sequences; wrap them in `Sequences`.")
    host = host.astype(np.int32).T
    if host.size and (host.min() < -1 or host.max() >= n_tokens):
        at = np.argwhere((host < -1) | (host >= n_tokens))[0]
        where = f"position {at[0]}" + (f" of sequence {at[1]}" if len(at) > 1 else "")
        raise DataError(
            f"Token {host[tuple(at)]} at {where} is not a code of the model: codes are 0 … {n_tokens - 1}, "
            "and -1 for a missing token."
        )
    return host


def _collected(parts: list[list], collect: bool) -> Vocabulary:
    symbols = [s for part in parts for s in part if s is not None]
    if not symbols:
        raise DataError("The data hold no token.")
    if not collect:
        raise DataError(
            f"The data hold symbols such as {symbols[0]!r} and nothing says their codes; give codes, or a model with a vocabulary."
        )
    return Vocabulary.collect(symbols)


def _is_jax(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] in ("jax", "jaxlib")


def _is_sequence(part: Any) -> bool:
    """Whether an element of a list is a sequence of its own; a string is a symbol."""
    if isinstance(part, str | bytes) or part is None:
        return False
    return isinstance(part, list | tuple) or (getattr(part, "ndim", 0) or 0) > 0 or hasattr(part, "to_list")


def _plain(data: Any, wanted: Wanted | None) -> Any:
    """An array, a list or a string of what another library holds; frames of several columns become observations."""
    if hasattr(data, "detach") and hasattr(data, "cpu"):  # torch
        tensor = data.detach().cpu()
        return tensor.float().numpy() if "bfloat16" in str(tensor.dtype) else tensor.numpy()
    if hasattr(data, "collect_schema") and hasattr(data, "collect"):  # a lazy frame of polars
        data = data.collect()
    if hasattr(data, "column_names") and hasattr(data, "column"):  # Arrow
        check_names(data.column_names)
        return _frame(list(data.column_names), [data.column(i).to_pylist() for i in range(data.num_columns)], wanted)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):  # pandas and polars
        names = [str(name) for name in data.columns]
        check_names(names)
        return _frame(names, [_listed(data[name]) for name in data.columns], wanted)
    if hasattr(data, "to_pylist"):
        return data.to_pylist()
    if hasattr(data, "to_numpy") and hasattr(data, "dtype"):
        return _listed(data)
    return data


def _listed(column: Any) -> list:
    """The values of a series of pandas or polars, `None` where one is missing."""
    values = column.to_list() if hasattr(column, "to_list") else list(column)
    return [None if _is_missing(value) else value for value in values]


def _is_missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _frame(names: list[str], columns: list[list], wanted: Wanted | None) -> Any:
    """The only column of a frame, if it may hold tokens, or the numbers of all."""
    all_floats = all(isinstance(v, float) for v in columns[0] if v is not None) if columns else False
    if len(columns) == 1 and (wanted == "tokens" or (wanted is None and not all_floats)):
        return columns[0]
    if wanted == "tokens" and columns:
        raise DataError(
            f"The frame has the columns {', '.join(names)}; tokens are one column, such as frame[{names[0]!r}]."
        )
    values = []
    for name, column in zip(names, columns, strict=True):
        wrong = next((v for v in column if not _is_missing(v) and not _is_number(v)), None)
        if wrong is not None:
            raise DataError(
                f"Column {name!r} of the frame holds {str(wrong)[:40]!r}; a frame of several columns is a series of numbers. "
                f"For tokens pass one column, such as frame[{name!r}]."
            )
        values.append([np.nan if _is_missing(v) else float(v) for v in column])
    if not values:
        raise DataError("The frame has no columns.")
    return Sequences.from_arrays([np.asarray(values).T], columns=names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating | np.bool_) or type(value).__name__ == "Decimal"


def _several(parts: Sequence[Any], wanted: Wanted | None, vocabulary: Vocabulary | None, collect: bool) -> Any:
    """Several sequences as `Sequences`; a list of rows of numbers that belong to one series, as an array."""
    plain = [_plain(part, wanted) for part in parts]
    frames = [p for p in plain if isinstance(p, Sequences)]
    if frames:
        if len(frames) < len(plain) or len({f.columns for f in frames}) > 1:
            raise DataError("The frames of a list need the same columns.")
        return Sequences.from_arrays([row for f in frames for row in f], columns=frames[0].columns)
    columns = [_column(part, wanted) for part in plain]
    if all(isinstance(c, np.ndarray) for c in columns):
        flat_lists = all(isinstance(part, list | tuple) for part in parts)
        if wanted == "observations" and flat_lists and len({c.shape for c in columns}) == 1:
            return np.stack(columns)  # [[1.0, 2.0], [3.0, 4.0]] are two times of two channels
        if wanted == "observations":
            columns = [c.astype(float) if c.dtype.kind in "iub" else c for c in columns]
        return Sequences.from_arrays(columns, vocabulary)
    if any(isinstance(c, np.ndarray) and c.size for c in columns):
        raise DataError("Some of the sequences are numbers and some are symbols; give one kind.")
    symbols = [list(c) for c in columns]
    vocabulary = vocabulary or _collected(symbols, collect)
    where = lambda i: f" of sequence {i}"
    return Sequences.from_arrays([vocabulary.encode(s, where(i)) for i, s in enumerate(symbols)], vocabulary)


def _column(data: Any, wanted: Wanted | None) -> Any:
    """Numbers as an array, or symbols as a list with `None` for gaps."""
    if isinstance(data, str):
        return list(data)
    if isinstance(data, np.ma.MaskedArray) and wanted == "observations":
        return np.where(np.ma.getmaskarray(data), np.nan, np.asarray(data.data, float))
    if isinstance(data, np.ndarray) and data.dtype.kind not in "OUST":
        return without_mask(data)
    values = data.tolist() if isinstance(data, np.ndarray) else data
    if not isinstance(values, list | tuple):
        try:
            return without_mask(values)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"A {type(data).__name__} is no sequence ({str(error)[:80]}).") from None
    present = [v for v in values if not _is_missing(v)]
    if any(isinstance(v, str) for v in present):
        odd = next((v for v in present if not isinstance(v, str)), None)
        if odd is not None:
            raise DataError(f"Among the symbols stands {odd!r} of type {type(odd).__name__}; make all of them texts.")
        return [None if _is_missing(v) else str(v) for v in values]
    if (
        len(present) < len(values)
        and all(isinstance(v, int | np.integer) for v in present)
        and wanted != "observations"
    ):
        if wanted is None and any(isinstance(v, float) for v in values):  # NaN among whole numbers
            return np.asarray([np.nan if _is_missing(v) else float(v) for v in values])
        return np.asarray([-1 if _is_missing(v) else v for v in values])
    if (
        len(present) < len(values)
        and wanted == "tokens"
        and all(_is_number(v) and float(v).is_integer() for v in present)
    ):
        return np.asarray([-1 if _is_missing(v) else int(v) for v in values])  # whole numbers that a gap made floats
    if len(present) < len(values) and all(_is_number(v) for v in present):
        return np.asarray([np.nan if _is_missing(v) else float(v) for v in values])
    try:
        return without_mask(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"A {type(data).__name__} is no sequence of numbers or symbols ({str(error)[:80]}).") from None
