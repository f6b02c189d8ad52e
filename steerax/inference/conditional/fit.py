"""Learning a model of lags by expectation-maximisation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._bounds import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...maths.keys import as_key, generator
from ...models.conditional import AbstractConditionalHMM
from ...models.lagged import LaggedHMM
from ...runs import loop
from ..hmm.kernels.em import Pseudocounts, as_pseudocounts
from ..kinds import Lagged
from ..results import Fitted
from ..tokens import as_codes
from .kernels.em import contexts_of
from .restarts import Climb, Settings, climb
from .select import n_parameters


@bounded(restarts=COUNT, max_iterations=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, screening=COUNT_OR_ZERO)
def fit_tokens(
    kind: Lagged | AbstractConditionalHMM,
    data: Sequences,
    key: Any = 0,
    *,
    restarts: int = 3,
    pseudocounts: Pseudocounts | float = 0.0,
    max_iterations: int = 500,
    tolerance: float = 1e-6,
    screening: int = 50,
    on_iteration: Callable[[int, float, LaggedHMM], Any] | None = None,
    progress: bool = True,
) -> Fitted:
    r"""The model of lags whose likelihood (times a Dirichlet prior) cannot be raised by another iteration.

    Each iteration replaces the rows by normalised expected counts and climbs, by steps that are cut until they help, the expected
    log-likelihood of the choice of lags, which is concave in the scores of the attention (`kernels/em.py`); the objective never
    decreases. $O(d^2)$ a token, and $O(md^2)$ for each distinct string of $m$ tokens. Local optima are common: compare restarts.

    **Arguments:**

    - `kind`: a `Lagged`, or a `LaggedHMM` to start from, whose zeros stay zeros.
    - `restarts`: random starts, each run for `screening` iterations; the best one goes on.
    - `pseudocounts`: a `Pseudocounts`, or one number for all three.
    - `max_iterations`, `tolerance`: stop when an iteration gains less than `tolerance` nats per observed token.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.

    Ctrl-C ends the fit with the best model so far (`RESULTS.interrupted`). Mass of states that underflows is lost, as the recursion
    is linear; `filter` of the model finds it again.

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for a model of another kind, or options that cannot work;
    `ImpossibleTokenError` if a start gives a sequence probability zero.
    """
    counts = as_pseudocounts(pseudocounts)
    if isinstance(kind, LaggedHMM) and kind.vocabulary is not None:
        data = dataclasses.replace(data.in_codes_of(kind.vocabulary), vocabulary=kind.vocabulary)
    runs = [Climb(start, start) for start in _starts(kind, data, key, restarts)]
    first = runs[0].model
    lags = first.emission.shape[0] if first.emission_reads_tokens else 0
    z = np.asarray(as_codes(first, data))
    contexts = contexts_of(z, np.asarray(data.lengths), first.n_lags, lags, first.initial.dtype)
    compared_at = max_iterations if len(runs) == 1 else min(screening, max_iterations)
    with loop.interruptible() as interrupted:
        settings = Settings(data, contexts, counts, tolerance * data.n_observed, on_iteration, interrupted, progress)
        asked = climb(runs, compared_at, settings)
        best = max(runs, key=lambda run: run.objective[-1])
        asked = asked or climb([best], max_iterations, settings)
        stopped = RESULTS.interrupted if interrupted() else RESULTS.max_steps_reached
    model = best.model.named(data.vocabulary)
    return Fitted(
        model,
        np.array(best.log_likelihoods),
        np.array(best.objective),
        n_parameters(model),
        data.n_observed,
        stopped if best.result is None else best.result,
        restarts=np.array([run.log_likelihoods[min(compared_at, len(run.objective) - 1)] for run in runs]),
    )


def _starts(kind: Lagged | AbstractConditionalHMM, data: Sequences, key: Any, restarts: int) -> list[LaggedHMM]:
    """The model given, or random ones."""
    if not data.is_tokens or data.n_observed == 0:
        raise DataError("A model of lags is fitted to tokens; the data hold none.")
    if isinstance(kind, Lagged):
        return [_random_start(k, data, kind) for k in jax.random.split(as_key(key), restarts)]
    if not isinstance(kind, LaggedHMM):
        raise ConfigurationError(
            f"A {type(kind).__name__} has rows of its own kind; fit takes a Lagged or a LaggedHMM."
        )
    if kind.reads == "states":
        raise ConfigurationError(
            "The rows of lags of states have no expected counts; use fit_by_gradient for this model."
        )
    return [kind]


def _random_start(key: Any, data: Sequences, kind: Lagged) -> LaggedHMM:
    """A start that breaks all symmetries: rows uniform on the simplex, those of emissions times how often each token occurs; weights
    that decay with the lag, and small scores."""
    rng, d, m, n = generator(key), kind.n_states, kind.lags, kind.emission_lags
    frequency = np.bincount(data.values[data.mask], minlength=data.n_tokens) + 0.5
    V = len(frequency)
    C = frequency * rng.exponential(size=(n, V, d, V) if n else (d, V))
    decaying = lambda m: np.exp(-0.5 * np.arange(m)) / np.exp(-0.5 * np.arange(m)).sum()
    scores = lambda m: jnp.asarray(0.3 * rng.normal(size=(m, V))) if kind.attention else None
    transition = rng.dirichlet(np.ones(d), size=(m, V, d))
    emission = C / C.sum(-1, keepdims=True)
    more = {"emission_weights": decaying(n), "emission_attention": scores(n)} if n else {}
    return LaggedHMM(np.full(d, 1 / d), transition, emission, decaying(m), scores(m), **more)
