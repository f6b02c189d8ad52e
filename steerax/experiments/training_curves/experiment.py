"""Loss curves: the paper's constant rate, and a rate that decays."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...models import two_cycle
from ...report import figures
from ...report.words import Findings, table
from ..networks import HeldOut, Recipe, floor, trained


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


def run(config: Config, seed: int) -> Findings:
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
    said = lambda above: f"{100 * np.median(above):.1f} % (worst {100 * max(above):.1f} %)"
    rows = [[f"{peak:g}", *map(said, by_name.values())] for peak, by_name in ({config.peak: ends} | others).items()]
    numbers = {
        "above_the_exact_filter": ends,
        "medians": {name: float(np.median(above)) for name, above in ends.items()},
        "worst": {name: max(above) for name, above in ends.items()},
        "other_peak_rates": {
            f"{peak:g}": {name: {"all": a, "median": float(np.median(a))} for name, a in above.items()}
            for peak, above in others.items()
        },
        "floor": lowest,
        "losses": {k: v[:, ::size].tolist() for k, v in curves.items()},
    }
    drawn = partial(
        figures.lines,
        curves=[curve(name, losses, size) for name, losses in curves.items()],
        reference=("entropy floor", lowest),
        log_x=True,
        log_y=True,
    )
    return Findings(numbers, {"losses": drawn, "others": table(rows)})


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
        runs.append(losses)
        above.append(HeldOut.of(process, config.length, 512, keys[1], lowest).above(gpt))
    return np.array(runs), above


def curve(name: str, losses: np.ndarray, size: int) -> figures.Line:
    """Median and range over starts of means over `size` steps."""
    means = losses[:, : losses.shape[1] // size * size].reshape(len(losses), -1, size).mean(2)
    x = (np.arange(means.shape[1]) + 1) * size
    return figures.Line(name, x, np.median(means, 0), SCHEDULES[name], means.min(0), means.max(0))
