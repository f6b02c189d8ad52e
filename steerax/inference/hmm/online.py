"""Learning from a stream: expectation–maximisation on one batch of sequences at a time."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._bounds import COUNT_OR_ZERO, Range, bounded
from ..._errors import ConfigurationError, DataError
from ...data.convert import as_sequences
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ..tokens import check_hidden
from .kernels.em import Counts, Pseudocounts, as_pseudocounts, counts_of, maximise
from .restarts import Prepared


@dataclasses.dataclass(frozen=True)
class FittedOnline:
    """What `fit_online` returns.

    **Attributes:** `model`; `log_likelihoods`, nats per observed token of each batch under the model before it saw the
    batch: an honest prediction error, as long as batches are new.
    """

    model: HiddenMarkovModel
    log_likelihoods: Float[np.ndarray, " n"]


@bounded(warm=COUNT_OR_ZERO, exponent=Range(0.5, 1))
def fit_online(
    start: Any,
    batches: Iterable[Sequences],
    *,
    exponent: float = 0.6,
    pseudocounts: Pseudocounts | float = 0.0,
    warm: int = 1,
) -> FittedOnline:
    r"""Stepwise expectation–maximisation (Cappé and Moulines, 2009): running means of expected counts, a batch at a time.

    $$s_n=(1-\gamma_n)s_{n-1}+\gamma_n\,\hat s(\text{batch }n;\theta_{n-1})/\text{tokens},\qquad
    \gamma_n=n^{-\text{exponent}},\qquad \theta_n=\text{M-step}(s_n).$$

    Passing several epochs of minibatches makes it minibatch learning; a stream is passed once. Batches of one shape
    compile once.

    **Arguments:** `start`; `batches`, any iterable of `Sequences`; `exponent` in (1/2, 1]; `pseudocounts` per token;
    `warm`, batches before the first M-step.

    **Raises:** `ConfigurationError` for an exponent outside (1/2, 1]; `DataError` for an empty stream;
    `ImpossibleTokenError` if the model gives a batch probability zero.
    """
    check_hidden("fit_online", start)
    if not 0.5 < exponent <= 1:
        raise ConfigurationError(f"The exponent of the step sizes lies in (1/2, 1], but {exponent} was given.")
    extra, mean, scores = as_pseudocounts(pseudocounts), None, []
    model: HiddenMarkovModel = start
    for number, given in enumerate(batches, 1):
        batch = as_sequences(given, "tokens", start.vocabulary)
        if batch.n_observed == 0:
            continue
        prepared, arrays = Prepared.of(batch, model), model.arrays
        step = lambda *sizes: counts_of(*arrays, prepared.rows, prepared.lengths, *sizes)  # noqa: B023
        counted = prepared.counted(model, step)
        scores.append(float(counted.log_likelihood) / batch.n_observed)
        fresh = Counts(*(c / batch.n_observed for c in counted[:3]))
        gamma = number**-exponent
        mean = (
            fresh if mean is None else Counts(*((1 - gamma) * s + gamma * f for s, f in zip(mean, fresh, strict=True)))
        )
        if number >= warm:
            mu, A, C = maximise(*arrays, mean, extra)
            model = HiddenMarkovModel(mu, A, C, start.vocabulary)
    if not scores:
        raise DataError("The stream held no token; give at least one batch.")
    return FittedOnline(model, np.array(scores))
