"""The two-cycle process: its states, a path, and how much of the past it needs."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...models import two_cycle
from ...models.entropy import entropy_rate
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from ...report.words import Findings, table


@dataclasses.dataclass(frozen=True)
class Config:
    """The paper's stored text lost its numbers; these keep the chain aperiodic, gcd(ℓ, n₀+1) = 1. `others` (ℓ, n₀, p) are
    shown beside them."""

    long_length: int = 8
    short_zeros: int = 4
    p: float = 0.5
    length: int = 64
    history: int = 16  # all strings of this length are tried for the order; more than ℓ + n₀ + 1
    others: tuple[tuple[int, int, float], ...] = ((7, 3, 0.5), (9, 4, 0.5), (8, 4, 0.3), (8, 4, 0.7))


QUICK = Config(history=11)


def run(config: Config, seed: int) -> Findings:
    """Build the process, sample it, and find its order by trying all histories."""
    chosen = (config.long_length, config.short_zeros, config.p)
    hmm = two_cycle(*chosen)
    states, tokens = (np.asarray(a) for a in hmm.sample(jax.random.key(seed), config.length))
    rows = {variant: measure(*variant, config.history) for variant in (chosen, *config.others)}
    found = rows[chosen]
    said = lambda l, n, p: f"ℓ = {l}, n₀ = {n}, p = {p:g}"
    return Findings(
        {
            **found,
            "other_values": {str(variant): row for variant, row in rows.items()},
            "tokens": tokens.tolist(),
            "states": states.tolist(),
        },
        {
            "chain": partial(
                figures.graph,
                labels=[str(i) for i in range(hmm.n_states)],
                transition=np.asarray(hmm.transition),
                filled=np.asarray(hmm.emission)[:, 1] > 0.5,
            ),
            "path": partial(figures.lines, curves=[figures.Line("state", np.arange(len(states)), states, "filter")]),
            "tokens": partial(figures.matrix, choices={"tokens": tokens[None]}, row_labels=[""]),
            "others": table([[said(*v), row["order"], f"{row['entropy_rate']:.4f}"] for v, row in rows.items()]),
        },
    )


def measure(long_length: int, short_zeros: int, p: float, history: int) -> dict:
    """Order and entropy rate of one process."""
    stationary = two_cycle(long_length, short_zeros, p, "stationary")
    order, histories = markov_order(stationary, history)
    mean_length = p * long_length + (1 - p) * (short_zeros + 1)
    return {
        "order": order,
        "histories": histories,
        "entropy_rate": entropy_rate(stationary).mean,
        "closed_form": branching_entropy(p) / mean_length,
    }


def branching_entropy(p: float) -> float:
    """-p log p - (1-p) log(1-p)."""
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p))


def markov_order(hmm: HiddenMarkovModel, history: int) -> tuple[int, int]:
    """(smallest k such that the last k tokens determine the distribution of the next one, number of possible histories)."""
    A, C = np.asarray(hmm.dense_transition), np.asarray(hmm.emission)
    strings, beliefs = np.zeros((1, 0), int), np.asarray(hmm.initial)[None]
    for _ in range(history):
        joint = beliefs[:, None] * C.T  # [strings tokens states]
        parent, token = np.nonzero(joint.sum(-1) > 0)
        strings = np.concatenate([strings[parent], token[:, None]], axis=1)
        beliefs = joint[parent, token] @ A
        beliefs /= beliefs.sum(-1, keepdims=True)
    predictions = beliefs @ C
    for k in range(history + 1):
        _, group = np.unique(strings[:, history - k :], axis=0, return_inverse=True)
        group = group.ravel()
        first = np.unique(group, return_index=True)[1]
        if np.abs(predictions - predictions[first[group]]).max() < 1e-9:
            return k, len(strings)
    return history + 1, len(strings)
