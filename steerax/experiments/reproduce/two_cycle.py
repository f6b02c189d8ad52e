"""The two-cycle process: its states, a path, and how much of the past it needs."""

import dataclasses
import itertools

import jax
import numpy as np

from ...inference.hmm.filter import forward_filter
from ...processes import two_cycle
from ...processes.entropy import entropy_rate
from ...report import figures
from .outcome import Outcome, at_most

TITLE = "The two-cycle process"


@dataclasses.dataclass(frozen=True)
class Config:
    """The paper's stored text lost its numbers; these keep the chain aperiodic, gcd(ℓ, n₀+1) = 1."""

    long_length: int = 8
    short_zeros: int = 4
    p: float = 0.5
    length: int = 64
    history: int = 14  # all strings of this length are tried for the order; more than ℓ + n₀ + 1


QUICK = Config(history=11)


def run(config: Config, seed: int) -> Outcome:
    """Build the process, sample it, and find its order by trying all histories."""
    hmm = two_cycle(config.long_length, config.short_zeros, config.p)
    states, tokens = hmm.sample(jax.random.key(seed), config.length)
    order, histories = markov_order(
        two_cycle(config.long_length, config.short_zeros, config.p, "stationary"), config.history
    )
    rate = entropy_rate(hmm).mean
    expected = branching_entropy(config.p) / (config.p * config.long_length + (1 - config.p) * (config.short_zeros + 1))
    labels = [str(i) for i in range(hmm.n_states)]
    return Outcome(
        TITLE,
        "Fig. 2 of [KudreChangMehta2026]",
        [
            f"Binary tokens: a 1 followed by {config.long_length - 1} zeros, or a 1 followed by {config.short_zeros} zeros, "
            f"chosen with probability {config.p} each time. The hidden state is the position in the pattern; state 0 emits the "
            "1, all others a 0. At the branch the pattern either ends or goes on.",
            f"The order was found by grouping all {histories:,} possible histories of {config.history} tokens by their last k "
            "tokens: k is enough if the law of the next token agrees within every group.",
        ],
        [
            at_most(
                "The next token depends on at most as many past tokens as the long pattern has",
                "Sec. 4",
                order,
                config.long_length,
                f"The last {order} tokens determine the law of the next one; {order - 1} do not",
            ),
            at_most(
                "The entropy rate is that of the branch, spread over the mean length of a pattern",
                "closed form",
                abs(rate - expected),
                1e-12,
                f"{rate:.6f} against {expected:.6f} nats per token",
            ),
        ],
        [
            figures.graph(
                "States and transitions",
                "The state that emits a 1 is filled. Only one state has two ways on: there, and only there, the future is open.",
                labels,
                np.asarray(hmm.transition),
                np.asarray(hmm.emission)[:, 1] > 0.5,
            ),
            figures.lines(
                "A path",
                "The state climbs to the end of its pattern and falls back to 0, where the 1 is emitted.",
                "step",
                "state",
                [figures.Line("state", np.arange(config.length), np.asarray(states), "filter")],
            ),
            figures.matrix(
                "Its tokens",
                "Dark: 1. All information is in the distances between them.",
                "step",
                "",
                "token",
                {"tokens": np.asarray(tokens)[None]},
                row_labels=[""],
            ),
        ],
        {
            "order": order,
            "entropy_rate": rate,
            "tokens": np.asarray(tokens).tolist(),
            "states": np.asarray(states).tolist(),
        },
    )


def branching_entropy(p: float) -> float:
    """-p log p - (1-p) log(1-p)."""
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p))


def markov_order(hmm, history: int) -> tuple[int, int]:
    """(smallest k such that the last k tokens determine the law of the next one, number of possible histories)."""
    strings, laws = [], []
    for string in itertools.product((0, 1), repeat=history):
        found = forward_filter(hmm, np.array(string, np.int32), on_impossible="skip")
        if np.isfinite(found.log_likelihood):
            strings.append(string)
            laws.append(np.asarray(found.next_token_probabilities(-1)))
    for k in range(history + 1):
        groups: dict[tuple, np.ndarray] = {}
        tail = lambda s, k=k: s[len(s) - k :]
        if all(
            np.abs(groups.setdefault(tail(s), law) - law).max() < 1e-9 for s, law in zip(strings, laws, strict=True)
        ):
            return k, len(strings)
    return history + 1, len(strings)
