"""Symbols and their codes."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from .._errors import DataError

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """An ordered set of symbols; symbol `symbols[z]` has code `z`. A missing token has code −1.

    **Raises:** `DataError` if a symbol stands twice or there is none.
    """

    symbols: tuple[str, ...]

    def __post_init__(self):
        if not self.symbols:
            raise DataError("A vocabulary needs at least one symbol.")
        symbol, n = collections.Counter(self.symbols).most_common(1)[0]
        if n > 1:
            raise DataError(f"The vocabulary holds the symbol {symbol!r} twice; remove one.")

    @classmethod
    def of_codes(cls, size: int) -> "Vocabulary":
        """The vocabulary of plain codes 0..size−1, each written as its number."""
        return cls(tuple(str(code) for code in range(size)))

    @classmethod
    def collect(cls, symbols: Iterable[str]) -> "Vocabulary":
        """The sorted distinct symbols; sorted as numbers if all of them are whole ones."""
        distinct = set(symbols)
        if all(_INTEGER.fullmatch(symbol) for symbol in distinct):
            return cls(tuple(sorted(distinct, key=lambda symbol: (int(symbol), symbol))))
        return cls(tuple(sorted(distinct)))

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {symbol: code for code, symbol in enumerate(self.symbols)}

    def encode(self, symbols: Sequence[str | None], where: str = "") -> np.ndarray:
        """Codes `[T]` int32 of `symbols`; `None` is a missing token.

        **Raises:** `DataError` naming the first symbol that is not in the vocabulary, and its position.
        """
        try:
            return np.asarray([-1 if s is None else self._codes[s] for s in symbols], dtype=np.int32)
        except KeyError as error:
            symbol = error.args[0]
            place = f"The token {symbol!r} at position {list(symbols).index(symbol)}{where}"
            shown = ", ".join(repr(s) for s in self.symbols[:8]) + (", …" if len(self) > 8 else "")
            raise DataError(f"{place} is not in the vocabulary of {len(self)} symbols ({shown}); add it.") from None

    def decode(self, codes: Iterable) -> list[str | None]:
        """The symbols of `codes`; −1 gives `None`."""
        return [None if code < 0 else self.symbols[code] for code in codes]
