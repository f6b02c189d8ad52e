"""Learning a hidden Markov model by expectation–maximisation (Baum–Welch)."""

import concurrent.futures
import dataclasses
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...processes.hmm import HiddenMarkovModel
from ...processes.order_k import OrderKTransition
from ...runs import loop
from ...runs.progress import Progress
from .filter import as_tokens, forward_filter
from .kernels import SMALLEST_MASS, block_length, row_numbers
from .statistics import chunk_blocks, expected_counts


class Pseudocounts(NamedTuple):
    """Counts added to the expected ones: the modes of Dirichlet priors with parameters `1 + count`. Zero is none."""

    initial: float = 0.0
    transition: float = 0.0
    emission: float = 0.0


class Counts(NamedTuple):
    """Expected counts of starts, transitions and emissions, or sums and means of such."""

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "d V"]


def as_pseudocounts(given: Pseudocounts | float) -> Pseudocounts:
    """Raises `ConfigurationError` if one is negative."""
    counts = given if isinstance(given, Pseudocounts) else Pseudocounts(given, given, given)
    if min(counts) < 0:
        raise ConfigurationError(f"Pseudocounts cannot be negative, but are {tuple(counts)}.")
    return counts


class FittedHMM(eqx.Module):
    """What [`fit_hmm`][] returns.

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
    - `pseudocounts`: a [`Pseudocounts`][], or one number for all three.
    - `max_iterations`, `tolerance`: stop when an iteration gains less than `tolerance` nats per observed token.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for options that cannot work;
    `ImpossibleTokenError` if `start` gives a sequence probability zero.
    """
    if not data.is_tokens or data.n_observed == 0:
        raise DataError("A hidden Markov model is fitted to tokens; the data hold none.")
    if min(n_states, restarts, order) < 1 or max_iterations < 0 or screening < 0:
        raise ConfigurationError("n_states, restarts and order must be at least 1, iterations at least 0.")
    counts = as_pseudocounts(pseudocounts)
    if start is not None:
        as_tokens(start, data)
        starts = [start]
    else:
        starts = [random_start(k, data, n_states, order) for k in jax.random.split(key, restarts)]
    problem = _Problem.of(data, starts[0], counts)
    climbs = [_Climb(model, model) for model in starts]
    with loop.interruptible() as interrupted:
        climb = functools.partial(_climb, problem, tolerance, on_iteration, interrupted, progress)
        climb(climbs, max_iterations if len(climbs) == 1 else min(screening, max_iterations))
        compared = np.array([c.log_likelihoods[-1] for c in climbs])
        best = max(climbs, key=lambda c: c.objective[-1])
        climb([best], max_iterations)
    result = best.ended if best.ended is not None else RESULTS.max_steps_reached
    if best.degenerate and result == RESULTS.successful:
        result = RESULTS.degenerate_state
    return FittedHMM(
        HiddenMarkovModel(*best.model.arrays, data.vocabulary),
        np.array(best.log_likelihoods),
        np.array(best.objective),
        result,
        tuple(best.degenerate),
        compared,
    )


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


def prepare(data: Sequences, model: HiddenMarkovModel) -> tuple[Int[Array, "T B"], int]:
    """`(rows, block)` for `expected_counts`. Raises `DataError` for tokens that the model does not have."""
    rows = row_numbers(as_tokens(model, data), model.n_tokens)
    return rows, block_length(model.n_states, data.number, model.emission.dtype)


class _Problem(NamedTuple):
    """The data as the E-step takes them, and its static sizes."""

    rows: Any
    lengths: Any
    counts: Pseudocounts
    block: int
    n_observed: int
    data: Sequences

    @classmethod
    def of(cls, data: Sequences, model: HiddenMarkovModel, counts: Pseudocounts) -> "_Problem":
        rows, block = prepare(data, model)
        return cls(rows, jnp.asarray(data.lengths), counts, block, data.n_observed, data)


@dataclasses.dataclass
class _Climb:
    """One start on its way up: `model` has been evaluated, `pending` is the next one. `ended` says why it stopped."""

    model: HiddenMarkovModel
    pending: HiddenMarkovModel
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    objective: list[float] = dataclasses.field(default_factory=list)
    degenerate: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    ended: RESULTS | None = None

    def on(self, problem: _Problem, limit: int, tolerance: float, on_iteration, interrupted, note) -> None:
        """Iterate until an iteration gains too little, `limit` of them are done, or somebody asks to stop."""
        epsilon = float(jnp.finfo(self.model.emission.dtype).eps)
        while len(self.objective) <= limit and self.ended is None:
            after, log_likelihood, log_prior, lost = _iterate(problem, self.pending)
            value = log_likelihood + log_prior
            gain = value - self.objective[-1] if self.objective else np.inf
            if gain < -1e3 * epsilon * abs(value):  # more than rounding can explain
                self.ended = RESULTS.breakdown
                break
            self.model, self.pending = self.pending, after
            self.log_likelihoods.append(log_likelihood)
            self.objective.append(value)
            n = len(self.objective) - 1
            if gain < tolerance * problem.n_observed:
                self.ended = RESULTS.successful
            elif n < limit:
                known = {state for _, state in self.degenerate}
                self.degenerate.extend((n + 1, int(i)) for i in np.flatnonzero(lost) if int(i) not in known)
            note(self)
            asked = on_iteration is not None and on_iteration(n, log_likelihood, self.model) == "stop"
            if self.ended is None and (asked or interrupted()):
                self.ended = RESULTS.max_steps_reached


