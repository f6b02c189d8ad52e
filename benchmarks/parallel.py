"""How much faster is a back-test on two worker processes than in one process?

    python -m benchmarks.parallel [--repeats 3]

Sixteen windows of 200 of the numbers of a random walk with noise; in each a linear model of one state is fitted and forecasts the
next number. Such fits are too small for one of them to use two cores. "two workers" are processes that have been started and have
compiled everything (a first back-test), "with start" is that first one.
"""

import argparse
import concurrent.futures
import multiprocessing
import time

import jax
import numpy as np

import steerax as sx

from .timing import machine, write

WINDOW = 200


def error_ahead(case: tuple[np.ndarray, int]) -> float:
    """How far off the forecast of the number after a window is."""
    y, start = case
    past = y[start : start + WINDOW]
    fitted = sx.fit(sx.LinearGaussian(1, start="diffuse"), past, max_iterations=100, progress=False)
    return float(y[start + WINDOW, 0] - sx.forecast(fitted.model, past, 1).mean[0, 0])


def back_test(executor: concurrent.futures.Executor | None) -> tuple[float, list[float]]:
    """Seconds, and the errors."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(WINDOW + 200, 1)).cumsum(0) + rng.normal(size=(WINDOW + 200, 1))
    started = time.perf_counter()
    errors = sx.sweep(error_ahead, [(y, start) for start in range(0, 160, 10)], executor)
    return time.perf_counter() - started, errors


def run(repeats: int) -> dict[str, float]:
    """Medians of runs taken in turns, and the two first ones."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        (first, errors), (start, others) = back_test(None), back_test(pool)
        np.testing.assert_array_equal(errors, others)
        turns = [(back_test(None)[0], back_test(pool)[0]) for _ in range(repeats)]
    alone, together = np.median(np.array(turns), 0).tolist()
    return {
        "one process, first": first,
        "two workers, with start": start,
        "one process": alone,
        "two workers": together,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = run(options.repeats)
    for name, value in found.items():
        print(f"{name:<26} {value:.2f} s")
    print(f"speed-up {found['one process'] / found['two workers']:.2f}")
    write("parallel", {"seconds": found, **machine()})
