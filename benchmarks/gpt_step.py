"""How long does one training step of a GPT take beside torch, at the same dropout?

A step is forward, backward, clipping and AdamW on the same batch shape, float32, on all cores; torch runs its fused
attention and fused AdamW. Both take turns in one process. Wall time depends on what else the machine does; CPU time
less so. Ratios above 1 mean that torch needs longer.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.gpt_step [--quick] [--dropout 0.2]

The environment variable lets the C library use huge pages: it spares both sides most page faults. Without torch only
our own times are printed.
"""

import argparse
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np

from steerax.training.batches import TokenFile
from steerax.training.optimizer import adamw
from steerax.training.step import Chunk, Step, parts_for_cache, run_chunk
from steerax.transformer.gpt import GPT, GPTConfig

from .timing import machine, write

# name: (V, T, L, H, D, B, steps in a timed call, timed calls)
CELLS = {"1 layer, width 8": (65, 64, 1, 1, 8, 64, 100, 15), "6 layers, width 384": (65, 256, 6, 6, 384, 12, 1, 9)}


def stepper(V: int, T: int, L: int, H: int, D: int, B: int, dropout: float, steps: int):
    """(seconds to compile, a function that makes `steps` AdamW steps and returns the last loss)."""
    gpt = GPT(GPTConfig(V, T, L, H, D, dropout=dropout), key=jax.random.key(0))
    optimizer = adamw(10**6, 1e-3, warmup=0)
    tokens = np.random.default_rng(0).integers(0, V, T + 1)
    source = TokenFile(tokens, B, T + 1, V)
    fetched = jnp.asarray(np.random.default_rng(0).integers(0, V, (1, B, T + 1)), jnp.int32)
    # the source is asked for the i-th batch it fetched; one batch serves every step
    repeated = jnp.broadcast_to(fetched, (min(steps, 16), B, T + 1))
    state = (gpt, optimizer.init(gpt))
    step = Step(optimizer, parts_for_cache(gpt.config, (B, T + 1)), "float32", None)
    chunk = Chunk(step, source, repeated, jax.random.key(1), jnp.int32(0), jnp.int32(1))
    started = time.perf_counter()
    state, _ = jax.block_until_ready(run_chunk(chunk, state))
    compiling = time.perf_counter() - started

    def steps_made() -> float:
        nonlocal state
        left, losses = steps, None
        while left:
            count = min(left, len(repeated))
            now = Chunk(chunk.step, source, repeated, chunk.key, jnp.int32(0), jnp.int32(count))
            state, losses = run_chunk(now, state)
            left -= count
        return float(losses[count - 1])

    return compiling, steps_made


def alternate(functions: dict, calls: int, steps: dict) -> dict:
    """Median and quartiles of wall and CPU milliseconds per step, taken in turns after a warm-up."""
    for function in functions.values():
        function()
    times = {name: [] for name in functions}
    for _ in range(calls):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    found = {}
    for name, rows in times.items():
        wall, cpu = 1e3 * np.percentile(np.asarray(rows) / steps[name], [50, 25, 75], axis=0).T
        found[name] = {"wall": list(wall), "cpu": list(cpu)}
    return found


def torch_stepper(shape: tuple, dropout: float, steps: int):
    """The peer, as many steps in a call as ours."""
    from .torch_gpt import stepper as make

    one = make(*shape, dropout)
    return lambda: [one() for _ in range(steps)][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the small network")
    parser.add_argument("--dropout", type=float, default=0.0)
    options = parser.parse_args()
    has_torch = importlib.util.find_spec("torch") is not None
    record = {"dropout": options.dropout, "cells": {}, **machine(("torch",) if has_torch else ())}
    for name, (*shape, steps, calls) in list(CELLS.items())[: 1 if options.quick else None]:
        compiling, ours = stepper(*shape, options.dropout, steps)
        functions = {"steerax": ours}
        if has_torch:
            functions["torch"] = torch_stepper(tuple(shape), options.dropout, steps)
        times = alternate(functions, calls, dict.fromkeys(functions, steps))
        cell = {"compile_seconds": compiling, "milliseconds": times}
        if has_torch:
            cell["torch_over_ours"] = {k: times["torch"][k][0] / times["steerax"][k][0] for k in ("wall", "cpu")}
        record["cells"][name] = cell
        print(f"{name}: compiled in {compiling:.1f} s")
        for who, t in times.items():
            print(
                f"  {who:8s} wall {t['wall'][0]:8.2f} ms ({t['wall'][1]:.2f} to {t['wall'][2]:.2f})   "
                f"cpu {t['cpu'][0]:8.2f} ms ({t['cpu'][1]:.2f} to {t['cpu'][2]:.2f})"
            )
        if has_torch:
            print("  torch / steerax: wall {wall:.2f}, cpu {cpu:.2f}".format(**cell["torch_over_ours"]))
    suffix = "_quick" if options.quick else ""
    write(f"gpt_step{suffix}" + (f"_dropout{options.dropout}" if options.dropout else ""), record)
