"""On how many seeds does field averaging beat the best measured drop before any tuning?

Trains a 6 × 64 character GPT per seed (--steps, default 800) and goes to 4 layers; calibration and held-out windows are
those of depth_change. Peers: the best of all subsets by measured loss, and its ridge refit (fewer parameters).
"""

import argparse

from benchmarks import depth_text
from benchmarks.timing import machine, write
from steerax.depth.resample import resample
from steerax.depth.scoring import mean_loss


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=800)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--quick", action="store_true", help="two seeds of 200 steps")
    chosen = options.parse_args()
    seeds, steps = (2, 200) if chosen.quick else (chosen.seeds, chosen.steps)
    rows = []
    for seed in range(1, seeds + 1):
        gpt = depth_text.model(None, steps, seed)
        held = depth_text.held_out(gpt)[:48]
        calibration = depth_text.windows(gpt, depth_text.training()[0])[:32]
        row = {"seed": seed, "unchanged": mean_loss(gpt, held)}
        for method in ("field_average", "best_subset", "refit"):
            row[method] = mean_loss(resample(gpt, chosen.layers, calibration, method), held)
        rows.append(row)
        print({name: round(value, 4) for name, value in row.items()}, flush=True)
    wins = {peer: sum(r["field_average"] <= r[peer] for r in rows) for peer in ("best_subset", "refit")}
    print(f"field averaging at least as good on {wins} of {seeds} seeds")
    write("depth_seeds", {"steps": steps, "rows": rows, "wins": wins, "machine": machine()})


if __name__ == "__main__":
    main()
