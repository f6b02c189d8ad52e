"""What does the whole analysis of a checkpoint cost: wall and processor seconds by part, and the largest memory?

A random GPT of 10.7 M parameters (6 layers, 6 heads, width 384, 65 characters) on 64 sequences of 256 tokens; with
--large, GPT-2 small (124 M, 50 257 tokens) on 4 sequences of 256, one of them for the parts of many passes. Peer: one
forward and backward pass over the same tokens. Memory is the most the whole process ever had, compilation included.

--modes instead compares the two memory modes of costates on 8 sequences: seconds of a pass, and the working memory that
the compiler plans for it.
"""

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import steerax as sx
from benchmarks.timing import machine, time_together, write
from steerax.depth.analysis import analyse
from steerax.depth.measure.costate import MEMORY, costates
from steerax.depth.measure.stationarity import block_gradient


def modes(gpt: sx.GPT, tokens: np.ndarray) -> dict:
    """Both memory modes side by side."""
    inputs = jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:])
    passes, planned = {}, {}
    for memory in MEMORY:
        traced: Any = functools.partial(costates, memory=memory)
        run: Any = jax.jit(traced).lower(gpt, *inputs).compile()
        planned[memory] = run.memory_analysis().temp_size_in_bytes / 2**30
        passes[memory] = lambda run=run: jax.block_until_ready(run(gpt, *inputs))
    return {"milliseconds": time_together(passes, budget=30, least=3), "working memory, GiB": planned}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--large", action="store_true")
    options.add_argument("--modes", action="store_true")
    options.add_argument("--quick", action="store_true", help="8 sequences instead of 64")
    chosen = options.parse_args()
    config = sx.GPTConfig(50257, 1024, 12, 12, 768) if chosen.large else sx.GPTConfig(65, 256, 6, 6, 384)
    number = 4 if chosen.large else 8 if chosen.quick else 64
    gpt = sx.GPT(config, key=jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (number, 256)).astype(np.int32)
    if chosen.modes:
        found = modes(gpt, tokens[:8])
        print(found, flush=True)
        write("depth_memory", found | {"machine": machine()})
        return
    few = jnp.asarray(tokens[:4])
    jax.block_until_ready(block_gradient(gpt, few))
    started = time.perf_counter()
    jax.block_until_ready(block_gradient(gpt, few))
    one_pass = (time.perf_counter() - started) * number / len(few)
    started, busy = time.perf_counter(), time.process_time()
    report = analyse(gpt, tokens, sample=1 if chosen.large else 8, batches=2 if chosen.large else 8)
    found = {
        "parameters": gpt.n_parameters,
        "sequences": number,
        "wall seconds": time.perf_counter() - started,
        "processor seconds": time.process_time() - busy,
        "one forward and backward pass, seconds": one_pass,
        "peak memory, GiB": report.peak_memory,
        "seconds by part": report.seconds,
        "machine": machine(),
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    write("depth_cost_large" if chosen.large else "depth_cost", found)


if __name__ == "__main__":
    main()
