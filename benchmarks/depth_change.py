"""What does a trained GPT lose when its depth is changed, before and after a short tuning, and does flow tuning help?

Peers, in the same run: keep evenly, keep first, ShortGPT's block influence, greedy measured drop, weight averaging.
Options: --model FOLDER (default: trains a 6 × 64 character GPT on Python's documentation), --layers, --tune STEPS,
--quick (500 training steps, 50 tuning steps).
"""

import argparse

import jax

from benchmarks import depth_text
from benchmarks.timing import machine, write
from steerax.depth.change.resample import SHALLOWER, resample
from steerax.depth.change.tune import tune
from steerax.depth.measure.refinement import flow_distance
from steerax.depth.measure.scoring import mean_loss, scored_tokens


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model")
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--tune", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args()
    steps = 50 if chosen.quick else chosen.tune
    gpt = depth_text.model(chosen.model, steps=500 if chosen.quick else 2500, seed=chosen.seed)
    data, held = depth_text.training(), depth_text.held_out(gpt)[:48]
    calibration = depth_text.windows(gpt, data[0])[:32]
    key = jax.random.key(chosen.seed)
    L = gpt.config.n_layer
    rows: dict = {"unchanged": {"layers": L, "before": mean_loss(gpt, held), "parameters": gpt.n_parameters}}
    methods = [(chosen.layers, m) for m in SHALLOWER] + [(2 * L, m) for m in ("identity", "duplicate", "interpolate")]
    for layers, method in methods:
        made = resample(gpt, layers, calibration, method)
        row = {"layers": layers, "parameters": made.n_parameters, "before": mean_loss(made, held)}
        if steps and method in ("field_average", "refit", "greedy", "identity"):
            row["after"] = mean_loss(tune(made, data, steps, key, progress=False).model, held)
        rows[f"{layers} {method}"] = row
        print(f"{layers:>3} {method:<16}", {k: round(v, 4) for k, v in row.items()}, flush=True)
    few = scored_tokens(gpt, held[:16])
    ks = (1, 2, 3, 4, 8)
    rows["loss by sub-steps"] = flow_distance(gpt, *few, substeps=ks).losses
    if steps:
        tuned = tune(gpt, data, steps, key, substeps=(1, 2), learning_rate=2e-3, progress=False).model
        rows["loss by sub-steps after flow tuning"] = flow_distance(tuned, *few, substeps=ks).losses
    for name in ("loss by sub-steps", "loss by sub-steps after flow tuning"):
        if name in rows:
            rows[name] = {str(k): v for k, v in rows[name].items()}
            print(name, rows[name], flush=True)
    write("depth_change", rows | {"machine": machine(("optax",))})


if __name__ == "__main__":
    main()
