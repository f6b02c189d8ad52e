"""The filter of a hidden Markov model, token by token."""

from typing import Any

import jax
import jax.numpy as jnp

from ...models.hmm import HiddenMarkovModel
from ..stream import Prediction, TokenStream, as_code, check_impossible, check_state, rarer, refuse_impossible, repeated
from .kernels.scaled import Scaled, advance


def start_tokens(hmm: HiddenMarkovModel, number: int | None = None) -> TokenStream:
    """What is known before the first token: the model's initial distribution."""
    belief = Scaled.of(hmm.initial)
    zero = jnp.zeros((), hmm.initial.dtype)
    return repeated(TokenStream(belief.m, belief.e, zero, jnp.zeros((), jnp.int32)), number)


def step_tokens(
    hmm: HiddenMarkovModel, state: Any, token: Any, *, on_impossible: str = "raise"
) -> tuple[TokenStream, Prediction]:
    r"""$\pi_{t+1}=A^\top(\pi_t\odot C_{z_t})/q_t$, as `filter_tokens`, $O(d^2+dV)$."""
    check_impossible(on_impossible)
    check_state(state, TokenStream, hmm.n_states)
    code = as_code(hmm, token, state)
    after, prediction = _step(hmm.transition, hmm.emission, state, code)
    if on_impossible == "raise":
        refuse_impossible(prediction.log_likelihood, code, state)
    return after, prediction


@jax.jit
def _step(A, C, state: TokenStream, code) -> tuple[TokenStream, Prediction]:
    belief = Scaled(state.mantissa, state.exponent)
    after, log_q = advance(belief, A, C, code)
    q = lambda p: p.linear @ C
    new = TokenStream(after.m, after.e, state.log_likelihood + log_q, state.time + 1)
    return new, Prediction(q(after), log_q, rarer(q(belief), code))
