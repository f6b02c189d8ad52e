"""Learning a hidden Markov model by expectation–maximisation."""

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

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
from .restarts import EMLoop, Prepared, Record, Restart
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

    Ctrl-C ends the fit with the best model so far (`RESULTS.interrupted`). `result` is `no_better_than_one` where independent tokens
    explain the data as well, `degenerate_state` where a state lost all its counts.

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for options that cannot work;
    `ImpossibleTokenError` if a start gives a sequence probability zero; `CheckpointError` for a run folder that holds a
    run, if `resume` is false, or the run of other data or options.
    """
    counts = as_pseudocounts(pseudocounts)
    if isinstance(kind, HiddenMarkovModel) and kind.vocabulary is not None:
        data = dataclasses.replace(data.in_codes_of(kind.vocabulary), vocabulary=kind.vocabulary)
    starts = _starts(kind, data, key, restarts)
    runs = [Restart(model, model) for model in starts]
    record = None
    if run_folder is not None:
        identity = identity_of("hidden Markov model by Baum-Welch", data, starts, counts, tolerance, screening)
        record = Record(RunFolder(run_folder, identity, resume), runs, save_every)
        record.restore()
    prepared = Prepared.of(data, starts[0])
    loop_settings = prepared, counts, tolerance * data.n_observed, on_iteration, record, progress
    best, stopped, compared = climbed(runs, loop_settings, max_iterations, screening)
    return _fitted(best, data, stopped, compared)


def climbed(
    runs: list[Restart], settings: tuple, max_iterations: int, screening: int
) -> tuple[Restart, RESULTS, np.ndarray]:
    """The best restart after all iterations, how it ended if not by itself, and log-likelihoods after screening."""
    prepared, counts, least_gain, on_iteration, record, progress = settings
    compared_at = max_iterations if len(runs) == 1 else min(screening, max_iterations)
    with loop.interruptible() as interrupted:
        stop = threading.Event()
        climb = EMLoop(prepared, counts, least_gain, on_iteration, interrupted, stop, record, progress)
        climb(runs, compared_at)
        best = max(runs, key=lambda run: run.objective[min(compared_at, len(run.objective) - 1)])
        climb([best], max_iterations)
        stopped = RESULTS.interrupted if interrupted() else RESULTS.max_steps_reached
    if record is not None:
        record.save()
    return best, stopped, np.array([run.log_likelihoods[min(compared_at, len(run.objective) - 1)] for run in runs])


def _fitted(best: Restart, data: Sequences, stopped: RESULTS, compared: np.ndarray) -> Fitted:
    result = stopped if best.result is None else best.result
    model = HiddenMarkovModel(*best.model.arrays, data.vocabulary)
    if result == RESULTS.successful and best.degenerate:
        result = RESULTS.degenerate_state
    elif result == RESULTS.successful and _no_better_than_one(model, best.log_likelihoods[-1], data):
        result = RESULTS.no_better_than_one
    return Fitted(
        model,
        np.array(best.log_likelihoods),
        np.array(best.objective),
        n_parameters(model),
        data.n_observed,
        result,
        tuple(best.degenerate),
        compared,
    )


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


def identity_of(
    kind: str, data: Sequences, starts, counts: Pseudocounts, tolerance: float, screening: int
) -> dict[str, Any]:
    """What makes two fits the same one, however many iterations are asked for."""
    return {
        "kind": kind,
        "data": content_hash(np.asarray(data.values), np.asarray(data.lengths)),
        "starts": content_hash(*(np.asarray(leaf) for start in starts for leaf in jax.tree.leaves(start.parameters))),
        "restarts": len(starts),
        "pseudocounts": list(counts),
        "tolerance": tolerance,
        "screening": screening,
    }


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
