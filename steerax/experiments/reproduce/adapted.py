"""Attention, control and adapted weights of a GPT in training: three kinds of weights on the same axes."""

import dataclasses

import jax
import numpy as np

from ...data.scores import TokenScores
from ...inference.hmm.filter import score_tokens
from ...inference.predictor import next_token_predictor
from ...inference.reference import support
from ...inference.represent import Representation, represent
from ...models import two_cycle
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from ...transformer.gpt import GPT
from ..compare.agreement import correlation
from .networks import Recipe, floor, gpt_scores, held_out, trained
from .outcome import Claim, Outcome, at_least, at_most, if_enough, if_trained
from .study import attention_of, certain_steps, control_norms

TITLE = "Adapted weights of a GPT in training"


@dataclasses.dataclass(frozen=True)
class Config:
    """Looks are spread evenly over the logarithm of the step: most is learned early. Five fresh sequences show the
    spread; 64 draws per step leave a standard error far below the weights (it is shown)."""

    long_length: int = 8
    short_zeros: int = 4
    length: int = 64
    steps: int = 5000
    decisive_steps: int = 5000
    looks: int = 9
    sequences: int = 5
    samples: int = 64


QUICK = Config(long_length=5, short_zeros=2, length=32, steps=800, looks=4, sequences=2, samples=32)


@dataclasses.dataclass(frozen=True)
class Look:
    """The network after some steps, at the last prediction of every sequence.

    **Attributes:** `weights [n T]`, adapted weights `U` of the GPT; `error`, their largest standard error; `attention
    [n T]`; `above`, loss above the exact filter as a share of the floor.
    """

    step: int
    weights: np.ndarray
    error: float
    attention: np.ndarray
    above: float


def run(config: Config, seed: int) -> Outcome:
    """Train once, and look at the network on the way."""
    process = two_cycle(config.long_length, config.short_zeros)
    keys = jax.random.split(jax.random.key(seed), 3)
    strings = held_out(process, config.length, config.sequences, keys[0]).values[:, : config.length]
    data = held_out(process, config.length, 256, keys[1])
    exact = score_tokens(process, data).log_likelihoods[:, 1:]
    lowest = floor(process, config.length)
    wanted = np.unique(np.r_[0, np.logspace(np.log10(50), np.log10(config.steps), config.looks).round(-1)]).astype(int)
    looks: list[Look] = []

    def look(gpt: GPT, step: int) -> None:
        found = [weights_of(gpt, process, z, config.samples) for z in strings]
        excess = TokenScores(gpt_scores(gpt, data).log_likelihoods - exact, data.mask[:, 1:]).cross_entropy
        U = np.stack([-f.weights[:, 0] for f in found if f.weights is not None])
        error = max(float(f.contribution_errors.max()) for f in found)
        attention = np.stack([attention_of(gpt, z)[-1] for z in strings])
        looks.append(Look(step, U, error, attention, excess / lowest))

    recipe = Recipe(config.long_length, config.length, config.steps)
    trained(process, recipe, keys[2], at=wanted, look=look)
    filters = [represent(next_token_predictor(process, 1), z, 2, weights=True) for z in strings]
    U = np.stack([-f.weights[:, 0] for f in filters if f.weights is not None])
    control = np.stack([control_norms(process, z)[-1] for z in strings])
    certain = np.stack([certain_steps(process, z) for z in strings])
    course = [measure(entry, U, control, certain, strings) for entry in looks]
    return Outcome(
        TITLE,
        "Prop. 4 and Sec. 4.1 of [KudreChangMehta2026]",
        [
            "Every predictor is a constant minus a sum of weights times tokens, with weights that look at the past only: the "
            "adapted weights U. They exist for a GPT as for the filter, whatever goes on inside, and are computed alike: "
            "from the mean prediction over continuations drawn uniformly from what can come next under the process. Here "
            f"they are computed for a GPT of width {config.long_length} on its way through {config.steps:,} training steps, "
            f"for the last prediction, P(token {config.length + 1} = 1), of {config.sequences} fresh sequences of "
            f"{config.length} tokens.",
            "The control of the dual filter (size over states) and the attention of the GPT stand on the same axes. Unlike U, "
            "the control uses the whole string up to the prediction.",
        ],
        claims(config, course),
        pictures(looks, course, U, control, strings),
        {
            "course": course,
            "floor": lowest,
            "adapted_weights_of_the_filter": U.tolist(),
            "adapted_weights_of_the_gpt": [entry.weights.tolist() for entry in looks],
            "attention": [entry.attention.tolist() for entry in looks],
            "control": control.tolist(),
        },
    )


def weights_of(gpt: GPT, process: HiddenMarkovModel, tokens: np.ndarray, samples: int) -> Representation:
    """The adapted weights of the GPT's P(next token = 1), under the support of the process."""
    predictor = next_token_predictor(gpt, 1)
    return represent(predictor, tokens, 2, support(process), samples, True, jax.random.key(0))


