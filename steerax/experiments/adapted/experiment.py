"""Attention, control and adapted weights of a GPT in training: three kinds of weights on the same axes."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...inference.predictor import next_token_predictor
from ...inference.reference import support
from ...inference.represent import Representation, represent
from ...models import two_cycle
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from ...report.words import Drawings, Findings
from ...transformer.gpt import GPT
from ..compare.agreement import correlation
from ..networks import HeldOut, Recipe, floor, held_out, trained
from ..study import attention_of, certain_steps, control_norms

COURSE = {  # of the training: label and role
    "correlation_of_U_with_the_filter": ("U: correlation with the filter's", "dual"),
    "attention_on_ones": ("attention on 1s", "transformer"),
    "attention_where_U_is_not_zero": ("attention where U is not 0", "transformer"),
    "overlap_of_attention_and_control": ("attention and control, top five", "accent"),
}


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


def run(config: Config, seed: int) -> Findings:
    """Train once, and look at the network on the way."""
    process = two_cycle(config.long_length, config.short_zeros)
    keys = jax.random.split(jax.random.key(seed), 3)
    strings = held_out(process, config.length, config.sequences, keys[0]).values[:, : config.length]
    fresh = HeldOut.of(process, config.length, 256, keys[1], floor(process, config.length))
    wanted = np.unique(np.r_[0, np.logspace(np.log10(50), np.log10(config.steps), config.looks).round(-1)]).astype(int)
    looks: list[Look] = []

    def look(gpt: GPT, step: int) -> None:
        found = [weights_of(gpt, process, z, config.samples) for z in strings]
        U = np.stack([-f.weights[:, 0] for f in found if f.weights is not None])
        error = max(float(f.contribution_errors.max()) for f in found)
        attention = np.stack([attention_of(gpt, z)[-1] for z in strings])
        looks.append(Look(step, U, error, attention, fresh.above(gpt)))

    recipe = Recipe(config.long_length, config.length, config.steps)
    trained(process, recipe, keys[2], at=wanted, look=look)
    filters = [represent(next_token_predictor(process, 1), z, 2, weights=True) for z in strings]
    U = np.stack([-f.weights[:, 0] for f in filters if f.weights is not None])
    control = np.stack([control_norms(process, z)[-1] for z in strings])
    certain = np.stack([certain_steps(process, z) for z in strings])
    course = [measure(entry, U, control, certain, strings) for entry in looks]
    numbers = {
        "course": course,
        "first": course[0],
        "last": course[-1],
        "largest_U_where_certain": max(entry["largest_U_where_certain"] for entry in course),
        "floor": fresh.floor,
        "adapted_weights_of_the_filter": U.tolist(),
        "adapted_weights_of_the_gpt": [entry.weights.tolist() for entry in looks],
        "attention": [entry.attention.tolist() for entry in looks],
        "control": control.tolist(),
    }
    return Findings(numbers, drawings(looks, course, U[0], control[0], strings[0]))


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


def drawings(looks: list[Look], course: list[dict], U, control, tokens) -> Drawings:
    """The weights of one sequence by training time, and the course of the measures."""
    times = [str(entry.step) for entry in looks]
    of_attention = np.stack([control / max(control.max(), 1e-300), *(entry.attention[0] for entry in looks)])
    of_U = np.stack([U, *(entry.weights[0] for entry in looks)])
    matrix = partial(figures.matrix, columns=[str(z) for z in tokens])
    steps = np.maximum([entry["step"] for entry in course], 1)  # the start, on a logarithmic axis
    curves = []
    for name, (label, role) in COURSE.items():
        values = np.array([entry[name] for entry in course]).T  # mean, lowest and highest
        curves.append(figures.Line(label, steps, values[0], role, *values[1:]))
    above = figures.Line("GPT", steps, [entry["above_the_filter"] for entry in course], "transformer")
    return {
        "U": partial(matrix, choices={"all": of_U}, diverging=True, row_labels=["filter", *times]),
        "attention": partial(matrix, choices={"all": of_attention}, row_labels=["control", *times]),
        "course": partial(figures.lines, curves=curves, log_x=True),
        "loss": partial(figures.lines, curves=[above], log_x=True, log_y=True),
    }
