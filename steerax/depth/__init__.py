"""Depth as time: a transformer as a controlled flow, and what that view tells about a checkpoint.

`analyse` is the report on a trained GPT; `resample` and `tune` change its depth; `risk_bound` says what its training
loss is worth. Rooms: `theory` (toy flows on which every theorem is checked),
`measure` (what is computed of a checkpoint), `change` (other depths and sizes), `report` (text and page).
"""

import importlib

_HOME = {
    "analyse": "analysis",
    "Report": "report.record",
    "write_html": "report.html",
    "costates": "measure.costate",
    "ledger_by_source": "measure.costate",
    "stationarity": "measure.stationarity",
    "flow_distance": "measure.refinement",
    "importance": "measure.importance",
    "resample": "change.resample",
    "Resampled": "change.resample",
    "GroupedGPT": "change.grouped",
    "prune": "change.prune",
    "Pruned": "change.prune",
    "tune": "change.tune",
    "mean_loss": "measure.scoring",
    "risk_bound": "measure.bounds",
    "loss_range": "measure.bounds",
    "telemetry": "measure.telemetry",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'steerax.depth' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return __all__
