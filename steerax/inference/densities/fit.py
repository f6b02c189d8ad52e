"""Learning a hidden Markov model of numbers by expectation–maximisation."""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._bounds import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import DataError
from ...data.sequences import Sequences
from ...maths.keys import as_key
from ...models.emissions.base import AbstractEmission, Family, Prior
from ...models.hmm import HiddenMarkovModel
from ..devices import AXIS, here, mesh_of, over_devices, spread
from ..hmm.fit import Search
from ..hmm.kernels.em import Iteration, Pseudocounts, as_pseudocounts
from ..hmm.restarts import Restart, counted_safely
from ..hmm.select import n_parameters
from ..kinds import HMM
from ..results import Fitted
from .filter import filter_series
from .inputs import with_inputs
from .kernels.em import em_step
from .lags import windows
from .observations import as_observations
from .starts import family_of, random_start


class PreparedSeries(NamedTuple):
    """Sequences as the E-step takes them: observations `[T B p]` and lengths `[B]`, and the prior of the emission."""

    data: Sequences
    z: Any
    lengths: Any
    prior: Prior
    noun: str = "observation"

    def iterated(self, model: HiddenMarkovModel, pseudocounts: Pseudocounts) -> Iteration:
        """One iteration of EM. Raises `ImpossibleTokenError`."""
        step = functools.partial(self.step, model, pseudocounts)
        lost_mass = lambda: filter_series(model, self.data).run.lost_mass
        return counted_safely(step, self.z.shape[:2], model, self.data, lost_mass)

    def step(self, model: HiddenMarkovModel, pseudocounts: Pseudocounts, block: int, per_chunk: int) -> Iteration:
        """`em_step`, over the devices of the data."""
        given = *model.parameters, self.z, self.lengths, pseudocounts, self.prior
        if (mesh := mesh_of(self.data)) is None:
            return em_step(*given, block, per_chunk)
        sizes = {"block": block, "per_chunk": per_chunk, "axis": AXIS}
        over = over_devices(mesh, em_step, (None, None, None, 1, 0, None, None), None, **sizes)
        return here(over(*given))


@bounded(
    restarts=COUNT,
    max_iterations=COUNT_OR_ZERO,
    tolerance=NOT_NEGATIVE,
    screening=COUNT_OR_ZERO,
    shrinkage=NOT_NEGATIVE,
    save_every=NOT_NEGATIVE,
)
def fit_series(
    kind: HMM | HiddenMarkovModel,
    data: Sequences,
    key: Any = 0,
    *,
    restarts: int = 4,
    pseudocounts: Pseudocounts | float = 0.0,
    shrinkage: float = 1.0,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
    screening: int = 20,
    on_iteration: Callable[[int, float, HiddenMarkovModel], Any] | None = None,
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: float = 30.0,
    progress: bool = True,
    executor: concurrent.futures.Executor | None = None,
) -> Fitted:
    r"""The model whose likelihood, times priors, cannot be raised by another iteration of expectation–maximisation.

    The M-step of the chain is that of `fit_tokens`, whose other options these are; that of an emission is in its class.
    The likelihood of a Gaussian has no maximum: a state may settle on one observation, with variance zero. The prior of
    [FraleyRaftery2007] keeps it from that.

    **Arguments:**

    - `kind`: an `HMM` with an `emission` of numbers, or a model to start from.
    - `restarts`: starts from groups of observations that are alike, the second and every other one of stretches of time that are.
    - `shrinkage`: weight of the prior of the emission, in observations: of covariances with the data's variances over $d^{2/p}$, of
      counts with their mean. 0 is maximum likelihood, where it exists.

    `result` is `no_better_than_one` where one state explains the data as well, `breakdown` where a likelihood was not finite.

    **Raises:** `DataError` for data without observations or outside of the support; otherwise as `fit_tokens`.
    """
    counts = as_pseudocounts(pseudocounts)
    if not data.is_tokens:
        data = with_inputs(data, _emission_of(kind).n_inputs)
    if data.is_tokens or data.n_observed == 0:
        raise DataError("A model of numbers is fitted to series of numbers; the data hold none.")
    prior, starts = _starts(kind, data, key, restarts, shrinkage, counts)
    mesh = mesh_of(data)
    seen = as_observations(starts[0], data)
    if (lags := starts[0].emission.lags) and np.isnan(windows(seen, lags)).any(-1).all():
        raise DataError(f"No sequence is longer than the {lags} observations that each one reads before it.")
    z = spread(mesh, seen, 1, fill=np.nan)
    prepared = PreparedSeries(data, z, spread(mesh, data.lengths, 0, fill=0), prior)
    search = Search(
        max_iterations, tolerance, screening, on_iteration, run_folder, resume, save_every, progress, executor
    )
    kinds = f"hidden Markov model with {type(starts[0].emission).__name__}, shrinkage {shrinkage}"
    found = search(kinds, prepared, starts, counts)
    return found.fitted(
        found.best.model, n_parameters(found.best.model), data, lambda: _no_better_than_one(found.best, prepared)
    )


def _emission_of(kind: HMM | HiddenMarkovModel) -> Family | AbstractEmission:
    """What models of a kind emit."""
    return kind.emission if isinstance(kind, HiddenMarkovModel) else family_of(kind)


def _starts(
    kind: HMM | HiddenMarkovModel, data: Sequences, key: Any, restarts: int, shrinkage: float, counts: Pseudocounts
) -> tuple[Prior, list[HiddenMarkovModel]]:
    """The prior, and the model given or random ones."""
    dtype = kind.initial.dtype if isinstance(kind, HiddenMarkovModel) else jnp.result_type(float)
    z = data.values[data.inside]
    _check_channels(data, z)
    if isinstance(kind, HMM):
        _check_support(data, z, family_of(kind).outside(z))
    prior = Prior.of(z, kind.n_states, shrinkage, counts.emission, dtype, data.n_inputs)
    if isinstance(kind, HiddenMarkovModel):
        return prior, [kind]
    keys = jax.random.split(as_key(key), restarts)
    return prior, [random_start(k, data, kind, prior, regimes=i % 2 == 1) for i, k in enumerate(keys)]


def _check_channels(data: Sequences, z: Any) -> None:
    """Raises `DataError` for a channel of which there is no observation."""
    for c in np.flatnonzero(~np.isfinite(z).any(0)):
        name = f"channel {c}" if data.columns is None else repr(data.columns[c])
        raise DataError(f"Nothing is observed of {name}, so nothing can be learned of it; leave it out.")


def _check_support(data: Sequences, z: Any, outside: Any) -> None:
    """Raises `DataError` for an observation that no emission of the kind has: its parameters would be at fault otherwise."""
    if outside.any():
        row, c = map(int, np.argwhere(outside)[0])
        sequence, t = np.argwhere(data.inside)[row]
        raise DataError(
            f"The observation {z[row, c]:g} in channel {c} at position {t} of sequence {sequence} is not among whole numbers "
            "0, 1, 2, …, which this kind of emission has."
        )


def _no_better_than_one(best: Restart, prepared: PreparedSeries) -> bool:
    """Whether independent observations have the smaller Akaike criterion."""
    model = best.model
    if model.n_states == 1:
        return False
    one = HiddenMarkovModel(np.ones(1), np.ones((1, 1)), model.emission.permuted(np.zeros(1, int)))
    alone = Search(max_iterations=50)("one state", prepared, [one], Pseudocounts()).best
    gain = best.log_likelihoods[-1] - alone.log_likelihoods[-1]
    return gain < n_parameters(model) - n_parameters(alone.model)
