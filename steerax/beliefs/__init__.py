"""What a network knows of the process it was trained on: its beliefs read, predicted, exchanged, and made a machine again."""

import importlib
from typing import Any

_HOME = {
    "attention_report": "attention",
    "constrained_belief": "targets",
    "extract": "extraction",
    "knowledge_of": "knowledge",
    "mixed_states": "presentation",
    "picture": "simplex",
    "probe": "probing",
    "second_order": "second_moments",
    "swap": "intervene",
    "wiener": "second_moments",
    "write_html": "page",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
