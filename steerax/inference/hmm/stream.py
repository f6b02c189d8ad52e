"""The filter of a hidden Markov model, token by token."""

from typing import Any

import jax

from ...models.hmm import HiddenMarkovModel
from ..stream import Prediction, TokenStream, begun, predicted_next, stepped
from .kernels.scaled import Scaled, advance


def start_tokens(hmm: HiddenMarkovModel, number: int | None = None) -> TokenStream:
    """What is known before the first token: the model's initial distribution."""
    return begun(Scaled.of(hmm.initial), number)


def step_tokens(
    hmm: HiddenMarkovModel, state: Any, token: Any, *, on_impossible: str = "raise"
) -> tuple[TokenStream, Prediction]:
    r"""$\pi_{t+1}=A^\top(\pi_t\odot C_{z_t})/q_t$, as `filter_tokens`, $O(d^2+dV)$."""
    return stepped(hmm, state, token, on_impossible, lambda *given: _step(hmm.transition, hmm.emission, *given))


@jax.jit
def _step(A, C, state: TokenStream, code) -> tuple[TokenStream, Prediction]:
    after, log_q = advance(Scaled(state.mantissa, state.exponent), A, C, code)
    return predicted_next(state, code, after, log_q, lambda belief: belief @ C)
