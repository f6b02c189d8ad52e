"""One process, one trained GPT, one held-out sequence: what the weights experiments measure and show."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from ..inference.hmm.explain import explain_norms
from ..inference.hmm.filter import filter_tokens
from ..inference.reference import Reference, support
from ..inference.score import next_token_log_probabilities
from ..models.hmm import HiddenMarkovModel
from ..report import figures
from ..report.words import Drawings
from ..transformer.gpt import GPT
from .compare.contributions import hmm_predictor, path_contributions
from .networks import HeldOut, Recipe, floor, held_out, trained

QUERY = "query"


@dataclasses.dataclass(frozen=True)
class Study:
    """Matrices `[T+1, T]` of one held-out sequence and losses on many.

    **Attributes:** `control`, norms over states; `contributions` and `errors`, "HMM" and "GPT" →; `attention` of the one
    head; `tokens`; `certain`, steps at which the filter was certain of the token; `excess`, loss of the GPT above the
    exact filter on the same sequences, and its standard error; `floor`, nats per token; `losses` of the training.
    """

    tokens: np.ndarray
    control: np.ndarray
    contributions: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    attention: np.ndarray
    certain: np.ndarray
    excess: tuple[float, float]
    floor: float
    losses: np.ndarray

    @property
    def above(self) -> float:
        """Loss of the GPT above the exact filter as a share of the floor."""
        return self.excess[0] / self.floor


def study(process: HiddenMarkovModel, recipe: Recipe, samples: int, key) -> Study:
    """Train a GPT on the process and look at one fresh sequence with both."""
    import jax

    keys = jax.random.split(key, 4)
    gpt, losses = trained(process, recipe, keys[0])
    fresh = HeldOut.of(process, recipe.length, 512, keys[1], floor(process, recipe.length, keys[3]))
    excess = fresh.excess(gpt)
    tokens = held_out(process, recipe.length, 1, keys[2])[0][: recipe.length]
    return Study(
        tokens,
        control_norms(process, tokens),
        *contributions(process, gpt, tokens, samples),
        attention_of(gpt, tokens),
        certain_steps(process, tokens),
        (excess.cross_entropy, excess.standard_error),
        fresh.floor,
        losses,
    )


def control_norms(process: HiddenMarkovModel, tokens: np.ndarray) -> np.ndarray:
    """Sizes of the control over all states, every query."""
    return np.asarray(explain_norms(process, tokens).norms)


def contributions(process: HiddenMarkovModel, gpt: GPT, tokens: np.ndarray, samples: int):
    """(contributions, standard errors) to P(next token = 1), under the support of the process."""
    T = len(tokens)
    targets = np.ones(T + 1, dtype=int)
    predictors = {
        "HMM": hmm_predictor(process, targets),
        "GPT": lambda strings: np.exp(next_token_log_probabilities(gpt, strings)[:, :, 1]),
    }
    return path_contributions(predictors, tokens, Reference.of(support(process), process.n_tokens), samples, 0)


def attention_of(gpt: GPT, tokens: np.ndarray) -> np.ndarray:
    """Attention averaged over layers and heads, with an empty row for query 0."""
    attention = np.asarray(gpt.attention(jnp.asarray(tokens)), np.float64).mean((0, 1))
    return np.concatenate([np.zeros((1, len(tokens))), attention])


def certain_steps(process: HiddenMarkovModel, tokens: np.ndarray) -> np.ndarray:
    """Bool `[T]`: the exact filter gave the token probability one."""
    p = np.asarray(filter_tokens(process, tokens).next_all())
    return p[np.arange(len(tokens)), tokens] > 1 - 1e-12


def drawings(found: Study) -> Drawings:
    """The bars of one query, and the matrices of all queries."""
    panels = [
        figures.Panel("Control of the dual filter", "dual", {"size": found.control}),
        figures.Panel("Change of the expected prediction, HMM", "filter", {"change": found.contributions["HMM"]}),
        figures.Panel("Change of the expected prediction, GPT", "transformer", {"change": found.contributions["GPT"]}),
        figures.Panel("Attention of the GPT", "transformer", {"weight": found.attention}),
    ]
    profile = functools.partial(
        figures.profile,
        panels=panels,
        tokens=[str(t) for t in found.tokens],
        link=QUERY,
        query_notes=[f"after {q} tokens" for q in range(len(found.tokens) + 1)],
        highlight=(~found.certain).tolist() if found.certain.any() and not found.certain.all() else None,
    )
    matrix = lambda values, signed: functools.partial(
        figures.matrix, choices={"all": values}, diverging=signed, link=QUERY
    )
    return {
        "profile": profile,
        "control": matrix(found.control, False),
        "attention": matrix(found.attention, False),
        **{f"change {name}": matrix(values, True) for name, values in found.contributions.items()},
    }
