"""Restarts of expectation-maximisation for models of lags, one after the other."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.lagged import LaggedHMM
from ...runs.progress import Progress
from ..hmm.kernels.em import Pseudocounts
from .filter import filter_tokens
from .kernels.em import Contexts, expected_counts, maximised


@dataclasses.dataclass
class Climb:
    """State of one restart: `model` is the last model whose likelihood is known, `pending` the next one. `result` says why it stopped
    for good."""

    model: LaggedHMM
    pending: LaggedHMM
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    objective: list[float] = dataclasses.field(default_factory=list)
    result: RESULTS | None = None


class Settings(NamedTuple):
    """The data, the prior, nats that an iteration must gain, the callback and the stopping rule."""

    data: Sequences
    contexts: Contexts
    pseudocounts: Pseudocounts
    least_gain: float
    on_iteration: Callable[[int, float, LaggedHMM], Any] | None
    interrupted: Callable[[], bool]
    shown: bool


def climb(runs: Sequence[Climb], limit: int, settings: Settings) -> bool:
    """Bring some restarts to `limit` iterations each; whether the callback asked to stop."""
    title = f"EM, {len(runs)} restarts" if len(runs) > 1 else "EM"
    with Progress(title, limit * len(runs), shown=settings.shown) as bar:
        for number, run in enumerate(runs):
            while run.result is None and len(run.objective) <= limit:
                if run.objective and settings.interrupted():
                    break
                if not _advanced(run, settings):
                    break
                n, value = len(run.objective) - 1, run.log_likelihoods[-1]
                bar.update(number * limit + n, f"{value / settings.data.n_observed:.4f} nats per token")
                if settings.on_iteration is not None and settings.on_iteration(n, value, run.model) == "stop":
                    return all(run.objective for run in runs) or _measured(runs, settings)
    return False


def _measured(runs: Sequence[Climb], settings: Settings) -> bool:
    """Give the restarts that have not begun the likelihood of their start, so that all can be compared."""
    return all(_advanced(run, settings) for run in runs if not run.objective)


def _advanced(run: Climb, settings: Settings) -> bool:
    """One iteration: the pending model, unless the objective fell by more than rounding explains, and the one after it."""
    model = run.pending
    counts = expected_counts(model, settings.contexts)
    log_likelihood = float(counts.log_likelihood)
    if not np.isfinite(log_likelihood):
        filter_tokens(model, settings.data)  # names the impossible token
    value = log_likelihood + _log_prior(model, settings.pseudocounts)
    gain = value - run.objective[-1] if run.objective else np.inf
    if gain < -1e3 * float(jnp.finfo(model.initial.dtype).eps) * max(abs(value), settings.data.n_observed):
        run.result = RESULTS.breakdown
        return False
    run.model, run.pending = model, maximised(model, counts, settings.contexts, settings.pseudocounts)
    run.log_likelihoods.append(log_likelihood)
    run.objective.append(value)
    if gain < settings.least_gain:
        run.result = RESULTS.successful
    return True


def _log_prior(model: LaggedHMM, pseudocounts: Pseudocounts) -> float:
    """The logarithm of the Dirichlet prior, up to a constant."""
    rows = model.initial, model.transition, model.emission
    logs = [float(jnp.sum(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0))) for p in rows]
    return float(sum(weight * log for weight, log in zip(pseudocounts, logs, strict=True) if weight))
