"""Which state of one model is which of another."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._errors import ConfigurationError
from ..models.hmm import HiddenMarkovModel
from ..models.transitions import as_transition
from .densities.select import distances


def align_states(
    hmm: HiddenMarkovModel | Any, reference: HiddenMarkovModel | Any
) -> tuple[HiddenMarkovModel, Int[np.ndarray, " d"]]:
    """`(model, order)`: the model with its states numbered as in the reference, for comparing restarts.

    The numbering minimises (an assignment problem) the summed total-variation distance of emission rows, or for models of numbers
    the summed roots of how many nats an observation tells two states apart; ties are broken by self-transition probabilities.
    State `i` of the result is state `order[i]` of `hmm`. Models of order one.

    **Raises:** `ConfigurationError` for models of another kind or of different sizes, of which one emits tokens and one numbers, or of a higher order.
    """
    from scipy.optimize import linear_sum_assignment

    for model in (hmm, reference):
        if not isinstance(model, HiddenMarkovModel):
            raise ConfigurationError(f"align_states takes two HiddenMarkovModels, not a {type(model).__name__}.")
    distance = _distances(hmm, reference)
    stay = np.abs(np.diag(reference.dense_transition)[:, None] - np.diag(hmm.dense_transition)[None])
    _, order = linear_sum_assignment(distance + 1e-3 * stay)
    mu, A = np.asarray(hmm.initial), np.asarray(hmm.transition)
    emission = np.asarray(hmm.emission)[order] if hmm.emits_tokens else hmm.emission.permuted(order)
    return HiddenMarkovModel(mu[order], A[np.ix_(order, order)], emission, hmm.vocabulary, hmm.channels), order


def _distances(hmm: HiddenMarkovModel, reference: HiddenMarkovModel) -> Float[np.ndarray, "d d"]:
    """Distances of emissions, a row for each state of the reference. Raises `ConfigurationError`."""
    both = hmm, reference
    sizes = {
        (m.n_states, m.emits_tokens, m.n_tokens if m.emits_tokens else m.n_channels, as_transition(m.transition).order)
        for m in both
    }
    if len(sizes) > 1 or as_transition(hmm.transition).order != 1:
        raise ConfigurationError(
            "States are aligned between models of order one with equal numbers of states, and of tokens or channels."
        )
    if not hmm.emits_tokens:
        for model in both:
            if model.emission.reads is not None:
                raise ConfigurationError(
                    f"align_states compares what states emit, but the mean of {model.emission.reads}; number the states by their "
                    "coefficients (emission.permuted)."
                )
        return distances(hmm.emission, reference.emission)
    C, D = np.asarray(hmm.emission_matrix), np.asarray(reference.emission_matrix)
    return np.abs(D[:, None] - C[None]).sum(-1) / 2
