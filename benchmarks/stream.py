"""How many observations a second does a stream take, one at a time and many streams at once, on one core?

    taskset -c 0 python -m benchmarks.stream [--steps 20000]

A chain of 8 states with 8 tokens and a linear model of 2 states, float64. "one stream" is a loop in Python, a call of `step` per
observation; "in scan" the same inside `jax.lax.scan`; "1000 streams" one call per time.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import steerax as sx

from .timing import machine, write


def rates(model, z, many) -> dict[str, float]:
    """Observations per second, medians of five runs."""

    def loop(state, data):
        for one in data:
            state, _ = sx.step(model, state, one)
        return jax.block_until_ready(state)

    @jax.jit
    def scanned(state, data):
        return jax.lax.scan(lambda s, one: (sx.step(model, s, one)[0], None), state, data)[0]

    plain = z.tolist() if z.ndim == 1 else list(z)
    cases = {
        "one stream": (lambda: loop(sx.start(model), plain), len(z)),
        "in scan": (lambda: jax.block_until_ready(scanned(sx.start(model), jnp.asarray(z))), len(z)),
        "1000 streams": (lambda: loop(sx.start(model, 1000), many), many.shape[0] * 1000),
    }
    found = {}
    for name, (run, count) in cases.items():
        run()
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
        found[name] = count / float(np.median(seconds))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    A = np.array([[[0.9, 0.1], [0.0, 0.8]]])
    models = {
        "chain, d=8": sx.models.random_hmm(0, 8, 8),
        "linear, d=2": sx.LinearGaussianModel([0.0, 0.0], np.eye(2), A, [[1.0, 0.0]], 0.1 * np.eye(2), [[0.1]]),
    }
    record = {"cells": {}, **machine(())}
    for name, model in models.items():
        z = np.asarray(sx.sample(model, 1, options.steps)[1])
        many = np.asarray(sx.sample(model, 2, 20, number=1000)[1]).swapaxes(0, 1)
        record["cells"][name] = rates(model, z, many)
        print(name, {case: f"{rate:,.0f}/s" for case, rate in record["cells"][name].items()})
    write("stream", record)