def _climb(
    problem: _Problem, tolerance: float, on_iteration, interrupted, progress: bool, climbs: list[_Climb], limit: int
) -> None:
    """Bring some starts to `limit` iterations each, side by side on the cores of a CPU; the caller is asked one at a
    time."""
    title = f"Baum-Welch, {len(climbs)} starts" if len(climbs) > 1 else "Baum-Welch"
    turn = threading.Lock()

    def note(climb: _Climb) -> None:
        done = sum(max(len(c.objective) - 1, 0) for c in climbs)
        bar.update(done, f"{climb.log_likelihoods[-1] / problem.n_observed:.4f} nats per token")

    def ask(*iteration):
        with turn:
            return on_iteration(*iteration)

    on = lambda climb: climb.on(problem, limit, tolerance, on_iteration and ask, interrupted, note)
    with Progress(title, limit * len(climbs), shown=progress) as bar:
        if len(climbs) == 1 or jax.default_backend() != "cpu":
            for climb in climbs:
                on(climb)
            return
        with concurrent.futures.ThreadPoolExecutor(min(len(climbs), os.cpu_count() or 1)) as pool:
            list(pool.map(on, climbs))


def _iterate(problem: _Problem, model: HiddenMarkovModel):
    """`(next model, log-likelihood, log-prior, lost states)`."""
    length, batch = problem.rows.shape
    for block in dict.fromkeys((problem.block, 1)):
        per_chunk = chunk_blocks(length, batch, model.n_states, block)
        arrays, found, log_prior, lost = em_step(
            *model.arrays, problem.rows, problem.lengths, problem.counts, block, per_chunk
        )
        smallest = float(found.smallest_mass)
        if smallest > SMALLEST_MASS:
            break
    if smallest == 0:
        forward_filter(model, problem.data)  # names the impossible token
    new = eqx.tree_at(lambda m: m.arrays, model, arrays)
    return new, float(found.log_likelihood), float(log_prior), np.asarray(lost)


@functools.partial(jax.jit, static_argnames=("block", "per_chunk"))
def em_step(mu, A, C, rows, lengths, pseudocounts: Pseudocounts, block: int, per_chunk: int):
    """One iteration: `((μ, A, C) after it, expected counts, log-prior before it, bool [d] of lost states)`.

    Rows without any expected count keep their value; they belong to states that no token needs.
    """
    found = expected_counts(mu, A, C, rows, lengths, block, per_chunk)
    new = maximise(mu, A, C, Counts(*found[:3]), pseudocounts)
    free = _free(mu, A, C)
    log_prior = sum(
        jnp.sum(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)) * weight
        for p, weight in zip(free, pseudocounts, strict=True)
    )
    lost = _tied(found.emission, len(free[2])).sum(-1) + pseudocounts.emission == 0
    return new, found, log_prior, lost


def maximise(mu, A, C, counts: Counts, pseudocounts: Pseudocounts):
    """`(μ, A, C)` from expected counts; a row without any keeps its value. The M-step."""
    free_mu, free_A, free_C = _free(mu, A, C)
    new_mu = _normalised(counts.initial + pseudocounts.initial, free_mu)
    new_A = _normalised(counts.transition + pseudocounts.transition, free_A)
    new_C = _normalised(_tied(counts.emission, len(free_C)) + pseudocounts.emission, free_C)
    if isinstance(A, OrderKTransition):
        return new_mu, OrderKTransition(new_A), jnp.tile(new_C, (len(C) // len(free_C), 1))
    return new_mu, new_A, new_C


def _free(mu, A, C):
    """The free parameters: an order-k model ties the emission of all tuples with the same newest state."""
    return (mu, A.tensor, C[: A.n_base_states]) if isinstance(A, OrderKTransition) else (mu, A, C)


def _tied(emission, n: int):
    """Emission counts of tuples summed over all but the newest of their states."""
    return emission.reshape(-1, n, emission.shape[-1]).sum(0)


def _normalised(counts, before):
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), before)
