"""Loss curves: the paper's constant rate, and a rate that decays."""

import dataclasses

import jax
import numpy as np

from ...data.scores import TokenScores
from ...inference.hmm.filter import score_tokens
from ...models import two_cycle
from ...report import figures
from .networks import Recipe, floor, gpt_scores, held_out, trained
from .outcome import Claim, Outcome, at_most, if_enough, other_values

TITLE = "Training curves"


@dataclasses.dataclass(frozen=True)
class Config:
    """The paper's rate is lost; the one of `Recipe` is chosen, `other_peaks` are shown beside it. Five starts show
    the spread."""

    seeds: int = 5
    steps: int = 5000
    decisive_steps: int = 5000
    length: int = 64
    peak: float = 5e-3
    other_peaks: tuple[float, ...] = (2e-3, 1e-2)
    other_seeds: int = 1


QUICK = Config(seeds=2, steps=400, length=32, other_seeds=1)
SCHEDULES = {"constant rate": "baseline", "cosine": "transformer"}


def run(config: Config, seed: int) -> Outcome:
    """The same starts and data under two schedules."""
    lowest = floor(two_cycle(), config.length)
    runs = {name: starts(config, name, config.peak, config.seeds, lowest, seed) for name in SCHEDULES}
    curves = {name: losses for name, (losses, _) in runs.items()}
    ends = {name: above for name, (_, above) in runs.items()}
    others = {
        peak: {name: starts(config, name, peak, config.other_seeds, lowest, seed)[1] for name in SCHEDULES}
        for peak in config.other_peaks
    }
    size = max(1, config.steps // 100)
    return Outcome(
        TITLE,
        "Fig. 5 and App. C.1 of [KudreChangMehta2026]",
        [
            f"One layer, one head, width 8, AdamW with warm-up, no dropout, {config.steps:,} steps on fresh sequences; "
            f"{config.seeds} starts under each schedule with the same peak rate {config.peak:g}. Band: smallest and largest.",
        ],
        [claim(config, name, above) for name, above in ends.items()],
        [
            figures.lines(
                "Training loss",
                "Median and range over starts.",
                "step",
                "nats per token",
                [curve(name, losses, size) for name, losses in curves.items()],
                ("entropy floor", lowest),
                log_x=True,
                log_y=True,
            ),
            table_of({config.peak: ends} | others),
        ],
        {
            "above_the_exact_filter": ends,
            "medians": {name: float(np.median(above)) for name, above in ends.items()},
            "other_peak_rates": {
                f"{peak:g}": {name: {"all": a, "median": float(np.median(a))} for name, a in above.items()}
                for peak, above in others.items()
            },
            "floor": lowest,
            "losses": {k: v[:, ::size].tolist() for k, v in curves.items()},
        },
    )


def starts(
    config: Config, schedule: str, peak: float, number: int, lowest: float, seed: int
) -> tuple[np.ndarray, list[float]]:
    """(losses `[number steps]`, loss at the end above the exact filter as a share of the floor) of independent starts."""
    process = two_cycle()
    recipe = Recipe(8, config.length, config.steps, peak=peak, final=peak if schedule == "constant rate" else None)
    runs, above = [], []
    for i in range(number):
        keys = jax.random.split(jax.random.key(1000 * seed + i))
        gpt, losses = trained(process, recipe, keys[0])
        data = held_out(process, config.length, 512, keys[1])
        exact = score_tokens(process, data).log_likelihoods[:, 1:]
        excess = TokenScores(gpt_scores(gpt, data).log_likelihoods - exact, data.mask[:, 1:]).cross_entropy
        runs.append(losses)
        above.append(excess / lowest)
    return np.array(runs), above


def curve(name: str, losses: np.ndarray, size: int) -> figures.Line:
    """Median and range over starts of means over `size` steps."""
    means = losses[:, : losses.shape[1] // size * size].reshape(len(losses), -1, size).mean(2)
    x = (np.arange(means.shape[1]) + 1) * size
    return figures.Line(name, x, np.median(means, 0), SCHEDULES[name], means.min(0), means.max(0))


def claim(config: Config, name: str, above: list[float]) -> Claim:
    """Whether one schedule reaches the optimum."""
    of_the_paper = name == "constant rate"
    found = at_most(
        f"The GPT converges to the optimal filtering loss with a {name}"
        if of_the_paper
        else "The same with cosine decay",
        "Fig. 5" if of_the_paper else "measured here",
        float(np.median(above)),
        0.01,
        f"Median over {config.seeds} starts {100 * np.median(above):.2f} % of the floor above the exact filter, worst "
        f"{100 * max(above):.1f} %",
        margin=0.04,
    )
    return if_enough(found, config.steps, config.decisive_steps, "training steps")


def table_of(by_peak: dict[float, dict[str, list[float]]]) -> dict:
    """Where the training ends, for every peak rate."""
    said = lambda above: f"{100 * np.median(above):.1f} % (worst {100 * max(above):.1f} %)"
    rows = [[f"{peak:g}", *(said(found[name]) for name in SCHEDULES)] for peak, found in by_peak.items()]
    return other_values("the learning rate", ["peak rate", *(f"{name}: above the filter" for name in SCHEDULES)], rows)
