"""Sampling bounds: how often they hold, how wide they are, and when they say nothing."""

import dataclasses
from functools import partial
from typing import Literal

import jax
import numpy as np

from ...depth.measure.bounds import Coverage, coverage, loss_range, risk_bound
from ...models import two_cycle
from ...report import figures
from ...report.words import Findings, table
from ..networks import Recipe, gpt_scores, held_out, trained

BITS = 8  # of a parameter in the finite class


@dataclasses.dataclass(frozen=True)
class Config:
    """A population of known losses, resampled many times; 1 000 resamples resolve a coverage of 95 % to 0.7 %."""

    resamples: int = 1000
    population: int = 4096
    number: int = 256
    delta: float = 0.05
    steps: int = 1500
    length: int = 32


QUICK = Config(resamples=200, population=512, steps=200)


def run(config: Config, seed: int) -> Findings:
    """Coverage on Bernoulli losses and on the losses of a trained GPT; the certified range of its loss."""
    keys = jax.random.split(jax.random.key(seed))
    process = two_cycle()
    gpt, _ = trained(process, Recipe(8, config.length, config.steps), keys[0])
    scores = gpt_scores(gpt, held_out(process, config.length, config.population, keys[1]))
    losses = -scores.log_likelihoods.sum(1) / scores.scored.sum(1)  # one number per document
    certified = loss_range(gpt)
    found = coverages(config, losses, float(certified), seed)
    wrong = coverage(losses, config.number, float(np.ptp(losses)) / 20, config.delta, "fixed", config.resamples, seed)
    width = partial(risk_bound, range_=certified, delta=config.delta, trivial=float(np.log(2)))
    size = gpt.n_parameters * BITS * np.log(2)
    numbers = np.logspace(2, 7, 26).astype(int).tolist()
    finite = [width("finite", number=n, log_size=size) for n in numbers]
    fixed = [width("fixed", number=n) for n in numbers]
    curves = [
        figures.Line("this network", numbers, [b.right for b in fixed], "filter"),
        figures.Line(f"all {BITS}-bit networks", numbers, [b.right for b in finite], "transformer"),
    ]
    rows = [
        [name, f"{c.covered:.3f}", f"{c.width:.3g}", f"{c.quantile:.3g}", f"{c.looseness:.1f}"]
        for name, c in found.items()
    ]
    return Findings(
        {
            "coverage": {name: dataclasses.asdict(c) | {"looseness": c.looseness} for name, c in found.items()},
            "smallest_coverage": min(c.covered for c in found.values()),
            "wrong_range": wrong.covered,
            "loss_range": float(certified),
            "documents_for_the_finite_class": next((int(b.number) for b in finite if not b.vacuous), None),
            "parameters": gpt.n_parameters,
            "bits": BITS,
        },
        {
            "widths": partial(
                figures.lines, curves=curves, reference=("log 2", float(np.log(2))), log_x=True, log_y=True
            ),
            "coverage": table(rows),
        },
    )


def coverages(config: Config, losses: np.ndarray, certified: float, seed: int) -> dict[str, Coverage]:
    """How often each kind of bound holds, on Bernoulli losses and on those of the network."""
    rng = np.random.default_rng(seed)
    coins = lambda: (rng.random(config.population) < 0.5).astype(float)
    cases: dict[str, tuple[np.ndarray, float, Literal["fixed", "bernstein"]]] = {
        "Bernoulli losses, fixed": (coins(), 1.0, "fixed"),
        "Bernoulli losses, empirical Bernstein": (coins(), 1.0, "bernstein"),
        "GPT losses, fixed": (losses, certified, "fixed"),
        "GPT losses, empirical Bernstein": (losses, certified, "bernstein"),
    }
    return {
        name: coverage(values, config.number, size, config.delta, kind, config.resamples, seed)
        for name, (values, size, kind) in cases.items()
    }
