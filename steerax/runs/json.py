"""Numbers as JSON values."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any, digits: int | None = None) -> Any:
    """`value` as JSON values: arrays as lists, records as objects, numbers that are not finite as null.

    Real numbers are rounded to `digits` significant digits, if that is given.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, digits) for k, v in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict(), digits)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), digits) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(v, digits) for v in value]
    if (to_list := getattr(value, "tolist", None)) is not None:
        return plain(to_list(), digits)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")
