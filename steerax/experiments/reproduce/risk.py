"""Sampling bounds: how often they hold, how wide they are, and when they say nothing."""

import dataclasses
from functools import partial
from typing import Literal

import jax
import numpy as np

from ...depth.measure.bounds import Coverage, coverage, loss_range, risk_bound
from ...models import two_cycle
from ...report import figures
from .networks import Recipe, gpt_scores, held_out, trained
from .outcome import Claim, Outcome, at_least, at_most

TITLE = "Bounds on the empirical risk"
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


def run(config: Config, seed: int) -> Outcome:
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
    return Outcome(
        TITLE,
        "Sampling bounds of [HuanYuan2026]",
        [
            f"The population is a list of {config.population:,} losses, one per document, so the deviation of every sample of "
            f"{config.number} is known; {config.resamples:,} samples are drawn. The range of the GPT's loss is computed from its "
            "final LayerNorm and unembedding, a proven number.",
            f"The finite class is all settings of the GPT's {gpt.n_parameters:,} parameters with {BITS} bits each. A bound is vacuous "
            "where it exceeds log 2, the loss of guessing.",
        ],
        claims(config, found, wrong.covered),
        pictures(config, found, numbers, fixed, finite),
        {
            "coverage": {name: dataclasses.asdict(c) | {"looseness": c.looseness} for name, c in found.items()},
            "wrong_range": wrong.covered,
            "loss_range": float(certified),
            "documents_for_the_finite_class": next((int(b.number) for b in finite if not b.vacuous), None),
            "parameters": gpt.n_parameters,
        },
    )


def claims(config: Config, found: dict[str, Coverage], wrong: float) -> list[Claim]:
    """Coverage and tightness as predicates."""
    smallest = min(c.covered for c in found.values())
    bernoulli = found["Bernoulli losses, fixed"]
    return [
        at_least(
            f"Each bound holds with probability at least {1 - config.delta:.2f}",
            "sampling bounds",
            smallest,
            1 - config.delta,
            f"Smallest coverage {smallest:.3f} over {len(found)} cases",
        ),
        at_most(
            "For Bernoulli losses the bound is at most ten times the actual quantile",
            "measured here",
            bernoulli.looseness,
            10,
            f"{bernoulli.looseness:.1f} times",
        ),
        at_most(
            "A range that is too small is caught by the coverage",
            "measured here",
            wrong,
            1 - config.delta,
            f"With a twentieth of the actual spread as the range, coverage is {wrong:.3f}",
        ),
    ]


def pictures(config: Config, found: dict[str, Coverage], numbers: list[int], fixed: list, finite: list) -> list[dict]:
    """Widths against the number of documents, and the coverages."""
    return [
        figures.lines(
            "Width of the bounds for the trained GPT",
            "Below the dashed line a bound says more than guessing.",
            "documents",
            "nats",
            [
                figures.Line("this network", numbers, [b.right for b in fixed], "filter"),
                figures.Line(f"all {BITS}-bit networks", numbers, [b.right for b in finite], "transformer"),
            ],
            ("log 2", float(np.log(2))),
            log_x=True,
            log_y=True,
        ),
        figures.table(
            "Coverage and tightness",
            f"Samples of {config.number}; width over the actual quantile.",
            ["case", "coverage", "width", "quantile", "looseness"],
            [
                [name, f"{c.covered:.3f}", f"{c.width:.3g}", f"{c.quantile:.3g}", f"{c.looseness:.1f}"]
                for name, c in found.items()
            ],
        ),
    ]


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
