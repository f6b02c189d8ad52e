"""The filter of a generalised hidden Markov model, token by token."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ...models.generalised import GeneralisedHMM
from ..hmm.kernels.scaled import Scaled
from ..stream import Prediction, TokenStream, begun, predicted_next, stepped
from .kernels import recursions, scaled
from .kernels.recursions import has_no_signs, next_probabilities, operator_table, row_numbers


def start_tokens(model: GeneralisedHMM, number: int | None = None) -> TokenStream:
    """What is known before the first token: the model's initial belief."""
    return begun(_first(*model.arrays), number)


@jax.jit
def _first(p0, T, w) -> Scaled:
    return lax.cond(has_no_signs(p0, T, w), lambda: Scaled.of(p0), lambda: _plain(p0))


def step_tokens(
    model: GeneralisedHMM, state: Any, token: Any, *, on_impossible: str = "raise"
) -> tuple[TokenStream, Prediction]:
    r"""$\pi_{t+1}=\pi_tT^{z_t}/q_t$, as `filter_tokens`, $O(Vd^2)$."""
    return stepped(model, state, token, on_impossible, lambda *given: _step(*model.arrays[1:], *given))


@jax.jit
def _step(T, w, state: TokenStream, code) -> tuple[TokenStream, Prediction]:
    table, belief, row = operator_table(T), Scaled(state.mantissa, state.exponent), row_numbers(code)

    def exact():
        seen = Scaled.of(table)
        return scaled.advance(belief, seen[row], seen[0], w)

    def plain():
        after, log_q = recursions.advance(belief.linear, table[row], table[0], w, (jnp.abs(table) @ jnp.abs(w))[row])
        return _plain(after), log_q

    after, log_q = lax.cond(has_no_signs(belief.m, T, w), exact, plain)
    log_q = jnp.where(code < 0, 0, log_q)
    return predicted_next(state, code, after, log_q, lambda belief: next_probabilities(belief, T, w))


def _plain(p) -> Scaled:
    """Numbers of any sign, as they are."""
    return Scaled(p, jnp.zeros(p.shape, jnp.int32))
