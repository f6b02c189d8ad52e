"""Learning from a stream: expectation–maximisation on one batch of sequences at a time."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from .._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, Range, bounded
from .._errors import ConfigurationError, DataError
from ..data.sequences import Sequences
from ..models.hmm import HiddenMarkovModel
from .densities.online import OnlineSeries
from .hmm.kernels.em import Pseudocounts, as_pseudocounts
from .hmm.online import OnlineTokens


@dataclasses.dataclass(frozen=True)
class FittedOnline:
    """What `fit_online` returns.

    **Attributes:** `model`; `log_likelihoods`, nats per observed token or observation of each batch under the model before it saw the
    batch: an honest prediction error, as long as batches are new.
    """

    model: HiddenMarkovModel
    log_likelihoods: Float[np.ndarray, " n"]


@bounded(warm=COUNT_OR_ZERO, exponent=Range(0.5, 1), shrinkage=NOT_NEGATIVE)
def fit_online(
    start: Any,
    batches: Iterable[Sequences],
    *,
    exponent: float = 0.6,
    pseudocounts: Pseudocounts | float = 0.0,
    shrinkage: float = 1.0,
    warm: int = 1,
) -> FittedOnline:
    r"""Stepwise expectation–maximisation (Cappé and Moulines, 2009): running means of expected counts, a batch at a time, and of
    the statistics of an emission of numbers.

    $$s_n=(1-\gamma_n)s_{n-1}+\gamma_n\,\hat s(\text{batch }n;\theta_{n-1})/\text{observations},\qquad
    \gamma_n=n^{-\text{exponent}},\qquad \theta_n=\text{M-step}(s_n).$$

    Passing several epochs of minibatches makes it minibatch learning; a stream is passed once. Batches of one shape
    compile once.

    **Arguments:** `start`; `batches`, any iterable of `Sequences`; `exponent` in (1/2, 1]; `pseudocounts` per token or
    observation; `shrinkage`, for a model of numbers, the weight of the prior of `fit` in observations, which counts for less the
    more were seen (its centre and spread are those of the first batch); `warm`, batches before the first M-step.

    **Raises:** `ConfigurationError` for an exponent outside (1/2, 1] or another kind of model; `DataError` for an empty stream,
    or observations outside of the support; `ImpossibleTokenError` if the model gives a batch probability zero.
    """
    if not isinstance(start, HiddenMarkovModel):
        raise ConfigurationError(f"fit_online takes a HiddenMarkovModel, not a {type(start).__name__}.")
    if not 0.5 < exponent <= 1:
        raise ConfigurationError(f"The exponent of the step sizes lies in (1/2, 1], but {exponent} was given.")
    extra, scores, model = as_pseudocounts(pseudocounts), [], start
    kept = OnlineTokens(extra) if start.emits_tokens else OnlineSeries(extra, shrinkage)
    for number, given in enumerate(batches, 1):
        batch = kept.read(model, given)
        if batch.n_observed == 0:
            continue
        scores.append(kept.take_in(model, batch, number**-exponent) / batch.n_observed)
        if number >= warm:
            model = kept.maximised(model)
    if not scores:
        raise DataError(f"The stream held no {kept.noun}; give at least one batch.")
    return FittedOnline(model, np.array(scores))
