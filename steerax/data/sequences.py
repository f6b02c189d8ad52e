"""A data set: sequences of tokens or of observations, of unequal length and with gaps."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .._bounds import COUNT, SEED, SHARE, bounded
from .._errors import DataError
from .vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """`B` sequences, padded to the longest: tokens (int32 `[B T]`) or observations (float64 `[B T p]`).

    A missing token is −1 and a missing observation NaN. Padding looks the same and is told apart by `lengths`.
    Build one with `Sequences.from_arrays` or `read`, which check the data.

    **Attributes:** `values`; `lengths`, int `[B]`; `vocabulary`, or `None` for observations and for plain codes;
    `names`, one per sequence, or `None`; `columns`, the names of the channels of observations, or `None`; `source`, one line
    about the file they were read from; `devices`, over which verbs spread the sequences, see `over`; `n_inputs`, how
    many of the last columns are known inputs, which do not count as observed.
    """

    values: np.ndarray
    lengths: np.ndarray
    vocabulary: Vocabulary | None = None
    names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    source: str = ""
    devices: tuple[Any, ...] | None = None
    n_inputs: int = 0

    @classmethod
    def from_arrays(
        cls,
        arrays: Iterable,
        vocabulary: Vocabulary | None = None,
        names: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> "Sequences":
        """Sequences from a list of arrays: integer `[T_i]` for tokens, float `[T_i]` or `[T_i p]` for observations.

        Float arrays are observations, so tokens with gaps are integers with −1. What a masked array hides is missing.

        **Raises:** `DataError` for an empty list, unlike arrays, infinite values, or a code outside the vocabulary.
        """
        if isinstance(arrays, np.ndarray) and arrays.ndim < 2:
            raise DataError("from_arrays takes a list of arrays, one per sequence; wrap a single array as [array].")
        parts = [without_mask(a) for a in arrays]
        if not parts:
            raise DataError("The data hold no sequence; give at least one.")
        if all(p.dtype.kind in "iub" for p in parts):
            parts = [_checked_tokens(p, i, vocabulary) for i, p in enumerate(parts)]
        else:
            parts = [_checked_observations(p, i) for i, p in enumerate(parts)]
            widths = {p.shape[1] for p in parts}
            if len(widths) > 1:
                raise DataError(f"Sequences have {sorted(widths)} channels; every sequence needs the same number.")
        lengths = np.asarray([len(p) for p in parts])
        fill = -1 if parts[0].dtype == np.int32 else np.nan
        values = np.full((len(parts), int(lengths.max()), *parts[0].shape[1:]), fill, dtype=parts[0].dtype)
        for row, part in zip(values, parts, strict=True):
            row[: len(part)] = part
        as_tuple = lambda names: None if names is None else tuple(names)
        return cls(values, lengths, vocabulary, as_tuple(names), as_tuple(columns))

    def __post_init__(self):
        if len(self.values) != len(self.lengths):
            raise DataError(f"{len(self.values)} sequences but {len(self.lengths)} lengths.")
        if self.names is not None and len(self.names) != len(self.values):
            raise DataError(f"{len(self.values)} sequences but {len(self.names)} names.")
        if self.columns is not None and (self.is_tokens or len(self.columns) != self.values.shape[2]):
            raise DataError(f"{len(self.columns)} names of columns do not fit values of shape {self.values.shape}.")

    @property
    def is_tokens(self) -> bool:
        """True for tokens, False for observations."""
        return self.values.dtype.kind == "i"

    @property
    def number(self) -> int:
        """Number of sequences `B`."""
        return len(self.values)

    @property
    def max_length(self) -> int:
        """Length `T` of the longest sequence."""
        return self.values.shape[1]

    @property
    def total(self) -> int:
        """Number of positions in all sequences, gaps included."""
        return int(self.lengths.sum())

    @functools.cached_property
    def n_observed(self) -> int:
        """Number of positions at which something is observed."""
        return int(self.mask.sum())

    @functools.cached_property
    def n_tokens(self) -> int:
        """Size `V` of the vocabulary: given, or the largest code plus one."""
        if not self.is_tokens:
            raise DataError("Observations have no vocabulary; n_tokens is for token data.")
        return len(self.vocabulary) if self.vocabulary is not None else int(self.values.max(initial=-1)) + 1

    @functools.cached_property
    def inside(self) -> np.ndarray:
        """Bool `[B T]`: the position lies inside its sequence."""
        return np.arange(self.max_length) < self.lengths[:, None]

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """Bool `[B T]`: inside its sequence and observed (for observations: at least one channel)."""
        seen = (
            self.values >= 0
            if self.is_tokens
            else np.isfinite(self.values[..., : self.values.shape[-1] - self.n_inputs]).any(-1)
        )
        return self.inside & seen

    @property
    def has_gaps(self) -> bool:
        """True if something is missing inside a sequence."""
        return self.n_observed < self.total

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[index, : self.lengths[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(self.number))

    def select(self, indices: Sequence[int] | np.ndarray | Any) -> "Sequences":
        """The sequences at `indices`, in that order, or those for which a mask `[B]` is true, padded to their own longest.

        **Raises:** `DataError` for no sequence, a number outside −B … B−1, a mask of another length, or what is neither.
        """
        indices = _numbers_of(indices, self.number)
        if not len(indices):
            raise DataError("The selection holds no sequence.")
        lengths = self.lengths[indices]
        names = None if self.names is None else tuple(self.names[i] for i in indices)
        values = self.values[indices, : max(int(lengths.max()), 0)]
        return dataclasses.replace(self, values=values, lengths=lengths, names=names)

    def in_codes_of(self, vocabulary: Vocabulary) -> "Sequences":
        """The same symbols in the codes of another vocabulary; plain codes stay. **Raises:** `DataError` for another symbol."""
        if self.vocabulary is None or self.vocabulary.symbols == vocabulary.symbols or not self.is_tokens:
            return self
        used = np.unique(self.values[self.mask])
        codes = np.full(len(self.vocabulary) + 1, -1, np.int32)  # the last one for a gap
        codes[used] = vocabulary.encode([self.vocabulary.symbols[code] for code in used])
        return dataclasses.replace(self, values=codes[self.values], vocabulary=vocabulary)

    @bounded(fraction=SHARE, seed=SEED)
    def split(self, fraction: float, seed: int = 0) -> tuple["Sequences", "Sequences"]:
        """(training, held-out) sequences; `fraction` of the sequences, at least one, is held out at random.

        **Raises:** `DataError` with fewer than two sequences (`Sequences.cut` makes several of one long one).
        """
        if self.number < 2:
            raise DataError("A single sequence cannot be split by sequences; cut it into pieces first.")
        held_out = min(max(1, round(fraction * self.number)), self.number - 1)
        order = np.random.default_rng(seed).permutation(self.number)
        return self.select(np.sort(order[held_out:])), self.select(np.sort(order[:held_out]))

    @bounded(length=COUNT)
    def cut(self, length: int) -> "Sequences":
        """Every sequence cut into consecutive pieces of at most `length` positions, in order."""
        pieces = [part[i : i + length] for part in self for i in range(0, max(len(part), 1), length)]
        return dataclasses.replace(
            Sequences.from_arrays(pieces, self.vocabulary, columns=self.columns), devices=self.devices
        )

    def over(self, devices: Iterable[Any] | Any = None) -> "Sequences":
        """The same sequences, spread by verbs over devices of JAX (all of them by default, or one): each device holds and works
        through a share of the sequences.

        The numbers are those of one device to rounding, whatever the number of sequences. With several processes
        (`jax.distributed`) each of them calls this with the same data. **Raises:** `DataError` for no device, or one given twice.
        """
        import jax

        given = jax.devices() if devices is None else devices
        several = isinstance(given, Iterable) and not isinstance(given, str)
        chosen = tuple(given if several else (given,))
        if not (chosen and all(isinstance(d, jax.Device) for d in chosen) and len(set(chosen)) == len(chosen)):
            raise DataError(f"{given!r} is not one or several different devices of JAX; jax.devices() lists them.")
        return dataclasses.replace(self, devices=chosen)

    def __repr__(self) -> str:
        kind = f"tokens of {self.n_tokens} symbols" if self.is_tokens else f"{self.values.shape[2]} channels"
        missing = f", {self.total - self.n_observed} missing" if self.has_gaps else ""
        return f"Sequences({self.number} sequences, {self.total} positions{missing}, {kind})"


def _numbers_of(indices: Any, number: int) -> np.ndarray:
    """Numbers of sequences, given as such or by a mask. **Raises:** `DataError` as `Sequences.select`."""
    said = f"A selection is numbers of sequences, {-number} … {number - 1}, or a mask of {number} truth values"
    try:
        chosen = np.asarray(indices)
    except ValueError:  # of unlike lengths
        raise DataError(f"{said}; got {indices!r}.") from None
    if chosen.size == 0 and chosen.ndim == 1:
        return np.zeros(0, int)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
        raise DataError(f"{said}; got an array {chosen.dtype}{list(chosen.shape)}.")
    if chosen.dtype == bool:
        if len(chosen) != number:
            raise DataError(f"{said}; got a mask of {len(chosen)}.")
        return np.flatnonzero(chosen)
    outside = (chosen < -number) | (chosen >= number)
    if outside.any():
        raise DataError(f"{said}; got {chosen[outside][0]}.")
    return chosen.astype(int)


def without_mask(values: Any) -> np.ndarray:
    """An array on the host; what a masked array hides is missing, -1 among integers and NaN among floats."""
    if not isinstance(values, np.ma.MaskedArray):
        try:
            return np.asarray(values)
        except ValueError:  # of unlike lengths
            raise DataError(
                "A nested list has rows of unlike lengths; pass a list of arrays, one per sequence."
            ) from None
    hidden, shown = np.ma.getmaskarray(values), np.asarray(values.data)
    if shown.dtype.kind in "iu":
        return np.where(hidden, -1, shown.astype(np.int64))
    return np.where(hidden, np.nan, shown)


def _checked_tokens(part: np.ndarray, index: int, vocabulary: Vocabulary | None) -> np.ndarray:
    if part.ndim != 1:
        raise DataError(f"Sequence {index} has shape {part.shape}; tokens are one integer per position.")
    if part.size and (part.min() < -1 or part.max() >= 2**31 - 1):
        raise DataError(f"Sequence {index} holds {part.min()} to {part.max()}; tokens are codes ≥ 0, or −1 for a gap.")
    if vocabulary is not None and part.size and part.max() >= len(vocabulary):
        raise DataError(f"Sequence {index}: token {part.max()} at position {part.argmax()} is not in the vocabulary.")
    return part.astype(np.int32)


def _checked_observations(part: np.ndarray, index: int) -> np.ndarray:
    try:
        if part.dtype.kind == "c":
            raise TypeError
        part = part.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"Sequence {index} holds values of type {part.dtype}, not numbers.") from None
    part = part[:, None] if part.ndim == 1 else part
    if part.ndim != 2:
        raise DataError(f"Sequence {index} has shape {part.shape}; observations are [T] or [T channels].")
    if np.isinf(part).any():
        where = int(np.isinf(part).any(-1).argmax())
        raise DataError(f"Sequence {index} is infinite at position {where}; mark a missing value by NaN.")
    return part
