"""Learning a hidden Markov model by expectation–maximisation: `fit_hmm`."""

import os
import threading
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from ...runs import loop
from ...runs.files import RunFolder, content_hash
from .filter import as_tokens
from .kernels.em import Pseudocounts, as_pseudocounts
from .restarts import Ascent, Climb, Problem, Record


class FittedHMM(eqx.Module):
    """What `fit_hmm` returns.

    **Attributes:** `model`; `log_likelihoods` `[iterations+1]`, nats, of the start and after each iteration;
    `objective`, the same plus the log-prior (up to a constant), which never decreases; `result`; `degenerate`, pairs
    (iteration, state) of states that lost all their expected counts and kept their row; `restarts`, log-likelihoods
    at which the starts were compared.
    """

    model: HiddenMarkovModel
    log_likelihoods: Float[np.ndarray, " n"]
    objective: Float[np.ndarray, " n"]
    result: RESULTS
    degenerate: tuple[tuple[int, int], ...] = eqx.field(static=True)
    restarts: Float[np.ndarray, " r"]


def fit_hmm(
    data: Sequences,
    n_states: int,
    key,
    restarts: int = 1,
    *,
    order: int = 1,
    start: HiddenMarkovModel | None = None,
    pseudocounts: Pseudocounts | float = 0.0,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
    screening: int = 20,
    on_iteration: Callable[[int, float, HiddenMarkovModel], Any] | None = None,
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: float = 30.0,
    progress: bool = True,
) -> FittedHMM:
    """The model whose likelihood (times a Dirichlet prior) cannot be raised by another iteration of Baum–Welch.

    Each iteration replaces the parameters by normalised expected counts; the objective never decreases. Sequences may
    be ragged and have gaps. `O(N d²)` per iteration for `N` positions (`O(N d^{k+1})` for order `k`); memory for a
    chunk of time only. Local optima are common: compare restarts.

    **Arguments:**

    - `n_states`, `order`: states of the chain, and how many past ones the next depends on.
    - `restarts`: random starts, each run for `screening` iterations, side by side on a CPU; the best one goes on.
    - `start`: a model to start from instead. Its zeros stay zeros.
    - `pseudocounts`: a `Pseudocounts`, or one number for all three.
    - `max_iterations`, `tolerance`: stop when an iteration gains less than `tolerance` nats per observed token.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.
    - `run_folder`: where all starts are kept, every `save_every` seconds and at the end; `resume`: whether to go on
      from what is found there, to the same model as without a stop. More `max_iterations` may be asked for then.

    Ctrl-C ends the fit with the best model so far (`RESULTS.interrupted`).

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for options that cannot work;
    `ImpossibleTokenError` if `start` gives a sequence probability zero; `CheckpointError` for a run folder that holds a
    run, if `resume` is false, or the run of other data or options.
    """
    if max_iterations < 0 or screening < 0:
        raise ConfigurationError("max_iterations and screening must be at least 0.")
    counts = as_pseudocounts(pseudocounts)
    starts = _starts(data, n_states, key, restarts, order, start)
    problem = Problem.of(data, starts[0], counts, tolerance)
    climbs = [Climb(model, model) for model in starts]
    record = None
    if run_folder is not None:
        folder = RunFolder(run_folder, _identity(data, starts, counts, tolerance, screening), resume)
        record = Record(folder, climbs, save_every)
        record.restore()
    compared_at = max_iterations if len(climbs) == 1 else min(screening, max_iterations)
    with loop.interruptible() as interrupted:
        ascend = Ascent(problem, on_iteration, interrupted, threading.Event(), record, progress)
        ascend(climbs, compared_at)
        best = max(climbs, key=lambda c: c.objective[min(compared_at, len(c.objective) - 1)])
        ascend([best], max_iterations)
        stopped = RESULTS.interrupted if interrupted() else RESULTS.max_steps_reached
    if record is not None:
        record.save()
    result = stopped if best.ended is None else getattr(RESULTS, best.ended)
    if best.degenerate and best.ended == "successful":
        result = RESULTS.degenerate_state
    return FittedHMM(
        HiddenMarkovModel(*best.model.arrays, data.vocabulary),
        np.array(best.log_likelihoods),
        np.array(best.objective),
        result,
        tuple(best.degenerate),
        np.array([c.log_likelihoods[min(compared_at, len(c.objective) - 1)] for c in climbs]),
    )


def _starts(data: Sequences, n_states: int, key, restarts: int, order: int, given) -> list[HiddenMarkovModel]:
    """The model given, or random ones."""
    if not data.is_tokens or data.n_observed == 0:
        raise DataError("A hidden Markov model is fitted to tokens; the data hold none.")
    if min(n_states, restarts, order) < 1:
        raise ConfigurationError("n_states, restarts and order must be at least 1.")
    if given is not None:
        as_tokens(given, data)
        return [given]
    return [random_start(k, data, n_states, order) for k in jax.random.split(key, restarts)]


def _identity(data: Sequences, starts, counts: Pseudocounts, tolerance: float, screening: int) -> dict[str, Any]:
    """What makes two fits the same one, however many iterations are asked for."""
    return {
        "kind": "hidden Markov model by Baum-Welch",
        "data": content_hash(np.asarray(data.values), np.asarray(data.lengths)),
        "starts": content_hash(*(np.asarray(leaf) for start in starts for leaf in jax.tree.leaves(start.arrays))),
        "restarts": len(starts),
        "pseudocounts": list(counts),
        "tolerance": tolerance,
        "screening": screening,
    }


def random_start(key, data: Sequences, n_states: int, order: int = 1) -> HiddenMarkovModel:
    """A start that breaks the symmetry between states and knows how often each token occurs.

    Emission rows are the smoothed token frequencies times independent exponential weights; transition rows are uniform
    on the simplex; the initial law is uniform.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    frequency = np.bincount(data.values[data.mask], minlength=data.n_tokens) + 0.5
    C = frequency * rng.exponential(size=(n_states, len(frequency)))
    C /= C.sum(1, keepdims=True)
    A = rng.dirichlet(np.ones(n_states), size=(n_states,) * order)
    if order == 1:
        return HiddenMarkovModel(np.full(n_states, 1 / n_states), A, C)
    n = n_states**order
    return HiddenMarkovModel(np.full(n, 1 / n), OrderKTransition(jnp.asarray(A)), np.tile(C, (n // n_states, 1)))
