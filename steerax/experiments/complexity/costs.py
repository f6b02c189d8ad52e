"""How long calls take and how much memory they need."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any


def in_turns(functions: dict[str, Callable], repeats: int, least: float = 5e-3) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns after a warm-up; a short function is called in a loop of at least `least`."""
    calls = {}
    for name, function in functions.items():
        function()
        started = time.perf_counter()
        function()
        calls[name] = max(1, int(least / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                function()
            times[name].append((time.perf_counter() - started) / calls[name])
    return times


def traced(function: Callable) -> int:
    """Peak bytes that NumPy allocates in a call."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return int(peak)


def temporary(compiled: Any) -> int:
    """Bytes of temporaries and results of a compiled function."""
    memory = compiled.memory_analysis()
    return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)
