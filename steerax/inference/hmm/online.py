"""Learning from a stream: expectation–maximisation on one batch of sequences at a time."""

import dataclasses
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..._errors import ConfigurationError, DataError
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .filter import forward_filter
from .kernels.counts import SMALLEST_MASS, chunk_blocks, expected_counts
from .kernels.em import Counts, Pseudocounts, as_pseudocounts, maximise, prepare


@dataclasses.dataclass(frozen=True)
class StreamFit:
    """What `fit_hmm_online` returns.

    **Attributes:** `model`; `log_likelihoods`, nats per observed token of each batch under the model before it saw the
    batch: an honest prediction error, as long as batches are new.
    """

    model: HiddenMarkovModel
    log_likelihoods: Float[np.ndarray, " n"]


def fit_hmm_online(
    start: HiddenMarkovModel,
    batches: Iterable[Sequences],
    *,
    exponent: float = 0.6,
    pseudocounts: Pseudocounts | float = 0.0,
    warm: int = 1,
) -> StreamFit:
    """Stepwise expectation–maximisation (Cappé and Moulines, 2009): running means of expected counts, one batch at a time.

        s_n = (1 - γ_n) s_{n-1} + γ_n ŝ(batch n; θ_{n-1}) / tokens,    γ_n = n^{-exponent},    θ_n = M-step(s_n).

    Passing several epochs of minibatches makes it minibatch learning; a stream is passed once. Batches of one shape
    compile once.

    **Arguments:** `start`; `batches`, any iterable of `Sequences`; `exponent` in (1/2, 1]; `pseudocounts` per token;
    `warm`, batches before the first M-step.

    **Raises:** `ConfigurationError` for an exponent outside (1/2, 1]; `DataError` for an empty stream;
    `ImpossibleTokenError` if the model gives a batch probability zero.
    """
    if not 0.5 < exponent <= 1:
        raise ConfigurationError(f"The exponent of the step sizes lies in (1/2, 1], but {exponent} was given.")
    extra, model, running, scores = as_pseudocounts(pseudocounts), start, None, []
    for number, batch in enumerate(batches, 1):
        if batch.n_observed == 0:
            continue
        rows, block = prepare(batch, model)
        for size in dict.fromkeys((block, 1)):
            per_chunk = chunk_blocks(rows.shape[0], rows.shape[1], model.n_states, size)
            found = expected_counts(*model.arrays, rows, jnp.asarray(batch.lengths), size, per_chunk)
            if found.smallest_mass > SMALLEST_MASS:
                break
        else:
            forward_filter(model, batch)  # names an impossible token
        scores.append(float(found.log_likelihood) / batch.n_observed)
        fresh = Counts(*(c / batch.n_observed for c in found[:3]))
        step = number**-exponent
        running = (
            fresh
            if running is None
            else Counts(*((1 - step) * r + step * f for r, f in zip(running, fresh, strict=True)))
        )
        if number >= warm:
            model = HiddenMarkovModel(*maximise(*model.arrays, running, extra), start.vocabulary)
    if not scores:
        raise DataError("The stream held no token; give at least one batch.")
    return StreamFit(model, np.array(scores))
