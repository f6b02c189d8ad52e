"""Attention, control and adapted contributions of a trained GPT and of the exact filter, on the same axes."""

import dataclasses

import jax
import numpy as np

from ...models import two_cycle
from ..compare.agreement import agree
from .networks import Recipe
from .outcome import Claim, Outcome, at_least, at_most, if_enough, if_trained, other_values
from .study import Study, pictures, study

TITLE = "What a trained GPT and the optimal control look at"


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


def run(config: Config, seed: int) -> Outcome:
    """Train, then compare the three kinds of weights on one fresh sequence."""
    chosen = (config.long_length, config.short_zeros, config.p, config.length)
    found = look(config, chosen, config.samples, seed)
    numbers = measure(found, config.short_zeros)
    variants = {name_of(chosen): numbers} | {
        name_of(other): measure(look(config, other, 32, seed), other[1]) for other in config.others
    }
    return Outcome(
        TITLE,
        "Fig. 3 and Sec. 4.1 of [KudreChangMehta2026]",
        [
            f"A GPT with one layer, one head and width {config.long_length}, trained for {config.steps:,} steps on fresh "
            f"sequences of {config.length} tokens of the two-cycle process.",
            "Control: the dual filter with the true model. Contributions: the change of the expected prediction that each token "
            "made, for filter and GPT under the same reference, uniform over the tokens that can come next. Attention: the one "
            "head. Shaded steps are those at which the filter was not certain of the token.",
        ],
        claims(found, numbers, config),
        [
            *pictures(found, "Four measures of the same past. Move the slider to another prediction."),
            table_of(variants),
        ],
        numbers | {"other_values": variants},
    )


def look(config, variant: tuple[int, int, float, int], samples: int, seed: int, starts: int = 1) -> Study:
    """The study of one process (ℓ, n₀, p) at one length, with a GPT as wide as it has states."""
    long_length, short_zeros, p, length = variant
    recipe = Recipe(long_length, length, config.steps, starts=starts)
    return study(two_cycle(long_length, short_zeros, p), recipe, samples, jax.random.key(seed))


def name_of(variant: tuple[int, int, float, int]) -> str:
    """The parameters in words."""
    return "ℓ = {}, n₀ = {}, p = {:g}, T = {}".format(*variant)


def table_of(variants: dict[str, dict]) -> dict:
    """The main numbers for every choice of the lost parameters."""
    names = {
        "loss_above_as_a_share_of_the_floor": "GPT above the filter",
        "active_columns_at_branching_steps": "active columns at branching steps",
        "active_columns_that_are_1": "that are 1s",
        "attention_on_ones": "attention on 1s",
        "attention_on_active_columns": "on active columns",
        "autocorrelation": "autocorrelation",
    }
    kept = [name for name in names if name in next(iter(variants.values()))]
    percent = lambda name, value: f"{value:.2f}" if name == "autocorrelation" else f"{100 * value:z.1f} %"
    rows = [[label, *(percent(name, values[name]) for name in kept)] for label, values in variants.items()]
    return other_values("ℓ, n₀, p and the length", ["process", *(names[name] for name in kept)], rows)


def claims(found: Study, numbers: dict, config: Config) -> list[Claim]:
    """What the paper says of Fig. 3, as predicates."""
    percent = {name: f"{100 * value:.0f} %" for name, value in numbers.items() if isinstance(value, float)}
    of_the_control = [
        at_most(
            "The control is zero wherever the filter is certain of the token",
            "Sec. 4.1",
            numbers["largest_control_where_certain"],
            1e-12,
            f"Largest control there {numbers['largest_control_where_certain']:.0e}",
        ),
        at_least(
            "The control is non-zero only immediately after a 1",
            "Fig. 3",
            numbers["active_columns_after_a_1"],
            1.0,
            f"After the first 1, {percent['active_columns_after_a_1']} of the active columns follow a 1",
        ),
        at_least(
            "After the first 1 every active column is a branching step, at lag n₀+1 after a 1",
            "measured here",
            numbers["active_columns_at_branching_steps"],
            1.0,
            f"{percent['active_columns_at_branching_steps']} do; {percent['active_columns_that_are_1']} of them are 1s",
        ),
    ]
    of_the_loss = at_most(
        "The trained GPT predicts as well as the exact filter",
        "Sec. 4.1",
        found.above,
        0.01,
        f"{100 * found.above:z.2f} % of the entropy floor above the exact filter on the same sequences",
    )
    of_the_network = [
        at_least(
            "Attention is focused on the 1s",
            "Sec. 4.1",
            numbers["attention_on_ones"],
            0.8,
            f"{percent['attention_on_ones']} of all attention after the first 1 is on a 1",
            margin=0.1,
        ),
        at_least(
            "Control and attention single out the same tokens",
            "Fig. 3",
            numbers["attention_on_active_columns"],
            0.8,
            f"{percent['attention_on_active_columns']} of the attention lies on columns where the control is not zero",
            margin=0.1,
        ),
        at_least(
            "The GPT learned the contributions of the exact filter",
            "measured here",
            numbers["contribution_correlation"],
            0.95,
            f"Correlation {numbers['contribution_correlation']:.4f} over all predictions and steps",
        ),
    ]
    enough = lambda claim: if_enough(claim, config.steps, config.decisive_steps, "training steps")
    return [*of_the_control, *(enough(c) for c in [of_the_loss, *(if_trained(c, found.above) for c in of_the_network)])]


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
