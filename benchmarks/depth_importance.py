"""Do costates with drawn labels rank the heads of a trained GPT, and the edges from them, as measured removals do?

Peer: measuring every removal (L·H forward passes for heads, half a pass for each of about (LH)²/2 edges, which are
therefore judged on fewer sequences), and first-order prediction.
Options: --model FOLDER (default: trains a 6 × 64 character GPT on Python's documentation), --edges-only,
--quick (500 steps).
"""

import argparse
import time
from typing import Any

import jax
import numpy as np
from scipy.stats import spearmanr

from benchmarks import depth_text, removals
from benchmarks.timing import machine, write
from steerax.depth.measure import edges as e
from steerax.depth.measure import importance as i
from steerax.depth.measure.scoring import scored_tokens


def judge(found: dict, measured: np.ndarray, predictions: dict[str, np.ndarray]) -> None:
    """Rank correlation of each prediction with what was measured."""
    for name, values in predictions.items():
        correlation: Any = spearmanr(np.asarray(values).ravel(), measured)[0]
        found[name] = float(correlation)
        print(f"{name:<40} rank correlation {found[name]:.3f}", flush=True)


def heads(gpt, tokens, targets, seed: int) -> dict:
    """Heads."""
    started = time.perf_counter()
    measured = np.asarray(removals.head_removals(gpt, tokens, targets)).ravel()
    found: dict = {"measured": measured.tolist(), "seconds": {"measured": time.perf_counter() - started}}
    for draws in (1, 4):
        started = time.perf_counter()
        predicted = i.importance(gpt, tokens, targets, jax.random.key(seed), draws)
        found["seconds"][f"predicted, {draws} draws (with removals of layers)"] = time.perf_counter() - started
        predictions = {
            "first order": predicted.first_heads,
            f"Fisher, {draws} draws": predicted.fisher_heads,
            f"first order + Fisher, {draws} draws": predicted.heads,
        }
        judge(found, measured, predictions)
    judge(
        found, measured, {"first order + Gauss-Newton": np.asarray(removals.gauss_newton_heads(gpt, tokens, targets))}
    )
    return found


def edges(gpt, tokens, targets, seed: int) -> dict:
    """Edges from heads: to later heads, to MLPs, to the read-out."""
    started = time.perf_counter()
    measured = np.asarray([edge.value for edge in in_order(e.edge_removals(gpt, tokens, targets))])
    found: dict = {"number": len(measured), "seconds": {"measured": time.perf_counter() - started}}
    started = time.perf_counter()
    predicted = e.edge_importance(gpt, tokens, targets, jax.random.key(seed), 4)
    values = lambda edges: np.asarray([edge.value for edge in in_order(edges)])
    found["seconds"]["predicted, 4 draws"] = time.perf_counter() - started
    parts = {"first order": predicted.first, "Fisher, 4 draws": predicted.fisher}
    parts |= {"first order + Fisher, 4 draws": predicted.predicted}
    judge(found, measured, {f"edges, {name}": values(part) for name, part in parts.items()})
    strongest = set(np.argsort(-measured)[:20].tolist())
    ours = np.argsort(-values(predicted.predicted))[:20].tolist()
    found["of the 20 strongest"] = len(strongest & set(ours))
    found["measured"] = measured.tolist()
    return found


def in_order(edges: e.Edges) -> list[e.Edge]:
    """Every edge once, always in the same order."""
    return sorted(e.ranked(edges), key=lambda edge: edge[:3])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model")
    options.add_argument("--edges-only", action="store_true")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    gpt = depth_text.model(chosen.model, steps=500 if chosen.quick else 2500, seed=chosen.seed)
    tokens, targets = scored_tokens(gpt, depth_text.held_out(gpt)[:24])
    if not chosen.edges_only:
        write("depth_importance", heads(gpt, tokens, targets, chosen.seed) | {"machine": machine(("scipy",))})
    few = gpt, tokens[:8], targets[:8]
    write("depth_edges", edges(*few, chosen.seed) | {"model": chosen.model, "machine": machine(("scipy",))})


if __name__ == "__main__":
    main()
