"""How many free parameters a model has."""

from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition


def n_parameters(hmm: HiddenMarkovModel) -> int:
    """Free parameters: one less than its length for every row of probabilities, and those of an emission of numbers."""
    d = as_transition(hmm.transition).n_base_states
    of_emission = d * (hmm.n_tokens - 1) if hmm.emits_tokens else hmm.emission.n_parameters
    return (hmm.n_states - 1) + hmm.n_states * (d - 1) + of_emission
