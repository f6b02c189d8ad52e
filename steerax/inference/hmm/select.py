"""How many free parameters a model has, and which of its states is which."""

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition


def n_parameters(hmm: HiddenMarkovModel) -> int:
    """Free parameters: one less than its length for every row of probabilities, and those of an emission of numbers."""
    d = as_transition(hmm.transition).n_base_states
    of_emission = d * (hmm.n_tokens - 1) if hmm.emits_tokens else hmm.emission.n_parameters
    return (hmm.n_states - 1) + hmm.n_states * (d - 1) + of_emission


def align_states(
    hmm: HiddenMarkovModel, reference: HiddenMarkovModel
) -> tuple[HiddenMarkovModel, Int[np.ndarray, " d"]]:
    """`(model, order)`: the model with its states numbered as in the reference, for comparing restarts.

    The numbering minimises the summed total-variation distance of emission rows (an assignment problem), ties broken by
    self-transition probabilities. State `i` of the result is state `order[i]` of `hmm`. Models of order one.

    **Raises:** `ConfigurationError` for models of different sizes or of a higher order.
    """
    from scipy.optimize import linear_sum_assignment

    orders = {as_transition(model.transition).order for model in (hmm, reference)}
    C, D = np.asarray(hmm.emission_matrix), np.asarray(reference.emission_matrix)
    if C.shape != D.shape or orders != {1}:
        raise ConfigurationError(
            "States are aligned between models of order one with equal numbers of states and tokens."
        )
    distance = np.abs(D[:, None] - C[None]).sum(-1) / 2
    stay = np.abs(np.diag(reference.dense_transition)[:, None] - np.diag(hmm.dense_transition)[None])
    _, order = linear_sum_assignment(distance + 1e-3 * stay)
    mu, A, C = (np.asarray(a) for a in hmm.arrays)
    return HiddenMarkovModel(mu[order], A[np.ix_(order, order)], C[order], hmm.vocabulary), order
