"""What `fit_online` keeps of a stream of tokens."""

from typing import Any

from ...data.convert import as_sequences
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .kernels.em import Counts, Pseudocounts, counts_of, maximise
from .restarts import Prepared


class OnlineTokens:
    """What `fit_online` keeps of a stream of tokens: running means of expected counts."""

    noun = "token"

    def __init__(self, pseudocounts: Pseudocounts):
        self.pseudocounts = pseudocounts
        self.means: Any = None

    def read(self, model: HiddenMarkovModel, given: Any) -> Sequences:
        """A batch as sequences."""
        return as_sequences(given, "tokens", model.vocabulary)

    def take_in(self, model: HiddenMarkovModel, batch: Sequences, share: float) -> float:
        """Mix a batch into the means; returns its log-likelihood. **Raises:** `DataError`, `ImpossibleTokenError`."""
        prepared = Prepared.of(batch, model)
        step = lambda *sizes: counts_of(*model.arrays, prepared.rows, prepared.lengths, *sizes)
        counted = prepared.counted(model, step)
        fresh = Counts(*(c / batch.n_observed for c in counted[:3]))
        before = fresh if self.means is None else self.means
        self.means = Counts(*((1 - share) * s + share * f for s, f in zip(before, fresh, strict=True)))
        return float(counted.log_likelihood)

    def maximised(self, model: HiddenMarkovModel) -> HiddenMarkovModel:
        """The M-step."""
        mu, A, C = maximise(*model.arrays, self.means, self.pseudocounts)
        return HiddenMarkovModel(mu, A, C, model.vocabulary)
