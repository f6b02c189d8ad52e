"""Learning a hidden Markov model by expectation–maximisation."""

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._bounds import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...maths.keys import as_key, generator
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from ...runs import loop
from ...runs.files import content_hash
from ...runs.folder import RunFolder
from ..kinds import HMM
from ..results import Fitted
from ..tokens import as_codes
from .kernels.em import Pseudocounts, as_pseudocounts
from .restarts import CanIterate, Chain, EMLoop, Prepared, Record, Restart
from .select import n_parameters


@bounded(
    restarts=COUNT,
    max_iterations=COUNT_OR_ZERO,
    tolerance=NOT_NEGATIVE,
    screening=COUNT_OR_ZERO,
    save_every=NOT_NEGATIVE,
)
def fit_tokens(
    kind: HMM | HiddenMarkovModel,
    data: Sequences,
    key: Any = 0,
    *,
    restarts: int = 2,
    pseudocounts: Pseudocounts | float = 0.0,
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
    r"""The model whose likelihood (times a Dirichlet prior) cannot be raised by another iteration of Baum–Welch.

    Each iteration replaces the parameters by normalised expected counts; the objective never decreases. $O(Nd^2)$ for
    $N$ positions ($O(Nd^{k+1})$ for order $k$); memory for a chunk of time only. Local optima are common: compare restarts.

    **Arguments:**

    - `kind`: an `HMM`, or a model to start from, whose zeros stay zeros. The row of a state whose expected count is below
      1e-154 (1e-19 in single precision) may get zeros where underflow took single counts; no token needs it.
    - `restarts`: random starts, each run for `screening` iterations, side by side on a CPU; the best one goes on. The
      first and every other one has random transitions, the second and every other one states that mostly stay, which
      find regimes that the former miss.
    - `pseudocounts`: a `Pseudocounts`, or one number for all three.
    - `max_iterations`, `tolerance`: stop when an iteration gains less than `tolerance` nats per observed token.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.
    - `run_folder`: where all restarts are kept, every `save_every` seconds and at the end; `resume`: whether to go on
      from what is there, to the same model as without a stop. More `max_iterations` may be asked for then.
    - `executor`: whose workers do the screening, to the same numbers (see `sweep`), without `on_iteration`; each restart is
      kept when it is there.

    Ctrl-C ends the fit with the best model so far (`RESULTS.interrupted`). `result` is `no_better_than_one` where independent tokens
    explain the data as well, `degenerate_state` where a state lost all its counts.

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for options that cannot work;
    `ImpossibleTokenError` if a start gives a sequence probability zero; `WorkerError` as `sweep`; `CheckpointError` for a run folder that holds a
    run, if `resume` is false, or the run of other data or options.
    """
    counts = as_pseudocounts(pseudocounts)
    if isinstance(kind, HiddenMarkovModel) and kind.vocabulary is not None:
        data = dataclasses.replace(data.in_codes_of(kind.vocabulary), vocabulary=kind.vocabulary)
    starts = _starts(kind, data, key, restarts)
    search = Search(
        max_iterations, tolerance, screening, on_iteration, run_folder, resume, save_every, progress, executor
    )
    found = search("hidden Markov model by Baum-Welch", Prepared.of(data, starts[0]), starts, counts)
    mu, A, C = found.best.model.arrays
    model = HiddenMarkovModel(mu, A, C, data.vocabulary)
    return found.fitted(
        model, n_parameters(model), data, lambda: _no_better_than_one(model, found.best.log_likelihoods[-1], data)
    )


class Found(NamedTuple):
    """What a search ends with: the best restart, how it ended if not by itself, and log-likelihoods after screening."""

    best: Restart
    stopped: RESULTS
    compared: np.ndarray

    def fitted(self, model: Chain, parameters: int, data: Sequences, no_better_than_one: Callable[[], bool]) -> Fitted:
        """The record of a fit of a model with so many free parameters."""
        best = self.best
        result = self.stopped if best.result is None else best.result
        if result == RESULTS.successful and best.degenerate:
            result = RESULTS.degenerate_state
        elif result == RESULTS.successful and no_better_than_one():
            result = RESULTS.no_better_than_one
        return Fitted(
            model,
            np.array(best.log_likelihoods),
            np.array(best.objective),
            parameters,
            data.n_observed,
            result,
            tuple(best.degenerate),
            self.compared,
        )


class Search(NamedTuple):
    """How EM climbs from several starts: the options of `fit_tokens` of these names."""

    max_iterations: int
    tolerance: float = 1e-6
    screening: int = 20
    on_iteration: Callable[[int, float, Any], Any] | None = None
    run_folder: str | os.PathLike | None = None
    resume: bool = False
    save_every: float = 30.0
    progress: bool = False
    executor: concurrent.futures.Executor | None = None

    def __call__(self, kind: str, prepared: CanIterate, starts: Sequence[Chain], counts: Pseudocounts) -> Found:
        """The best of the starts after all iterations; `kind` says, beside the data, what makes two searches the same one."""
        runs, data = [Restart(model, model) for model in starts], prepared.data
        record = self._record(kind, data, runs, counts)
        compared_at = self.max_iterations if len(runs) == 1 else min(self.screening, self.max_iterations)
        with loop.interruptible() as interrupted:
            least_gain, stop = self.tolerance * data.n_observed, threading.Event()
            climb = EMLoop(prepared, counts, least_gain, self.on_iteration, interrupted, stop, record, self.progress)
            if self.executor is not None and len(runs) > 1:
                climb.elsewhere(runs, compared_at, self.executor)
            climb(runs, compared_at)
            best = max(runs, key=lambda run: run.objective[min(compared_at, len(run.objective) - 1)])
            climb([best], self.max_iterations)
            stopped = RESULTS.interrupted if interrupted() else RESULTS.max_steps_reached
        if record is not None:
            record.save()
        at = lambda run: run.log_likelihoods[min(compared_at, len(run.objective) - 1)]
        return Found(best, stopped, np.array([at(run) for run in runs]))

    def _record(self, kind: str, data: Sequences, runs: list[Restart], counts: Pseudocounts) -> Record | None:
        """The restarts as the run folder has them, if there is one."""
        if self.run_folder is None:
            return None
        writes = data.devices is None or jax.process_index() == 0  # processes that share devices share the folder
        leaves = (np.asarray(leaf) for run in runs for leaf in jax.tree.leaves(run.model.parameters))
        identity = {
            "kind": kind,
            "data": content_hash(np.asarray(data.values), np.asarray(data.lengths)),
            "starts": content_hash(*leaves),
            "restarts": len(runs),
            "pseudocounts": list(counts),
            "tolerance": self.tolerance,
            "screening": self.screening,
        }
        record = Record(RunFolder(self.run_folder, identity, self.resume, writes), runs, self.save_every)
        record.restore()
        return record


def _no_better_than_one(model: HiddenMarkovModel, log_likelihood: float, data: Sequences) -> bool:
    """Whether independent tokens have the smaller Akaike criterion."""
    counts = np.bincount(data.values[data.mask], minlength=data.n_tokens)
    counts = counts[counts > 0]
    independent = float(counts @ np.log(counts / counts.sum()))
    return model.n_states > 1 and log_likelihood - independent < n_parameters(model) - (data.n_tokens - 1)


def _starts(kind: HMM | HiddenMarkovModel, data: Sequences, key: Any, restarts: int) -> list[HiddenMarkovModel]:
    """The model given, or random ones."""
    if not data.is_tokens or data.n_observed == 0:
        raise DataError("A hidden Markov model is fitted to tokens; the data hold none.")
    if isinstance(kind, HiddenMarkovModel):
        as_codes(kind, data)
        return [kind]
    keys = jax.random.split(as_key(key), restarts)
    return [_random_start(k, data, kind, sticky=i % 2 == 1) for i, k in enumerate(keys)]


def _random_start(key: Any, data: Sequences, kind: HMM, sticky: bool) -> HiddenMarkovModel:
    """A start that breaks the symmetry between states and knows how often each token occurs.

    Emission rows are the smoothed token frequencies times independent exponential weights; transition rows are uniform
    on the simplex, or with `sticky` a twentieth of that beside the identity; the initial distribution is uniform.
    """
    rng, d = generator(key), kind.n_states
    frequency = np.bincount(data.values[data.mask], minlength=data.n_tokens) + 0.5
    C = frequency * rng.exponential(size=(d, len(frequency)))
    C /= C.sum(1, keepdims=True)
    A = rng.dirichlet(np.ones(d), size=(d,) * kind.order)
    if sticky:
        A = 0.05 * A + 0.95 * np.eye(d)  # the newest state is the last of those before the next
    if kind.order == 1:
        return HiddenMarkovModel(np.full(d, 1 / d), A, C)
    n, transition = d**kind.order, OrderKTransition(jnp.asarray(A))
    return HiddenMarkovModel(np.full(n, 1 / n), transition, transition.lifted_emission(jnp.asarray(C)))
