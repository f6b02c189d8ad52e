"""Do costates with drawn labels rank the heads of a trained GPT as measured removals do?

Peer: measuring every removal (L·H forward passes), and first-order prediction.
Options: --model FOLDER (default: trains a 6 × 64 character GPT on Python's documentation), --quick (500 steps).
"""

import argparse
import time

import jax
import numpy as np
from scipy.stats import spearmanr

from benchmarks import depth_text
from benchmarks.timing import machine, write
from steerax.depth import importance as i
from steerax.depth.scoring import scored_tokens


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    gpt = depth_text.model(chosen.model, steps=500 if chosen.quick else 2500, seed=chosen.seed)
    tokens, targets = scored_tokens(gpt, depth_text.held_out(gpt)[:24])
    started = time.perf_counter()
    measured = np.asarray(i.head_removals(gpt, tokens, targets)).ravel()
    found: dict = {"measured": measured.tolist(), "seconds": {"measured": time.perf_counter() - started}}
    for draws in (1, 4):
        started = time.perf_counter()
        predicted = i.importance(gpt, tokens, targets, jax.random.key(chosen.seed), draws)
        found["seconds"][f"predicted, {draws} draws (with removals of layers)"] = time.perf_counter() - started
        for name, values in (
            ("first order", predicted.first_heads),
            (f"Fisher, {draws} draws", predicted.fisher_heads),
            (f"first order + Fisher, {draws} draws", predicted.heads),
        ):
            found[name] = float(spearmanr(values.ravel(), measured)[0])
            print(f"{name:<36} rank correlation {found[name]:.3f}")
    newton = np.asarray(i.gauss_newton_heads(gpt, tokens, targets)).ravel()
    found["first order + Gauss-Newton"] = float(spearmanr(newton, measured)[0])
    print(f"{'first order + Gauss-Newton':<36} rank correlation {found['first order + Gauss-Newton']:.3f}")
    write("depth_importance", found | {"machine": machine(("scipy",))})


if __name__ == "__main__":
    main()
