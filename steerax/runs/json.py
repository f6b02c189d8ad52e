"""Numbers as JSON values."""

import dataclasses
import math
from typing import Any


def plain(value: Any) -> Any:
    """`value` as JSON values: arrays as lists, records as objects, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    to_list = getattr(value, "tolist", None)
    if to_list is not None:
        return plain(to_list())
    return None if isinstance(value, float) and not math.isfinite(value) else value
