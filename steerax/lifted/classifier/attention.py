"""Where the tests of a network look on one row: the attention of its read-out token, as the integer network computes it."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...report.static import canvas, colours
from ...transformer.quantized import Pool, QuantizedNetwork, embed
from .network import by_layer
from .problem import Tree


@dataclass(frozen=True)
class TestAttention:
    """One test on the way of a row of T tokens to its answer.

    **Attributes:** `test`, in words; `weights [T]`, the attention of the read-out token, which add up to 1 with what lies on itself and on empty
    places; `reads [T]`, what the head reads at a token: 1 or −1 where it counts for the test or, in a difference, for the other name, else 0;
    `hard`, whether the head looks at one token (else it takes the mean of all); `holds`, the outcome.
    """

    __test__ = False  # it is no test of pytest

    test: str
    weights: Float[np.ndarray, " T"]
    reads: Int[np.ndarray, " T"]
    hard: bool
    holds: bool

    @property
    def signed(self) -> Float[np.ndarray, " T"]:
        """Weights with a sign, as shares of the largest: above 0 where a token speaks for the test, below 0 where it speaks against it. In a
        mean, tokens that are not counted say nothing."""
        sign = np.where(self.reads != 0, self.reads, -1 if self.hard else 0)
        return sign * self.weights / max(self.weights.max(initial=0.0), 1e-300)


@dataclass(frozen=True)
class Attention:
    """**Attributes:** `tokens`, the names of the row (as column=name where names belong to columns); `tests`, those that the row meets, in order; `answer`, the label."""

    tokens: tuple[str, ...]
    tests: tuple[TestAttention, ...]
    answer: Any


def attended(
    network: QuantizedNetwork, tree: Tree, tokens: Int[np.ndarray, " m"]
) -> list[tuple[int, np.ndarray, np.ndarray, bool, bool]]:
    """Of each test that a row meets, root first: its number in `heads_in`, and `weights`, `reads`, `hard` and `holds` of `TestAttention`.

    `tokens`, the input of the network, read-out token first; weights and reads are those of the places after it.
    """
    registers, found, asked = embed(network.embedding, tokens[None]), [], by_layer(tree)
    pools = [i for i, step in enumerate(network.steps) if isinstance(step, Pool)][-len(asked) :] if asked else []
    state = 0
    for i, step in enumerate(network.steps):
        if i in pools and asked[pools.index(i)][1] == state and isinstance(step, Pool):
            weights = step.attention(registers)[0, 0]
            reads = np.sign(step.values[registers[step.value][0]])
            hard = step.weights is not None and len(step.weights) > 1
            registers = network.steps[i + 1].apply(
                step.apply(registers)
            )  # the look-up that moves the read-out token on
            (_, number, yes, _), state = asked[pools.index(i)], int(registers[-1][0, 0])
            found.append((number, weights[1:] / weights.sum(), reads[1:], hard, state == yes))
            registers = registers[:-2]
        registers = step.apply(registers)
    return found


def draw(found: Attention, ax: Any = None) -> Any:
    """Tests from top to bottom, tokens from left to right, coloured by `TestAttention.signed`; the axes, of a new figure if none are given.

    **Raises:** `ConfigurationError` without matplotlib.
    """
    T, tests = len(found.tokens), found.tests
    longest = max(map(len, found.tokens), default=0)
    upright = 0.09 * longest if longest > 3 else 0.0  # inches of names that stand on their ends
    if ax is None:
        ax = canvas(2.6 + 0.42 * max(T, 4), 0.9 + upright + 0.62 * max(len(tests), 1))[1][0, 0]
    paper, grey, orange, blue = (_rgb(colours()[role]) for role in ("paper", "rule", "transformer", "filter"))
    shade = np.array([0.75 * test.signed for test in tests]).reshape(len(tests), T, 1)
    seen = np.array([test.weights > 0 for test in tests], bool).reshape(len(tests), T, 1)
    mixed = paper + np.where(shade > 0, orange - paper, blue - paper) * np.abs(shade)
    mixed = np.where(seen & (shade == 0), (paper + grey) / 2, mixed)  # looked at, and not counted
    if tests and T:
        ax.imshow(mixed, aspect="auto", interpolation="nearest")
    for row, test in enumerate(tests):
        for at in np.flatnonzero(test.reads * test.weights):
            ax.text(at, row, f"{test.reads[at]:+d}".replace("-", "−"), ha="center", va="center")
    words = [textwrap.fill(f"{test.test}: {'yes' if test.holds else 'no'}", 34) for test in tests]
    ax.set_yticks(range(len(tests)), words)
    ax.set_xticks(range(T), found.tokens, rotation=90 if upright else 0)
    ax.set_title(f"answer: {found.answer}")
    return ax


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
