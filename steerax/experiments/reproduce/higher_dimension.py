"""The larger two-cycle process: the same measurements, and whether the control is periodic."""

import dataclasses

import jax
import numpy as np

from ...processes import two_cycle
from ...report import figures
from .networks import Recipe
from .outcome import Outcome, at_least, at_most
from .patterns import period
from .study import pictures, study
from .weights import measure

TITLE = "A higher-dimensional two-cycle process"


@dataclasses.dataclass(frozen=True)
class Config:
    """Twice the states and twice the length of the default process; gcd(16, 7) = 1 keeps it aperiodic."""

    long_length: int = 16
    short_zeros: int = 6
    length: int = 128
    steps: int = 3000
    samples: int = 64


QUICK = Config(long_length=8, short_zeros=4, length=48, steps=800, samples=32)


def run(config: Config, seed: int) -> Outcome:
    """Train, compare, and measure the autocorrelation of the control."""
    process = two_cycle(config.long_length, config.short_zeros)
    recipe = Recipe(config.long_length, config.length, config.steps)
    found = study(process, recipe, config.samples, jax.random.key(seed))
    numbers = measure(found, config.short_zeros)
    profile = found.control[-1]
    lag, strength = period(profile, 2 * config.long_length)
    column = np.array([found.control[s + 1 :, s].mean() for s in range(config.length)])
    numbers |= {
        "period": lag,
        "autocorrelation": strength,
        "profile": profile.tolist(),
        "column_means": column.tolist(),
    }
    return Outcome(
        TITLE,
        "Fig. 7 and App. C.3 of [KudreChangMehta2026]",
        [
            f"Long pattern {config.long_length}, short pattern {config.short_zeros} zeros, {config.length} tokens, and a GPT of "
            f"width {config.long_length}. Periodicity is the largest autocorrelation of the control of the last query.",
        ],
        [
            at_most(
                "The trained GPT predicts as well as the exact filter",
                "App. C.3",
                found.above,
                0.01,
                f"{100 * found.above:.2f} % of the entropy floor above the exact filter",
                margin=0.04,
            ),
            at_least(
                "The control shows a periodic pattern",
                "App. C.3",
                strength,
                0.5,
                f"Largest autocorrelation {strength:.2f}, at lag {lag} (patterns have {config.long_length} and "
                f"{config.short_zeros + 1} tokens)",
                margin=0.2,
            ),
            at_least(
                "After the first 1 every active column is a branching step",
                "measured here",
                numbers["active_columns_at_branching_steps"],
                1.0,
                f"{100 * numbers['active_columns_at_branching_steps']:.0f} % of them lie at lag n₀+1 after a 1",
            ),
        ],
        [
            figures.lines(
                "Control of the last prediction",
                "Spikes at the branching steps; their distances are the lengths of the patterns.",
                "step",
                "size",
                [figures.Line("control", np.arange(config.length), profile, "dual")],
            ),
            *pictures(found, "The same measures as for the small process."),
        ],
        numbers,
    )
