"""The bounds of numbers that users give, in Python and on the command line."""

import dataclasses
import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from ._errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, ends included unless `open`; whole ones only if `whole`."""

    low: int | float
    high: int | float = math.inf
    open: bool = False
    whole: bool = False

    def check(self, name: str, value: Any) -> None:
        """**Raises:** `ConfigurationError` if a value lies outside, NaN and what is no number included. A traced number passes."""
        if getattr(value, "shape", None) == ():  # a number of NumPy or JAX
            from ._results import is_traced

            if is_traced(value):
                return
            value = value.item()
        if isinstance(value, numbers.Integral if self.whole else numbers.Real) and not isinstance(value, bool):
            number: Any = value
            inside = self.low < number < self.high or (not self.open and number in (self.low, self.high))
            if inside and (abs(number) < 2**63 if isinstance(value, numbers.Integral) else math.isfinite(number)):
                return
        raise ConfigurationError(f"{name} is {value!r}; it must be {self}.")

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        if math.isfinite(self.high):
            return (
                f"{kind} {'between' if self.open else 'from'} {self.low:,} {'and' if self.open else 'to'} {self.high:,}"
            )
        return f"{kind} {'above' if self.open else 'of at least'} {self.low}"


COUNT = Range(1, 10**9, whole=True)
COUNT_OR_ZERO = Range(0, 10**9, whole=True)
SEED = Range(0, 2**63 - 1, whole=True)
POSITIVE = Range(0, open=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1, open=True)
PROBABILITY = Range(0, 1)

_F = TypeVar("_F", bound=Callable[..., Any])


def bounded(**ranges: Range) -> Callable[[_F], _F]:
    """A function whose numbers of these names are checked when it is called; `None` passes."""

    def decorate(function: _F) -> _F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs).arguments
            for name, bounds in ranges.items():
                if (value := arguments.get(name)) is not None:
                    bounds.check(name, value)
            return function(*args, **kwargs)

        return checked  # pyright: ignore[reportReturnType]

    return decorate


def check_fields(record: Any, prefix: str = "--") -> None:
    """Check the fields of a dataclass that are annotated with a `Range`; `None` is not a value. **Raises:** `ConfigurationError`."""
    for name, hint in typing.get_type_hints(type(record), include_extras=True).items():
        for bounds in getattr(hint, "__metadata__", ()):
            value = getattr(record, name, None)
            if isinstance(bounds, Range) and value is not None:
                bounds.check(f"{prefix}{name.replace('_', '-')}", value)
