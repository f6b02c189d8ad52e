"""The larger two-cycle process: the same measurements, and whether the control is periodic."""

import dataclasses
from functools import partial

import numpy as np

from ...report import figures
from ...report.words import Findings
from ..patterns import period
from ..study import Study, drawings
from ..weights.experiment import look, measure, name_of, table_of


@dataclasses.dataclass(frozen=True)
class Config:
    """Twice the states and twice the length of the default process; gcd(16, 7) = 1 keeps it aperiodic. The paper's stored
    text lost its values; `others` (ℓ, n₀, p, length) are shown beside these."""

    long_length: int = 16
    short_zeros: int = 6
    p: float = 0.5
    length: int = 128
    steps: int = 6000
    decisive_steps: int = 6000
    starts: int = 2  # of the GPT, for the chosen process: one of two ends far above the optimum
    samples: int = 64
    others: tuple[tuple[int, int, float, int], ...] = ((13, 5, 0.5, 128), (20, 8, 0.5, 128))


QUICK = Config(
    long_length=8, short_zeros=4, length=48, steps=500, starts=1, samples=32, others=((7, 3, 0.5, 48), (9, 4, 0.5, 48))
)


def run(config: Config, seed: int) -> Findings:
    """Train, compare, and measure the autocorrelation of the control."""
    chosen = (config.long_length, config.short_zeros, config.p, config.length)
    found = look(config, chosen, config.samples, seed, config.starts)
    numbers = measured(found, chosen)
    variants = {name_of(chosen): numbers} | {
        name_of(other): measured(look(config, other, 16, seed), other) for other in config.others
    }
    curve = figures.Line("control", np.arange(config.length), numbers["profile"], "dual")
    return Findings(
        numbers | {"other_values": variants},
        {
            "last control": partial(figures.lines, curves=[curve]),
            **drawings(found),
            "others": table_of(variants),
        },
    )


def measured(found: Study, variant: tuple[int, int, float, int]) -> dict:
    """The numbers of the small process, and the periodicity of the control."""
    profile = found.control[-1]
    lag, strength = period(profile, 2 * variant[0])
    return measure(found, variant[1]) | {"period": lag, "autocorrelation": strength, "profile": profile.tolist()}
