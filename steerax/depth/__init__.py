"""Depth as time: a transformer as a controlled flow, and what that view tells about a checkpoint.

`analyse` is the report on a trained GPT; `resample` and `tune` change its depth; `risk_bound` says what its training
loss is worth. The modules `field`, `flow`, `control`, `hamiltonian` and `transport` hold toy flows on which every
theorem is checked.
"""

import importlib

_HOME = {
    "analyse": "analyse",
    "Report": "analyse",
    "costates": "costate",
    "ledger_by_source": "costate",
    "stationarity": "stationarity",
    "flow_distance": "refinement",
    "importance": "importance",
    "resample": "resample",
    "Resampled": "resample",
    "GroupedGPT": "grouped",
    "prune": "prune",
    "Pruned": "prune",
    "tune": "tuning",
    "mean_loss": "scoring",
    "risk_bound": "bounds",
    "loss_range": "bounds",
    "telemetry": "telemetry",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'steerax.depth' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return __all__
