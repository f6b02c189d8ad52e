"""On how many seeds does field averaging beat the best measured drop, and what is left of that at equal parameters?

Trains a 6 × 64 character GPT per seed (--steps, default 800) and goes to 4 layers; calibration and held-out windows are
those of depth_change, whose network is seed 0. Peers: the best of all subsets by measured loss and its ridge refit
(both with fewer parameters). On the first --tuned seeds also field averaging and the network at its old depth without
their cheapest heads and neurons, so that they have as few parameters; all losses after --tune steps; and flow tuning:
the loss with every layer in 1 and in 2 sub-steps, before and after.

A seed that is in the results already, made with the same steps, is not run again. --models FOLDER keeps the networks.
"""

import argparse
import itertools
import json
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import steerax as sx
from benchmarks import depth_text
from benchmarks.timing import machine, read, write
from steerax.depth.change.prune import prune
from steerax.depth.change.resample import resample
from steerax.depth.change.tune import batch_loss, tune
from steerax.depth.measure.scoring import mean_loss

ALL, FEWER = "field_average", "field_average pruned"
PEERS = (("best_subset", ALL), ("refit", ALL), ("best_subset", FEWER), ("refit", FEWER), ("pruned", FEWER))


def trained(folder: str | None, steps: int, seed: int) -> sx.GPT:
    """The network of a seed, from the folder if it is kept there."""
    place = folder and pathlib.Path(folder) / f"seed{seed}-{steps}"
    if place and place.exists():
        return sx.load(place)
    gpt = depth_text.model(None, steps, seed)
    if place:
        sx.save(gpt, place)
    return gpt


def row_of(gpt: sx.GPT, seed: int, layers: int, tuning: int) -> dict[str, Any]:
    """Losses and parameters on one network of every method; without `tuning` only those that need none."""
    data, held, key = depth_text.training(), depth_text.held_out(gpt)[:48], jax.random.key(seed)
    calibration = depth_text.windows(gpt, data[0])[:32]
    made: dict[str, Any] = {m: resample(gpt, layers, calibration, m) for m in (ALL, "best_subset", "refit")}
    if tuning:
        few = made["best_subset"].n_parameters
        made[FEWER] = prune(made[ALL], few, calibration, key)
        made["pruned"] = prune(gpt, few, calibration, key)
    row: dict[str, Any] = {"seed": seed, "unchanged": mean_loss(gpt, held)}
    for name, network in made.items():
        row[name] = {"parameters": network.n_parameters, "before": mean_loss(network, held)}
        if tuning:
            row[name]["after"] = mean_loss(tune(network, data, tuning, key, progress=False).model, held)
    if tuning:
        loss = eqx.filter_jit(batch_loss)
        by_substeps = lambda gpt: {str(k): float(loss(gpt, jnp.asarray(held), k)) for k in (1, 2)}
        run = tune(gpt, data, tuning, key, substeps=(1, 2), learning_rate=2e-3, progress=False)
        row["flow"] = {"before": by_substeps(gpt), "after": by_substeps(run.model)}
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=800)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--tune", type=int, default=200)
    options.add_argument("--tuned", type=int, default=2)
    options.add_argument("--models")
    options.add_argument("--quick", action="store_true", help="two seeds of 200 steps; one tuned for 20 steps")
    chosen = options.parse_args()
    seeds, steps, tuning = (2, 200, 20) if chosen.quick else (chosen.seeds, chosen.steps, chosen.tune)
    tuned = 1 if chosen.quick else chosen.tuned
    name = "depth_seeds_quick" if chosen.quick else "depth_seeds"
    settings = {"steps": steps, "layers": chosen.layers, "tuning": tuning}
    kept = read(name)
    rows = {r["seed"]: r for r in kept["rows"]} if {k: kept.get(k) for k in settings} == settings else {}
    for seed in range(1, seeds + 1):
        if seed not in rows or (seed <= tuned and "after" not in rows[seed][ALL]):
            gpt = trained(chosen.models, steps, seed)
            rows[seed] = row_of(gpt, seed, chosen.layers, tuning if seed <= tuned else 0)
        print(json.dumps(rows[seed]), flush=True)
        wins = {}
        for (peer, ours), time in itertools.product(PEERS, ("before", "after")):
            pairs = [
                (r[ours][time], r[peer][time])
                for r in rows.values()
                if all(time in r.get(name, {}) for name in (ours, peer))
            ]
            wins[f"{ours} <= {peer}, {time}"] = f"{sum(a <= b for a, b in pairs)} of {len(pairs)}"
        found = {"rows": [rows[k] for k in sorted(rows)], "wins": wins, "machine": machine(("optax",))}
        write(name, settings | found)
    print(json.dumps(wins, indent=1))


if __name__ == "__main__":
    main()