def measure(look: Look, U: np.ndarray, control: np.ndarray, certain: np.ndarray, strings: np.ndarray) -> dict:
    """How the weights of one look relate to each other and to those of the filter; means over the sequences, and ranges."""
    largest = lambda a, b: [overlap(x, y) for x, y in zip(np.abs(a), np.abs(b), strict=True)]
    share = lambda weights, on: (weights * on).sum(1) / weights.sum(1)
    informative = np.abs(U) > 1e-12
    values = {
        "correlation_of_U_with_the_filter": [correlation(a, b) for a, b in zip(look.weights, U, strict=True)],
        "overlap_of_attention_and_U": largest(look.attention, look.weights),
        "overlap_of_attention_and_control": largest(look.attention, control),
        "attention_on_ones": share(look.attention, strings == 1),
        "attention_where_U_is_not_zero": share(look.attention, informative),
    }
    spread = {name: [float(np.mean(v)), float(np.min(v)), float(np.max(v))] for name, v in values.items()}
    return {
        "step": look.step,
        "above_the_filter": look.above,
        "largest_U_where_certain": float(np.abs(look.weights[certain]).max(initial=0.0)),
        "largest_standard_error": look.error,
        "shares_by_chance": {
            "attention_on_ones": float(np.mean(strings == 1)),
            "attention_where_U_is_not_zero": float(informative.mean()),
        },
        **spread,
    }


def overlap(a: np.ndarray, b: np.ndarray, k: int = 5) -> float:
    """Share of the `k` largest entries that two rows have in common."""
    top = lambda row: set(np.argsort(-row, kind="stable")[:k].tolist())
    return len(top(a) & top(b)) / k


def claims(config: Config, course: list[dict]) -> list[Claim]:
    """What holds at the end of the training."""
    first, last = course[0], course[-1]
    above = last["above_the_filter"]
    mean = lambda entry, name: entry[name][0]
    percent = lambda name: f"{100 * mean(last, name):.0f} % (at the start {100 * mean(first, name):.0f} %)"
    where = max(entry["largest_U_where_certain"] for entry in course)
    trained_only = lambda claim: if_enough(
        if_trained(claim, above), config.steps, config.decisive_steps, "training steps"
    )
    return [
        at_most("Adapted weights of any predictor are zero where only one token can come", "Prop. 4, on the support", where,
                1e-12, f"Largest weight there, at any time of the training, {where:.0e}"),
        trained_only(at_least(
            "The adapted weights of the trained GPT are those of the exact filter", "measured here",
            mean(last, "correlation_of_U_with_the_filter"), 0.95,
            f"Mean correlation {mean(last, 'correlation_of_U_with_the_filter'):.3f}, at the start "
            f"{mean(first, 'correlation_of_U_with_the_filter'):.2f}", margin=0.05,
        )),
        trained_only(at_least(
            "Attention and control single out the same tokens", "Sec. 4.1",
            mean(last, "overlap_of_attention_and_control"), 0.8,
            f"Of the five largest they share {percent('overlap_of_attention_and_control')}", margin=0.1,
        )),
        trained_only(at_least(
            "Attention shows the tokens that carry the prediction of the same GPT", "measured here",
            mean(last, "attention_where_U_is_not_zero"), 0.8,
            f"The share of the attention on steps where U is not zero is {percent('attention_where_U_is_not_zero')}; by "
            f"chance {100 * last['shares_by_chance']['attention_where_U_is_not_zero']:.0f} %", margin=0.1,
        )),
    ]  # fmt: skip


def pictures(looks: list[Look], course: list[dict], U, control, strings) -> list[dict]:
    """The weights of the first sequence by training time, and the course of the measures."""
    times = [str(entry.step) for entry in looks]
    columns = [str(z) for z in strings[0]]
    of_attention = np.stack([control[0] / max(control[0].max(), 1e-300), *(entry.attention[0] for entry in looks)])
    of_U = np.stack([U[0], *(entry.weights[0] for entry in looks)])
    steps = np.maximum([entry["step"] for entry in course], 1)  # the start, on a logarithmic axis
    names = {
        "correlation_of_U_with_the_filter": ("U: correlation with the filter's", "dual"),
        "attention_on_ones": ("attention on 1s", "transformer"),
        "attention_where_U_is_not_zero": ("attention where U is not 0", "transformer"),
        "overlap_of_attention_and_control": ("attention and control, top five", "accent"),
    }
    curves = []
    for name, (label, role) in names.items():
        values = np.array([entry[name] for entry in course]).T  # the value, or value, low and high
        curves.append(figures.Line(label, steps, values[0], role, *values[1:]))
    return [
        figures.matrix(
            "Adapted weights U, last prediction",
            "First row: the exact filter. Below: the GPT after so many training steps.",
            "step, with its token", "training steps", "U", {"all": of_U}, True, None, columns, ["filter", *times],
        ),
        figures.matrix(
            "Control and attention, last prediction",
            "First row: the control, divided by its largest value. Below: attention of the GPT after so many steps.",
            "step, with its token", "training steps", "weight", {"all": of_attention}, False, None, columns,
            ["control", *times],
        ),
        figures.lines(
            "How the weights come about",
            "Means over the sequences; bands from the smallest to the largest. The start is drawn at step 1.",
            "training step", "share or correlation", curves, log_x=True,
        ),
        figures.lines(
            "Loss above the exact filter",
            "Share of the entropy floor, on 256 fresh sequences.",
            "training step", "share",
            [figures.Line("GPT", steps, [entry["above_the_filter"] for entry in course], "transformer")],
            log_x=True, log_y=True,
        ),
    ]  # fmt: skip
