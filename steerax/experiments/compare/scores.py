"""Losses on held-out sequences: every predictor on the same tokens, all observed ones but the first of a sequence."""

import jax.numpy as jnp
import numpy as np

from ...data.baselines import baseline_scores
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...inference.score import Comparison, score_predictor
from ...inference.verbs import dual_filter
from ...maths.nll import nll_of_probabilities
from ...models.entropy import conditional_entropy
from ...models.generalised import token_columns
from ...transformer.gpt import GPT
from .config import Config
from .sources import Process, Source

EXACT = "HMM filter"  # the predictor that all others are compared with
_LAYERS_SHOWN = (1, 4, 16)


def held_out_scores(source: Source, hmm: Process, gpt: GPT) -> Comparison:
    """Every predictor on the held-out sequences, simplest first, beside the exact filter."""
    held_out = source.held_out
    depth = held_out.max_length
    scores = baseline_scores(source.training, held_out, len(source.vocabulary))
    for n in (*(n for n in _LAYERS_SHOWN if n < depth), depth):
        scores[f"dual filter, {n} layer{'s' * (n > 1)}"] = dual_filter_scores(hmm, held_out, n)
    scores[EXACT] = score_predictor(hmm, held_out)
    scores["GPT"] = score_predictor(gpt, held_out)
    return Comparison({name: each.on(scores["GPT"].scored) for name, each in scores.items()}, EXACT)


def dual_filter_scores(hmm: Process, data: Sequences, layers: int) -> TokenScores:
    """The dual filter after so many layers, started from the prior."""
    rho = dual_filter(hmm, data, layers=layers, initial="prior").predicted
    nll = nll_of_probabilities(rho[:, :-1] @ token_columns(hmm), jnp.asarray(data.values))
    return TokenScores(-np.asarray(nll), data.mask)


def entropy_floor(config: Config, source: Source) -> float | None:
    """The smallest mean loss that any predictor of the process can have, nats per token; `None` for data."""
    if source.process is None or not source.drawn:
        return None
    entropy = conditional_entropy(source.process, config.shape.length + 1, key=config.key("entropy"))
    return float(entropy.per_token[1:].mean())
