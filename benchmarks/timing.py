"""Timing several functions side by side, and writing down what was found with where it was found."""

import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable

RESULTS = pathlib.Path(__file__).parent / "results"


def time_together(functions: dict[str, Callable], budget: float = 3.0, least: int = 5, most: int = 100) -> dict:
    """Median, quartiles, best and number of runs (milliseconds) of each function, taken in turns after a warm-up.

    Taking turns spreads whatever else the machine does over all of them, and a new order each time what one leaves in
    the caches for the next; on a busy machine the best run says most. A function must block until its result is ready.
    """
    import numpy as np

    for function in functions.values():
        function()
    times, order = {name: [] for name in functions}, np.random.default_rng(0)
    began = time.perf_counter()
    while len(next(iter(times.values()))) < least or (
        time.perf_counter() - began < budget and len(next(iter(times.values()))) < most
    ):
        for name in order.permutation(list(functions)):
            start = time.perf_counter()
            functions[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    quartiles = {name: np.percentile(t, [50, 25, 75, 0]) for name, t in times.items()}
    return {
        name: {"median": q[0], "low": q[1], "high": q[2], "best": q[3], "runs": len(times[name])}
        for name, q in quartiles.items()
    }


def machine(packages: tuple[str, ...] = ()) -> dict:
    """Versions and processor, to stand beside the numbers."""
    names = ("steerax", "jax", "numpy", *packages)
    return {
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def read(name: str) -> dict:
    """What `write` left, or an empty record."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, record: dict) -> None:
    """`benchmarks/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
