"""How much faster is a selection on two worker processes than in one process?

    python -m benchmarks.parallel [--repeats 3]

Four chains of 4, 8, 12 and 16 states, each fitted with 150 iterations of Baum–Welch to 400 sequences of 200 tokens, float64. Without an
executor the fits run one after the other, each with all cores; "two workers" are processes that have been started and have
compiled everything (a first selection), "with start" is that first selection.
"""

import argparse
import concurrent.futures
import multiprocessing
import time

import jax
import numpy as np

import steerax as sx

from .timing import machine, write


def seconds(kinds, data, executor, iterations: int) -> float:
    """Of one selection."""
    started = time.perf_counter()
    sx.select(kinds, data, executor=executor, restarts=1, max_iterations=iterations, tolerance=0.0, progress=False).best  # noqa: B018, its criterion is computed too
    return time.perf_counter() - started


def run(repeats: int, iterations: int = 150) -> dict[str, float]:
    """Medians of runs taken in turns, and the two first ones."""
    hmm = sx.models.random_hmm(0, 8, 20)
    data, kinds = sx.sample_sequences(hmm, 1, 400, 200), [sx.HMM(n) for n in (16, 12, 8, 4)]
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = {
            "one process, first": seconds(kinds, data, None, iterations),
            "two workers, with start": seconds(kinds, data, pool, iterations),
        }
        turns = [
            (seconds(kinds, data, None, iterations), seconds(kinds, data, pool, iterations)) for _ in range(repeats)
        ]
    found["one process"], found["two workers"] = np.median(np.array(turns), 0).tolist()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = run(options.repeats)
    for name, value in found.items():
        print(f"{name:<26} {value:.2f} s")
    print(f"speed-up {found['one process'] / found['two workers']:.2f}")
    write("parallel", {"machine": machine(), "seconds": found})
