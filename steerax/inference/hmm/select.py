"""How many states, and which state is which."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from .filter import score_tokens
from .fit import FittedHMM, fit_hmm


class Candidate(NamedTuple):
    """One number of states: `aic` and `bic` in nats (smaller is better), held-out nats per token if data were kept."""

    n_states: int
    fit: FittedHMM
    n_parameters: int
    aic: float
    bic: float
    held_out: float | None
    held_out_standard_error: float | None


class Selection(NamedTuple):
    """What `select_states` returns: all candidates, and the best by the criterion."""

    candidates: tuple[Candidate, ...]
    best: Candidate
    criterion: str


def n_parameters(hmm: HiddenMarkovModel) -> int:
    """Free parameters: one less than its length for every row of probabilities."""
    order = hmm.transition.order if isinstance(hmm.transition, OrderKTransition) else 1
    tuples = hmm.n_states
    d = round(tuples ** (1 / order))
    return (tuples - 1) + tuples * (d - 1) + d * (hmm.n_tokens - 1)


def select_states(
    data: Sequences,
    n_states: Sequence[int],
    key,
    restarts: int = 3,
    *,
    criterion: str = "bic",
    held_out: Sequences | None = None,
    **options,
) -> Selection:
    """Fit every number of states and compare: `2(p - ℓ)` (AIC), `p log n - 2ℓ` (BIC), or held-out cross-entropy.

    `p` counts free parameters, `ℓ` is the log-likelihood, `n` the observed tokens. AIC and BIC are asymptotic and
    assume an identifiable model; held-out data assume nothing.

    **Arguments:** `data`; `n_states`, candidates; `key`, `restarts` and `options` go to `fit_hmm`; `criterion`, `"aic"`,
    `"bic"` or `"held_out"`, which needs `held_out` sequences (a token impossible there scores infinity).

    **Raises:** `ConfigurationError` for an unknown criterion or missing held-out data.
    """
    if criterion not in ("aic", "bic", "held_out") or (criterion == "held_out" and held_out is None):
        raise ConfigurationError(f"criterion={criterion!r} needs to be 'aic', 'bic', or 'held_out' with held-out data.")
    candidates = []
    for n, k in zip(n_states, jax.random.split(key, len(n_states)), strict=True):
        fit = fit_hmm(data, n, k, restarts, **options)
        p, value = n_parameters(fit.model), float(fit.log_likelihoods[-1])
        scores = None if held_out is None else score_tokens(fit.model, held_out, on_impossible="skip")
        candidates.append(
            Candidate(
                n,
                fit,
                p,
                2 * (p - value),
                float(p * np.log(data.n_observed) - 2 * value),
                None if scores is None else scores.cross_entropy,
                None if scores is None else scores.standard_error,
            )
        )
    return Selection(tuple(candidates), min(candidates, key=lambda c: getattr(c, criterion)), criterion)


def align_states(
    hmm: HiddenMarkovModel, reference: HiddenMarkovModel
) -> tuple[HiddenMarkovModel, Int[np.ndarray, " d"]]:
    """`(model, order)`: the model with its states numbered as in the reference, for comparing restarts.

    The numbering minimises the summed total-variation distance of emission rows (an assignment problem), ties broken by
    self-transition probabilities. State `i` of the result is state `order[i]` of `hmm`. Models of order one.

    **Raises:** `ConfigurationError` for models of different sizes or of a higher order.
    """
    from scipy.optimize import linear_sum_assignment

    if hmm.emission.shape != reference.emission.shape or any(
        isinstance(m.transition, OrderKTransition) for m in (hmm, reference)
    ):
        raise ConfigurationError(
            "States are aligned between models of order one with equal numbers of states and tokens."
        )
    C, D = np.asarray(hmm.emission), np.asarray(reference.emission)
    distance = np.abs(D[:, None] - C[None]).sum(-1) / 2
    stay = np.abs(np.diag(reference.dense_transition)[:, None] - np.diag(hmm.dense_transition)[None])
    _, order = linear_sum_assignment(distance + 1e-3 * stay)
    mu, A, C = (np.asarray(a) for a in hmm.arrays)
    return HiddenMarkovModel(mu[order], A[np.ix_(order, order)], C[order], hmm.vocabulary), order
