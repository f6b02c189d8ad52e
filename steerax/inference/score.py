r"""How well predictors predict: nats per observation of one, and the differences between several on the same tokens."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from .._errors import ConfigurationError, DataError
from ..data.chunks import chunks
from ..data.convert import as_sequences
from ..data.scores import TokenScores
from ..data.sequences import Sequences
from ..models.conditional import AbstractConditionalHMM
from ..models.generalised import GeneralisedHMM
from ..models.hmm import HiddenMarkovModel
from .conditional.filter import score_tokens as score_tokens_of_kernels
from .devices import mesh_of, on_host, spread
from .generalised.filter import score_tokens as score_tokens_of_operators
from .hmm.filter import score_tokens
from .predictor import as_predictor

STRINGS = 256  # strings given to a predictor at once
# models whose filter gives the probability of every token
_SCORES: dict[type, Callable[..., TokenScores]] = {
    HiddenMarkovModel: score_tokens,
    GeneralisedHMM: score_tokens_of_operators,
    AbstractConditionalHMM: score_tokens_of_kernels,
}


def score_predictor(predictor: Any, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every observed token that the predictor gives a probability.

    Hidden Markov models and dual-filter networks predict the first token of a sequence; other networks do not.
    `compare_predictors` scores several on the same tokens.

    **Arguments:** `predictor`, anything that `as_predictor` takes; `on_impossible`, for a hidden Markov model, plain,
    generalised or conditional.

    **Raises:** `DataError` for data that are not tokens of the predictor, or gaps it cannot read.
    """
    for kind, scores in _SCORES.items():
        if isinstance(predictor, kind):
            return scores(predictor, data, on_impossible=on_impossible)
    common = as_predictor(predictor)
    if not data.is_tokens:
        raise DataError("Predictors of tokens are scored on tokens; these data are observations.")
    if common.n_tokens is not None and data.n_tokens > common.n_tokens:
        raise DataError(f"The network reads codes 0 … {common.n_tokens - 1}; the data hold others.")
    if data.has_gaps and not common.reads_gaps:
        raise DataError("The predictor cannot read missing tokens; use sequences without gaps.")
    mask = data.mask if common.predicts_first else data.mask & (np.arange(data.max_length) > 0)
    inputs = data.values[:, : data.max_length - 1]
    values = np.zeros(data.values.shape)
    if not mask.any():
        return TokenScores(values, mask)
    for rows in chunks(data.number, STRINGS):
        log_p = next_token_log_probabilities(common, inputs[rows], mesh_of(data))
        after = data.values[rows, data.max_length - log_p.shape[1] :]
        at_token = np.take_along_axis(log_p, np.maximum(after, 0)[..., None], axis=2)[..., 0]
        values[rows, data.max_length - log_p.shape[1] :] = at_token
    return TokenScores(np.where(mask, values, 0.0), mask)


def next_token_log_probabilities(
    predictor: Any, strings: np.ndarray, mesh: Mesh | None = None
) -> Float[np.ndarray, "n R V"]:
    """Log-probabilities after every prefix of `strings` `[n T]`, in float64 on the host; see `Predictor`.

    Works through at most 256 strings at a time, always as many, so that one shape is compiled.
    """
    common = as_predictor(predictor)
    parts = []
    for rows in chunks(len(strings), STRINGS):
        part = np.asarray(strings[rows], np.int32)
        if not common.reads_gaps:
            part = np.maximum(part, 0)  # padding; causal predictors do not let it reach what comes before
        full = part
        if common.compiled:
            full = np.zeros((min(STRINGS, _rounded(len(strings))), part.shape[1]), np.int32)
            full[: len(part)] = part
            full = full if mesh is None else spread(mesh, full, 0)
        parts.append(on_host(common.log_probabilities(full)).astype(np.float64)[: len(part)])
    return np.concatenate(parts)


def _rounded(n: int) -> int:
    """The next power of two, so that few shapes are compiled."""
    return 1 << (n - 1).bit_length()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare_predictors` returns: `scores` by name, all on the same tokens, and the differences to `reference`.

    **Attributes:** `excess`, name → (nats per token above the reference, standard error over sequences).
    """

    scores: dict[str, TokenScores]
    reference: str

    @property
    def excess(self) -> dict[str, tuple[float, float]]:
        base = self.scores[self.reference]
        return {name: difference(scores, base) for name, scores in self.scores.items() if name != self.reference}


def compare_predictors(predictors: dict[str, Any], data: Any, reference: str | None = None) -> Comparison:
    """Several predictors on the same tokens: those that all of them give a probability.

    **Arguments:** `predictors`, by name; `reference`, the one that others are compared with (the first by default).

    **Raises:** `ConfigurationError` without predictors or for an unknown reference; otherwise as `score_predictor`.
    """
    if not predictors or (reference is not None and reference not in predictors):
        raise ConfigurationError(f"The reference {reference!r} is not among the predictors {', '.join(predictors)}.")
    data = as_sequences(
        data, "tokens", next((v for p in predictors.values() if (v := getattr(p, "vocabulary", None))), None)
    )
    scores = {name: score_predictor(p, data, on_impossible="skip") for name, p in predictors.items()}
    common = np.logical_and.reduce([s.scored for s in scores.values()])
    restricted = {name: s.on(common) for name, s in scores.items()}
    return Comparison(restricted, reference or next(iter(predictors)))


def difference(one: TokenScores, other: TokenScores) -> tuple[float, float]:
    """Nats per token that `one` costs above `other`, and the standard error over sequences; NaN if both are infinite."""
    if not np.array_equal(one.scored, other.scored):
        raise DataError("The two scores belong to different tokens; restrict them to the same ones first.")
    with np.errstate(invalid="ignore"):  # the difference of two infinite ones
        paired = TokenScores(one.log_likelihoods - other.log_likelihoods, one.scored)
    return paired.cross_entropy, paired.standard_error
