"""Do a million tokens in one sequence fit in 2 GiB?

64 states, 50 tokens, float64: the filter, the explanation of the last prediction, and one iteration of Baum–Welch, each
in a process of its own; the peak of its resident memory and the time, the import and compilation included.

    python -m benchmarks.long_sequence [--quick]
"""

import argparse
import multiprocessing
import resource
import time

from .timing import machine, write


def measure(task: str, T: int, answer) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    import steerax as sx

    hmm = sx.models.random_hmm(jax.random.key(0), 64, 50)
    tokens = np.asarray(hmm.sample(jax.random.key(1), T)[1])
    start = time.perf_counter()
    if task == "filter":
        found = float(sx.filter(hmm, tokens).log_likelihood) / T
    elif task == "explain":
        e = sx.explain(hmm, tokens, target=hmm.emission[:, :1], method="control")
        found = float(jnp.abs(e.weights).sum())
    else:
        data = sx.Sequences.from_arrays([tokens])
        found = float(sx.fit(hmm, data, jax.random.key(2), max_iterations=1).log_likelihoods[-1]) / T
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    answer.put({"task": task, "T": T, "peak GiB": peak, "seconds": seconds, "value": found})


def run(T: int) -> list[dict]:
    context, rows = multiprocessing.get_context("spawn"), []
    for task in ("filter", "explain", "EM step"):
        answer = context.Queue()
        process = context.Process(target=measure, args=(task, T, answer))
        process.start()
        rows.append(answer.get(timeout=900))
        process.join()
        row = rows[-1]
        print(f"{task:8s} T={T}: peak {row['peak GiB']:.2f} GiB, {row['seconds']:.1f} s, value {row['value']:.6f}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 000 tokens")
    quick = parser.parse_args().quick
    record = {"tasks": run(100_000 if quick else 1_000_000), **machine()}
    write("long_sequence_quick" if quick else "long_sequence", record)
