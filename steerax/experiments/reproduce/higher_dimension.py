"""The larger two-cycle process: the same measurements, and whether the control is periodic."""

import dataclasses

import numpy as np

from ...report import figures
from .outcome import Claim, Outcome, at_least, at_most, if_enough
from .patterns import period
from .study import Study, pictures
from .weights import look, measure, name_of, table_of

TITLE = "A higher-dimensional two-cycle process"


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


def run(config: Config, seed: int) -> Outcome:
    """Train, compare, and measure the autocorrelation of the control."""
    chosen = (config.long_length, config.short_zeros, config.p, config.length)
    found = look(config, chosen, config.samples, seed, config.starts)
    numbers = measured(found, chosen)
    variants = {name_of(chosen): numbers} | {
        name_of(other): measured(look(config, other, 16, seed), other) for other in config.others
    }
    return Outcome(
        TITLE,
        "Fig. 7 and App. C.3 of [KudreChangMehta2026]",
        [
            f"Long pattern {config.long_length}, short pattern {config.short_zeros} zeros, {config.length} tokens, and a GPT of "
            f"width {config.long_length} (best of {config.starts}). Periodicity is the largest autocorrelation of the control of the last query.",
        ],
        claims(config, found, numbers),
        [
            figures.lines(
                "Control of the last prediction",
                "Spikes at the branching steps; their distances are the lengths of the patterns.",
                "step",
                "size",
                [figures.Line("control", np.arange(config.length), numbers["profile"], "dual")],
            ),
            *pictures(found, "The same measures as for the small process."),
            table_of(variants),
        ],
        numbers | {"other_values": variants},
    )


def measured(found: Study, variant: tuple[int, int, float, int]) -> dict:
    """The numbers of the small process, and the periodicity of the control."""
    profile = found.control[-1]
    lag, strength = period(profile, 2 * variant[0])
    return measure(found, variant[1]) | {"period": lag, "autocorrelation": strength, "profile": profile.tolist()}


def claims(config: Config, found: Study, numbers: dict) -> list[Claim]:
    """What the paper says of Fig. 7, as predicates."""
    near = at_most(
        "The trained GPT predicts as well as the exact filter",
        "App. C.3",
        found.above,
        0.01,
        f"{100 * found.above:z.2f} % of the entropy floor above the exact filter",
        margin=0.04,
    )
    return [
        if_enough(near, config.steps, config.decisive_steps, "training steps"),
        at_least(
            "The control shows a periodic pattern",
            "App. C.3",
            numbers["autocorrelation"],
            0.5,
            f"Largest autocorrelation {numbers['autocorrelation']:.2f}, at lag {numbers['period']} (patterns have "
            f"{config.long_length} and {config.short_zeros + 1} tokens)",
            margin=0.2,
        ),
        at_least(
            "After the first 1 every active column is a branching step",
            "measured here",
            numbers["active_columns_at_branching_steps"],
            1.0,
            f"{100 * numbers['active_columns_at_branching_steps']:.0f} % of them lie at lag n₀+1 after a 1",
        ),
    ]
