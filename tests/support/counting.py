"""A run that a test kills: `python counting.py FOLDER STEPS` makes a recursion and saves after every step."""

import sys

import numpy as np

from steerax.runs import loop
from steerax.runs.folder import RunFolder

SIZE = 20_000  # numbers in a checkpoint, so that most of the time is spent writing


def advance(state, first, count):
    made = []
    for n in range(first, first + count):
        state = (state * 31 + n) % 1_000_003
        made.append(state.sum())
    return state, {"sum": np.asarray(made)}


def run(folder, steps):
    store = loop.Store(RunFolder(folder, {"size": SIZE}, resume=True), lambda s: {"x": s}, lambda a: a["x"], every=1)
    return loop.run(advance, np.arange(SIZE), steps, every=1, hooks=[lambda s: {"seen": s.step}], store=store)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
