"""Attention, control and adapted contributions of a trained GPT and of the exact filter, on the same axes."""

import dataclasses

import jax
import numpy as np

from ...models import two_cycle
from ...report.words import Findings, table
from ..compare.agreement import agree
from ..networks import Recipe
from ..study import Study, drawings, study


@dataclasses.dataclass(frozen=True)
class Config:
    """Width = number of hidden states, the matched regime; fresh sequences, since 2 000 fixed ones are memorised.

    The paper's stored text lost ℓ, n₀, p, the length and the settings of the training. `others` (ℓ, n₀, p, length) are
    shown beside the chosen values; all keep the chain aperiodic.
    """

    long_length: int = 8
    short_zeros: int = 4
    p: float = 0.5
    length: int = 64
    steps: int = 5000
    decisive_steps: int = 5000  # the network reaches the optimum with these; a failure with fewer says little
    samples: int = 256
    others: tuple[tuple[int, int, float, int], ...] = (
        (7, 3, 0.5, 64),
        (9, 4, 0.5, 64),
        (8, 4, 0.3, 64),
        (8, 4, 0.7, 64),
        (8, 4, 0.5, 48),
        (8, 4, 0.5, 96),
    )


QUICK = Config(
    long_length=5, short_zeros=2, length=32, steps=600, samples=32, others=((7, 3, 0.5, 32), (5, 1, 0.5, 32))
)


def run(config: Config, seed: int) -> Findings:
    """Train, then compare the three kinds of weights on one fresh sequence."""
    chosen = (config.long_length, config.short_zeros, config.p, config.length)
    found = look(config, chosen, config.samples, seed)
    numbers = measure(found, config.short_zeros)
    variants = {name_of(chosen): numbers} | {
        name_of(other): measure(look(config, other, 32, seed), other[1]) for other in config.others
    }
    return Findings(numbers | {"other_values": variants}, {**drawings(found), "others": table_of(variants)})


def look(config, variant: tuple[int, int, float, int], samples: int, seed: int, starts: int = 1) -> Study:
    """The study of one process (ℓ, n₀, p) at one length, with a GPT as wide as it has states."""
    long_length, short_zeros, p, length = variant
    recipe = Recipe(long_length, length, config.steps, starts=starts)
    return study(two_cycle(long_length, short_zeros, p), recipe, samples, jax.random.key(seed))


def name_of(variant: tuple[int, int, float, int]) -> str:
    """The parameters in words."""
    return "ℓ = {}, n₀ = {}, p = {:g}, T = {}".format(*variant)


def table_of(variants: dict[str, dict]):
    """The main numbers for every choice of the lost parameters."""
    shares = (
        "loss_above_as_a_share_of_the_floor",
        "active_columns_at_branching_steps",
        "active_columns_that_are_1",
        "attention_on_ones",
        "attention_on_active_columns",
    )
    rows = [[label, *(f"{100 * values[name]:z.1f} %" for name in shares)] for label, values in variants.items()]
    correlations = [[f"{v['autocorrelation']:.2f}"] if "autocorrelation" in v else [] for v in variants.values()]
    return table([row + more for row, more in zip(rows, correlations, strict=True)])


def measure(found: Study, short_zeros: int) -> dict:
    """The numbers behind the claims."""
    T = len(found.tokens)
    ones = found.tokens == 1
    first = int(np.argmax(ones))
    later = np.arange(T) > first
    active = found.control.max(0) > 1e-12
    columns = np.flatnonzero(active & later)
    lag = np.array([s - np.flatnonzero(ones[:s])[-1] for s in columns])
    rows = np.arange(T + 1) > first + 1
    attention = found.attention[rows]
    total = attention.sum()
    share = lambda mask: float(np.mean(mask)) if len(mask) else float("nan")
    both = agree("HMM", found.contributions["HMM"], "GPT", found.contributions["GPT"])
    return {
        "loss_above_the_exact_filter": found.excess[0],
        "its_standard_error": found.excess[1],
        "loss_above_as_a_share_of_the_floor": found.above,
        "entropy_floor": found.floor,
        "largest_control_where_certain": float(found.control[:, found.certain].max(initial=0.0)),
        "active_columns_at_branching_steps": share(lag == short_zeros + 1),
        "active_columns_after_a_1": share(lag == 1),
        "active_columns_that_are_1": share(ones[columns]),
        "attention_on_ones": float(attention[:, ones].sum() / total),
        "attention_on_active_columns": float(attention[:, active].sum() / total),
        "contribution_correlation": both.correlation,
        "contribution_overlap": both.overlap,
        "largest_standard_error": float(max(e.max() for e in found.errors.values())),
    }
