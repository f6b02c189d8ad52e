"""Learning a model of numbers from a stream: running means of expected counts and of the statistics of the emission."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ...data.convert import as_sequences
from ...data.sequences import Sequences
from ...models.emissions.base import Prior
from ...models.hmm import HiddenMarkovModel
from ..hmm.kernels.em import Counts, Pseudocounts
from ..hmm.restarts import counted_safely
from .filter import filter_series
from .inputs import with_inputs
from .kernels.em import Expected, Means, expected, maximise, mixed
from .observations import as_observations


class OnlineSeries:
    r"""What `fit_online` keeps of a stream of series.

    Statistics are sums about parameters that move from batch to batch; before two of them are mixed, the older ones are put in
    terms of the newer parameters, so that the mean is the one of statistics that never moved. The prior of the emission has the
    centre and the spread of the first batch, and weighs `shrinkage` observations among all that were seen so far.
    """

    noun = "observation"

    def __init__(self, pseudocounts: Pseudocounts, shrinkage: float):
        self.pseudocounts, self.shrinkage = pseudocounts, shrinkage
        self.means: Any = None
        self.prior: Any = None
        self.seen = 0

    def read(self, model: HiddenMarkovModel, given: Any) -> Sequences:
        """A batch as sequences."""
        return with_inputs(as_sequences(given, "observations"), model.emission.n_inputs)

    def take_in(self, model: HiddenMarkovModel, batch: Sequences, share: float) -> float:
        """Mix a batch into the means; returns its log-likelihood. **Raises:** `DataError`, `ImpossibleTokenError`."""
        z, lengths, number = jnp.asarray(as_observations(model, batch)), jnp.asarray(batch.lengths), batch.n_observed
        step = functools.partial(expected, *model.parameters, z, lengths)
        found: Expected = counted_safely(
            step, (len(z), batch.number), model, batch, lambda: filter_series(model, batch).run.lost_mass
        )
        counts, statistics = jax.tree.map(lambda a: a / number, (Counts(*found.counts[:3]), found.statistics))
        fresh = Means(counts, statistics, model.emission)
        self.means = fresh if self.means is None else mixed(self.means, fresh, share)
        if self.prior is None:
            counted = model.emission.n_states, 0.0, self.pseudocounts.emission, z.dtype, model.emission.n_inputs
            self.prior = Prior.of(batch.values[batch.inside], *counted)
        self.seen += number
        return float(found.counts.log_likelihood)

    def maximised(self, model: HiddenMarkovModel) -> HiddenMarkovModel:
        """The M-step."""
        weight = jnp.asarray(self.shrinkage / self.seen, self.prior.weight.dtype)
        prior = self.prior._replace(weight=weight)
        mu, A, emission = maximise(model.initial, model.transition, self.means, self.pseudocounts, prior)
        return HiddenMarkovModel(mu, A, emission, channels=model.channels)
