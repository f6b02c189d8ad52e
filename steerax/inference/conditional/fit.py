"""Learning a model of lags by expectation-maximisation."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._bounds import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError, DataError
from ...data.sequences import Sequences
from ...maths.keys import as_key, generator
from ...models.conditional import AbstractConditionalHMM
from ...models.lagged import LaggedHMM
from ..hmm.fit import Search
from ..hmm.kernels.em import Iteration, Pseudocounts, as_pseudocounts
from ..kinds import Lagged
from ..results import Fitted
from ..tokens import as_codes
from .filter import filter_tokens
from .kernels.em import Contexts, contexts_of, em_step
from .select import n_parameters


class PreparedLags(NamedTuple):
    """Sequences as the E-step of models of lags takes them: the contexts of every step."""

    data: Sequences
    contexts: Contexts
    noun: str = "token"

    @classmethod
    def of(cls, data: Sequences, model: LaggedHMM) -> "PreparedLags":
        """Raises `DataError` for tokens that the model does not have."""
        lags = model.emission.shape[0] if model.emission_reads_tokens else 0
        z = np.asarray(as_codes(model, data))
        return cls(data, contexts_of(z, np.asarray(data.lengths), model.n_lags, lags, model.initial.dtype))

    def iterated(self, model: LaggedHMM, pseudocounts: Pseudocounts) -> Iteration:
        """One iteration of EM, once more in scaled numbers where mass may have been lost. Raises `ImpossibleTokenError`."""
        found = em_step(model, self.contexts, pseudocounts, False)
        if bool(found.doubtful):
            found = em_step(model, self.contexts, pseudocounts, True)
        if not np.isfinite(float(found.counts.log_likelihood)):
            filter_tokens(model, self.data)  # names the impossible token
        return found


@bounded(
    restarts=COUNT,
    max_iterations=COUNT_OR_ZERO,
    tolerance=NOT_NEGATIVE,
    screening=COUNT_OR_ZERO,
    save_every=NOT_NEGATIVE,
)
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
    run_folder: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: float = 30.0,
    progress: bool = True,
    executor: concurrent.futures.Executor | None = None,
) -> Fitted:
    r"""The model of lags whose likelihood (times a Dirichlet prior) cannot be raised by another iteration.

    Each iteration replaces the rows by normalised expected counts and climbs, by steps that are cut until they help, the expected
    log-likelihood of the choice of lags, which is concave in the scores of the attention (`kernels/em.py`); the objective never
    decreases. $O(d^2)$ a token, and $O(md^2)$ for each distinct string of $m$ tokens. Local optima are common: compare restarts.

    **Arguments:**

    - `kind`: a `Lagged`, or a `LaggedHMM` to start from, whose zeros stay zeros.
    - `restarts`: random starts, each run for `screening` iterations; the best one goes on.
    - `pseudocounts`, `max_iterations`, `tolerance`, `on_iteration`, `run_folder`, `resume`, `save_every` and `executor` as
      `fit_tokens` of the room `hmm`.

    Ctrl-C ends the fit with the best model so far (`RESULTS.interrupted`); `result` is `degenerate_state` where a state lost all its
    counts. No mass underflows for good: where that could matter, the counts are computed again in scaled numbers, which takes longer.

    **Raises:** `DataError` for data without tokens; `ConfigurationError` for a model of another kind; otherwise as `fit_tokens` of
    the room `hmm`.
    """
    counts = as_pseudocounts(pseudocounts)
    if isinstance(kind, LaggedHMM) and kind.vocabulary is not None:
        data = dataclasses.replace(data.in_codes_of(kind.vocabulary), vocabulary=kind.vocabulary)
    starts = _starts(kind, data, key, restarts)
    search = Search(
        max_iterations, tolerance, screening, on_iteration, run_folder, resume, save_every, progress, executor
    )
    found = search("model of lags by expectation-maximisation", PreparedLags.of(data, starts[0]), starts, counts)
    model = found.best.model
    return found.fitted(model.named(data.vocabulary), n_parameters(model), data, lambda: False)


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
