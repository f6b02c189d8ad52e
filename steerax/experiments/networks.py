"""A small GPT trained on a process, and how far it ends from the exact filter, as the experiments need them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from ..data.scores import TokenScores
from ..data.sequences import Sequences
from ..inference.hmm.filter import score_tokens
from ..inference.score import score_predictor
from ..models import GeneralisedHMM, conditional_entropy, sample_batch, sample_sequences
from ..models.hmm import HiddenMarkovModel
from ..runs.files import content_hash
from ..training.gradient import train_gpt
from ..training.optimizer import adamw
from ..transformer.gpt import GPT, GPTConfig


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: one layer and one head, AdamW with warm-up and cosine decay on fresh sequences.

    The peak is the largest of 3e-3, 5e-3 and 1e-2 that trains every start tried: at width 8, 5,000 steps of it ended
    within 0.7 % of the entropy floor from eight starts; 1e-2, for 3,000, left four of five 15 % above it. Of
    several `starts` the one with the lowest training loss at the end is kept, as of those of Baum-Welch the likeliest.
    """

    width: int
    length: int
    steps: int
    batch: int = 64
    peak: float = 5e-3
    final: float | None = None  # None: a two-hundredth of the peak; equal to the peak: a constant rate
    starts: int = 1


class Batches:
    """Fresh sequences of a process, `(key, step) -> tokens [B T]`; equal for equal processes, so that independent starts
    share one compiled training step."""

    def __init__(self, process: HiddenMarkovModel | GeneralisedHMM, number: int, length: int):
        self.process, self.number, self.length = process, number, length
        self.identity = content_hash(number, length, *(np.asarray(a) for a in process.arrays))

    def __call__(self, key, step):
        return sample_batch(self.process, key, self.number, self.length)

    def __eq__(self, other):
        return isinstance(other, Batches) and self.identity == other.identity

    def __hash__(self):
        return hash(self.identity)


@functools.lru_cache
def optimiser_of(steps: int, peak: float, final: float | None):
    """One object for equal settings, for the same reason."""
    return adamw(steps, peak, final=final, b2=0.95)


def trained(
    process: HiddenMarkovModel,
    recipe: Recipe,
    key,
    at: Sequence[int] | np.ndarray = (),
    look: Callable[[GPT, int], None] = lambda gpt, step: None,
) -> tuple[GPT, np.ndarray]:
    """The network after training (the best of `recipe.starts`) and the loss of every step.

    **Arguments:** `at`, multiples of 10: numbers of steps (0: before the first) after which `look(network, step)` is
    called; the training goes on in the memory of that network, so a look keeps copies.
    """
    if recipe.starts > 1:
        one = dataclasses.replace(recipe, starts=1)
        runs = [trained(process, one, jax.random.fold_in(key, i), at, look) for i in range(recipe.starts)]
        return min(runs, key=lambda run: run[1][-100:].mean())
    keys = jax.random.split(key)
    model = GPT(GPTConfig(process.n_tokens, recipe.length, 1, 1, recipe.width), key=keys[0])
    data = Batches(process, recipe.batch, recipe.length + 1)
    optimiser = optimiser_of(recipe.steps, recipe.peak, recipe.final)
    wanted = {int(step) for step in at}

    def hook(snapshot) -> None:
        if snapshot.step in wanted:
            look(snapshot.state[0], snapshot.step)

    if 0 in wanted:
        look(model, 0)
    options = {"hooks": [hook], "every": 10} if wanted else {}
    run = train_gpt(model, data, recipe.steps, keys[1], optimiser, progress=False, **options)
    return run.model, run.losses


def floor(process: HiddenMarkovModel, length: int, key=None) -> float:
    """The entropy of tokens 2 … length+1 given those before, nats per token."""
    return float(conditional_entropy(process, length + 1, key=key).per_token[1:].mean())


def gpt_scores(gpt: GPT, data: Sequences) -> TokenScores:
    """Scores of a GPT on every token but the first."""
    scores = score_predictor(gpt, data)
    return TokenScores(scores.log_likelihoods[:, 1:], scores.scored[:, 1:])


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Fresh sequences of a process, and log-likelihoods `exact [B T]` of the exact filter for every token but the first."""

    data: Sequences
    exact: np.ndarray
    floor: float

    @classmethod
    def of(cls, process: HiddenMarkovModel, length: int, number: int, key, floor: float) -> "HeldOut":
        """Sequences of `length + 1` tokens; `floor`, their entropy in nats per token."""
        data = held_out(process, length, number, key)
        return cls(data, score_tokens(process, data).log_likelihoods[:, 1:], floor)

    def excess(self, predictor) -> TokenScores:
        """Differences to the exact filter on the same tokens, whose cross-entropy is the loss above it."""
        if isinstance(predictor, HiddenMarkovModel):
            scores = score_tokens(predictor, self.data, on_impossible="skip")
        else:
            scores = score_predictor(predictor, self.data)
        return TokenScores(scores.log_likelihoods[:, 1:] - self.exact, self.data.mask[:, 1:])

    def above(self, predictor) -> float:
        """Loss above the exact filter as a share of the floor."""
        return self.excess(predictor).cross_entropy / self.floor


def held_out(process: HiddenMarkovModel, length: int, number: int, key) -> Sequences:
    """Fresh sequences of `length + 1` tokens."""
    return sample_sequences(process, key, number, length + 1)
