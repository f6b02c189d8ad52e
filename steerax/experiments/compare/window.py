r"""One held-out window in detail: which past tokens each predictor takes its prediction of the next token from.

Query $q$ asks for the prediction after the first $q$ tokens. All matrices are `[T+1 T]`: row $q$, column $s$ for the
token $Z_s$, zero for $s\ge q$.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ...data.sequences import Sequences
from ...inference.hmm.explain import explain_norms
from ...inference.reference import Reference, support
from ...inference.score import next_token_log_probabilities
from ...inference.verbs import explain
from ...inference.verbs import filter as exact_filter
from ...models.hmm import HiddenMarkovModel
from ...transformer.gpt import GPT
from .config import REFERENCES, Config
from .contributions import adapted_weights, hmm_predictor, path_contributions
from .sources import Process, Source

_SMALL_VOCABULARY = 8  # the adapted weights cost V times more
_CERTAIN = 1 - 1e-12


@dataclasses.dataclass(frozen=True)
class Window:
    """What is shown of one window.

    **Attributes:** `targets`, the token whose probability is explained at each query; `control`, sizes of the control of
    the dual filter, over all states; `weights`, its terms of the target's probability, which with a prior add up to it;
    `probability`, name → probability of the target (NaN where a predictor gives none); `contributions` and `errors`,
    name → path contributions to that probability and their standard errors; `attention`, "layer l, head h" → attention;
    `adapted`, name → adapted weights of the last query; `certain`, whether the exact filter was certain of the token at
    that step; `reference`, how continuations were drawn.
    """

    tokens: Int[np.ndarray, " T"]
    targets: Int[np.ndarray, " T1"]
    control: Float[np.ndarray, "T1 T"]
    weights: Float[np.ndarray, "T1 T"]
    probability: dict[str, Float[np.ndarray, " T1"]]
    contributions: dict[str, Float[np.ndarray, "T1 T"]]
    errors: dict[str, Float[np.ndarray, "T1 T"]]
    attention: dict[str, Float[np.ndarray, "T1 T"]]
    adapted: dict[str, Float[np.ndarray, "m T"]]
    certain: Bool[np.ndarray, " T"]
    reference: str

    @property
    def length(self) -> int:
        """T, the number of tokens."""
        return len(self.tokens)

    def mean_attention(self) -> Float[np.ndarray, "T1 T"]:
        """Attention averaged over layers and heads."""
        return np.mean(list(self.attention.values()), axis=0)


def window_of(config: Config, source: Source, hmm: Process, gpt: GPT) -> Window:
    """Control, contributions, attention and adapted weights on the first held-out window without gaps."""
    sequence = _fullest(source.held_out)
    tokens = sequence[: config.shape.length]
    T = len(tokens)
    predictive = np.asarray(exact_filter(hmm, tokens).next_all())
    targets = _targets(sequence, predictive)
    weights = np.asarray(explain(hmm, tokens, queries="all", method="control").weights)
    predictors = {
        "HMM": hmm_predictor(hmm, targets),
        "GPT": lambda strings: np.exp(next_token_log_probabilities(gpt, strings)[:, np.arange(T), targets[1:]]),
    }
    kind = config.reference or ("support" if source.drawn else "hmm")
    contributions, errors, adapted = _contributions(config, kind, hmm, predictors, tokens)
    return Window(
        tokens=tokens,
        targets=targets,
        control=_sizes(hmm, tokens),
        weights=np.take_along_axis(weights, targets[:, None, None], axis=2)[..., 0],
        probability={
            "HMM": predictive[np.arange(T + 1), targets],
            "GPT": np.append(np.nan, predictors["GPT"](tokens[None])[0]),
        },
        contributions=contributions,
        errors=errors,
        attention=_attention(gpt, tokens),
        adapted=adapted,
        certain=(tokens < 0) | (predictive[np.arange(T), np.maximum(tokens, 0)] > _CERTAIN),
        reference=REFERENCES[kind],
    )


def _sizes(hmm: Process, tokens: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T1 T"]:
    """Sums over states of absolute weights."""
    if isinstance(hmm, HiddenMarkovModel):
        return np.asarray(explain_norms(hmm, tokens).norms)
    return np.asarray(explain(hmm, tokens, queries="all", target="state", method="control").norms)


def _fullest(held_out: Sequences) -> Int[np.ndarray, " T"]:
    """The longest held-out sequence without gaps (with gaps only if all have some); the first of them."""
    gaps = (held_out.inside & ~held_out.mask).any(1)
    return held_out[int(np.lexsort((-held_out.lengths, gaps))[0])]


def _targets(sequence: Int[np.ndarray, " N"], predictive: Float[np.ndarray, "T1 V"]) -> Int[np.ndarray, " T1"]:
    """The token whose probability is explained at each query: 1 for binary tokens, otherwise the one that came (the
    most probable one where it is missing)."""
    n, V = predictive.shape
    if V == 2:
        return np.ones(n, dtype=int)
    came = np.full(n, -1)
    came[: min(n, len(sequence))] = sequence[:n]
    return np.where(came >= 0, came, predictive.argmax(1))


def _contributions(config: Config, kind: str, hmm: Process, predictors: dict, tokens: Int[np.ndarray, " T"]):
    """(contributions, standard errors, adapted weights) by name; a window with gaps has none."""
    if (tokens < 0).any():
        return {}, {}, {}
    choices = {"support": support(hmm), "uniform": "uniform", "hmm": hmm}
    reference = Reference.of(choices[kind], hmm.n_tokens)
    contributions, errors = path_contributions(predictors, tokens, reference, config.samples, config.seed)
    if not reference.uniform or hmm.n_tokens > _SMALL_VOCABULARY:
        return contributions, errors, {}
    return contributions, errors, adapted_weights(predictors, tokens, reference, config.samples, config.seed)


def _attention(gpt: GPT, tokens: Int[np.ndarray, " T"]) -> dict[str, Float[np.ndarray, "T1 T"]]:
    """The attention of each head, with an empty row for the query before any token."""
    attention = np.asarray(gpt.attention(jnp.asarray(tokens)), np.float64)
    rows = np.pad(attention, ((0, 0), (0, 0), (1, 0), (0, 0)))
    return {f"layer {i + 1}, head {j + 1}": rows[i, j] for i, j in np.ndindex(*rows.shape[:2])}
