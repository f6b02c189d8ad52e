"""Too few states: a learned hidden Markov model against a GPT of the same width."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...inference.hmm.fit import fit_tokens
from ...inference.kinds import HMM
from ...models import sample_sequences, two_cycle
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from ...report.words import Findings, table
from ..networks import HeldOut, Recipe, floor, trained


@dataclasses.dataclass(frozen=True)
class Config:
    """Around the true number of states, 8; five seeds, because Baum-Welch and small networks have poor optima.

    The paper's stored text lost the process and the dimensions. `others` (ℓ, n₀) are processes with another number of
    states, tried at half of it.
    """

    dimensions: tuple[int, ...] = (2, 4, 8, 12)
    few: int = 4  # the dimension that the claims are about
    seeds: int = 5
    decisive_seeds: int = 5
    length: int = 64
    steps: int = 5000
    decisive_steps: int = 5000
    starts: int = 2  # of each GPT; at d = 4 the better one ends 0.2 to 37 % above the floor
    training: int = 400  # sequences for Baum-Welch
    restarts: int = 5
    others: tuple[tuple[int, int], ...] = ((7, 3), (9, 4))
    other_seeds: int = 1


QUICK = Config(dimensions=(2, 4, 8), seeds=1, length=32, steps=500, starts=1, training=100, restarts=2, other_seeds=1)
Losses = dict[str, np.ndarray]  # "HMM" and "GPT" -> share of the floor above the true filter [dimensions seeds]


def run(config: Config, seed: int) -> Findings:
    """Learn both models at every dimension and score them on the same fresh sequences."""
    above = compare(config, two_cycle(), config.dimensions, config.seeds, seed)
    others = {
        f"ℓ = {l}, n₀ = {n}, d = {l // 2}": compare(config, two_cycle(l, n), (l // 2,), config.other_seeds, seed)
        for l, n in config.others
    }
    medians = {name: np.median(values, axis=1) for name, values in above.items()}
    few = config.dimensions.index(config.few)
    curves = [
        figures.Line(name, config.dimensions, medians[name], role, above[name].min(1), above[name].max(1))
        for name, role in (("HMM", "dual"), ("GPT", "transformer"))
    ]
    chosen = {f"ℓ = 8, n₀ = 4, d = {config.few}": {name: values[[few]] for name, values in above.items()}}
    rows = [
        [label, *(f"{100 * np.median(found[name]):.1f} %" for name in ("HMM", "GPT"))]
        for label, found in (chosen | others).items()
    ]
    numbers = {
        "dimensions": list(config.dimensions),
        "above_the_true_filter": {k: v.tolist() for k, v in above.items()},
        "medians": {k: v.tolist() for k, v in medians.items()},
        "hmm_with_few_states": float(medians["HMM"][few]),
        "gpt_with_few_dimensions": float(medians["GPT"][few]),
        "best_with_enough_states": float(medians["HMM"][np.array(config.dimensions) >= 8].min()),
        "other_processes": {
            name: {k: {"all": v.tolist(), "median": float(np.median(v))} for k, v in found.items()}
            for name, found in others.items()
        },
        "floor": floor(two_cycle(), config.length),
    }
    return Findings(numbers, {"losses": partial(figures.lines, curves=curves, log_y=True), "others": table(rows)})


def compare(config: Config, process: HiddenMarkovModel, dimensions: tuple[int, ...], seeds: int, seed: int) -> Losses:
    """Both kinds of model at every dimension, every seed."""
    lowest = floor(process, config.length)
    above = {name: np.zeros((len(dimensions), seeds)) for name in ("HMM", "GPT")}
    for i in range(seeds):
        keys = jax.random.split(jax.random.key(1000 * seed + i), 4)
        training = sample_sequences(process, keys[0], config.training, config.length + 1)
        fresh = HeldOut.of(process, config.length, 512, keys[1], lowest)
        for j, d in enumerate(dimensions):
            hmm = fit_tokens(
                HMM(d),
                training,
                keys[2],
                restarts=config.restarts,
                pseudocounts=0.01,
                max_iterations=300,
                progress=False,
            ).model
            gpt, _ = trained(process, Recipe(d, config.length, config.steps, starts=config.starts), keys[3])
            above["HMM"][j, i], above["GPT"][j, i] = fresh.above(hmm), fresh.above(gpt)
    return above
