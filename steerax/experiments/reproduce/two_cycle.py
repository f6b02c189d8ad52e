"""The two-cycle process: its states, a path, and how much of the past it needs."""

import dataclasses

import jax
import numpy as np

from ...models import two_cycle
from ...models.entropy import entropy_rate
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from .outcome import Outcome, at_most, other_values

TITLE = "The two-cycle process"


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


def run(config: Config, seed: int) -> Outcome:
    """Build the process, sample it, and find its order by trying all histories."""
    chosen = (config.long_length, config.short_zeros, config.p)
    hmm = two_cycle(*chosen)
    states, tokens = (np.asarray(a) for a in hmm.sample(jax.random.key(seed), config.length))
    rows = {variant: measure(*variant, config.history) for variant in (chosen, *config.others)}
    found = rows[chosen]
    return Outcome(
        TITLE,
        "Fig. 2 of [KudreChangMehta2026]",
        [
            f"Binary tokens: a 1 followed by {config.long_length - 1} zeros, or a 1 followed by {config.short_zeros} zeros, "
            f"chosen with probability {config.p} each time. The hidden state is the position in the pattern; state 0 emits the "
            "1, all others a 0. At the branch the pattern either ends or goes on.",
            f"The order was found by grouping all {found['histories']:,} possible histories of {config.history} tokens by their "
            "last k tokens: k is enough if the law of the next token agrees within every group.",
        ],
        [
            at_most(
                "The next token depends on at most as many past tokens as the long pattern has",
                "Sec. 4",
                found["order"],
                config.long_length,
                f"The last {found['order']} tokens determine the law of the next one; {found['order'] - 1} do not",
            ),
            at_most(
                "The entropy rate is that of the branch, spread over the mean length of a pattern",
                "closed form",
                abs(found["entropy_rate"] - found["closed_form"]),
                1e-12,
                f"{found['entropy_rate']:.6f} against {found['closed_form']:.6f} nats per token",
            ),
        ],
        [
            *pictures(hmm, states, tokens),
            other_values(
                "ℓ, n₀ and p",
                ["process", "order", "entropy rate, nats per token"],
                [
                    [f"ℓ = {l}, n₀ = {n}, p = {p:g}", row["order"], f"{row['entropy_rate']:.4f}"]
                    for (l, n, p), row in rows.items()
                ],
            ),
        ],
        {
            **found,
            "other_values": {str(variant): row for variant, row in rows.items()},
            "tokens": tokens.tolist(),
            "states": states.tolist(),
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


def pictures(hmm: HiddenMarkovModel, states: np.ndarray, tokens: np.ndarray) -> list[dict]:
    """The graph of the chain and one path."""
    return [
        figures.graph(
            "States and transitions",
            "The state that emits a 1 is filled. Only one state has two ways on: there, and only there, the future is open.",
            [str(i) for i in range(hmm.n_states)],
            np.asarray(hmm.transition),
            np.asarray(hmm.emission)[:, 1] > 0.5,
        ),
        figures.lines(
            "A path",
            "The state climbs to the end of its pattern and falls back to 0, where the 1 is emitted.",
            "step",
            "state",
            [figures.Line("state", np.arange(len(states)), states, "filter")],
        ),
        figures.matrix(
            "Its tokens",
            "Dark: 1. All information is in the distances between them.",
            "step",
            "",
            "token",
            {"tokens": tokens[None]},
            row_labels=[""],
        ),
    ]


def branching_entropy(p: float) -> float:
    """-p log p - (1-p) log(1-p)."""
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p))


def markov_order(hmm: HiddenMarkovModel, history: int) -> tuple[int, int]:
    """(smallest k such that the last k tokens determine the law of the next one, number of possible histories)."""
    A, C = np.asarray(hmm.dense_transition), np.asarray(hmm.emission)
    strings, beliefs = np.zeros((1, 0), int), np.asarray(hmm.initial)[None]
    for _ in range(history):
        joint = beliefs[:, None] * C.T  # [strings tokens states]
        parent, token = np.nonzero(joint.sum(-1) > 0)
        strings = np.concatenate([strings[parent], token[:, None]], axis=1)
        beliefs = joint[parent, token] @ A
        beliefs /= beliefs.sum(-1, keepdims=True)
    laws = beliefs @ C
    for k in range(history + 1):
        _, group = np.unique(strings[:, history - k :], axis=0, return_inverse=True)
        group = group.ravel()
        first = np.unique(group, return_index=True)[1]
        if np.abs(laws - laws[first[group]]).max() < 1e-9:
            return k, len(strings)
    return history + 1, len(strings)
