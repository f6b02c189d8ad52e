"""Sampling bounds: how often they hold, how wide they are, and when they say nothing."""

import dataclasses

import jax
import numpy as np

from ...depth.bounds import coverage, loss_range, risk_bound
from ...processes import two_cycle
from ...report import figures
from .networks import Recipe, gpt_scores, held_out, trained
from .outcome import Outcome, at_least, at_most

TITLE = "Bounds on the empirical risk"


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
    rng = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.key(seed))
    process = two_cycle()
    gpt, _ = trained(process, Recipe(8, config.length, config.steps), keys[0])
    scores = gpt_scores(gpt, held_out(process, config.length, config.population, keys[1]))
    losses = -scores.log_likelihoods.sum(1) / scores.scored.sum(1)  # one number per document
    certified = loss_range(gpt)
    cases = {
        "Bernoulli losses, fixed": ((rng.random(config.population) < 0.5).astype(float), 1.0, "fixed"),
        "Bernoulli losses, empirical Bernstein": (
            (rng.random(config.population) < 0.5).astype(float),
            1.0,
            "bernstein",
        ),
        "GPT losses, fixed": (losses, float(certified), "fixed"),
        "GPT losses, empirical Bernstein": (losses, float(certified), "bernstein"),
    }
    found = {
        name: coverage(values, config.number, size, config.delta, kind, config.resamples, seed)
        for name, (values, size, kind) in cases.items()
    }
    wrong = coverage(losses, config.number, float(np.ptp(losses)) / 20, config.delta, "fixed", config.resamples, seed)
    smallest = min(c.covered for c in found.values())
    bernoulli = found["Bernoulli losses, fixed"]
    numbers = np.logspace(2, 7, 26).astype(int)
    bits = gpt.n_parameters * 8
    finite = [
        risk_bound(
            "finite",
            number=int(n),
            range_=certified,
            delta=config.delta,
            log_size=bits * np.log(2),
            trivial=float(np.log(2)),
        )
        for n in numbers
    ]
    fixed = [
        risk_bound("fixed", number=int(n), range_=certified, delta=config.delta, trivial=float(np.log(2)))
        for n in numbers
    ]
    first = next((int(b.number) for b in finite if not b.vacuous), None)
    return Outcome(
        TITLE,
        "Sampling bounds of [HuanYuan2026]",
        [
            f"The population is a list of {config.population:,} losses, one per document, so the deviation of every sample of "
            f"{config.number} is known; {config.resamples:,} samples are drawn. The range of the GPT's loss is computed from its "
            "final LayerNorm and unembedding, a proven number.",
            f"The finite class is all settings of the GPT's {gpt.n_parameters:,} parameters with 8 bits each. A bound is vacuous "
            "where it exceeds log 2, the loss of guessing.",
        ],
        [
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
                wrong.covered,
                1 - config.delta,
                f"With a twentieth of the actual spread as the range, coverage is {wrong.covered:.3f}",
            ),
        ],
        [
            figures.lines(
                "Width of the bounds for the trained GPT",
                "Below the dashed line a bound says more than guessing.",
                "documents",
                "nats",
                [
                    figures.Line("this network", numbers, [b.right for b in fixed], "filter"),
                    figures.Line("all 8-bit networks", numbers, [b.right for b in finite], "transformer"),
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
        ],
        {
            "coverage": {name: dataclasses.asdict(c) for name, c in found.items()},
            "wrong_range": wrong.covered,
            "loss_range": float(certified),
            "documents_for_the_finite_class": first,
        },
    )
