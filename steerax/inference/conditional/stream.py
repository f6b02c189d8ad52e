"""The filter of a conditionally Markov model, token by token."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax

from ..._errors import ConfigurationError
from ...models.conditional import AbstractConditionalHMM
from ..hmm.kernels.recursions import Limits
from ..hmm.kernels.scaled import Scaled
from ..stream import Prediction, RememberingStream, as_rare, repeated, stepped
from .kernels import recursions, scaled


def start_tokens(model: AbstractConditionalHMM, number: int | None = None) -> RememberingStream:
    """What is known before the first token. **Raises:** `ConfigurationError` for a model whose memory has no bound."""
    if model.memory is None:
        raise ConfigurationError(
            f"A stream keeps the last tokens that kernels read; this {type(model).__name__} reads all of them. Use filter, or "
            "a model whose `memory` is a number."
        )
    belief, zero = Scaled.of(model.initial), jnp.zeros((), model.initial.dtype)
    recent = jnp.full(_remembered(model), -1, jnp.int32)
    return repeated(RememberingStream(belief.m, belief.e, zero, jnp.zeros((), jnp.int32), recent), number)


def step_tokens(
    model: AbstractConditionalHMM, state: Any, token: Any, *, on_impossible: str = "raise"
) -> tuple[RememberingStream, Prediction]:
    r"""$\pi_{t+1}=(\pi_t\odot C_t(\cdot,z_t))K_t/q_t$, as `filter_tokens`; $O(md^2+dV)$ for a model of $m$ lags."""
    return stepped(model, state, token, on_impossible, lambda *given: _step(model, *given), _remembered(model))


def _remembered(model: AbstractConditionalHMM) -> int:
    """How many tokens a stream keeps: those that kernels read, and the newest one, at which they are asked, even if they read none."""
    return max(model.memory or 0, 1)


@eqx.filter_jit
def _step(model: AbstractConditionalHMM, state: RememberingStream, code: Any) -> tuple[RememberingStream, Prediction]:
    along = lambda function, *tokens: function(*tokens) if state.time.ndim == 0 else eqx.filter_vmap(function)(*tokens)
    m = state.recent.shape[-1]
    code = jnp.asarray(code, state.recent.dtype)
    recent = jnp.concatenate([state.recent, code[..., None]], -1)[..., 1:]
    C = along(lambda tokens: model.emission_at(tokens, m), state.recent)
    following = along(lambda tokens: model.emission_at(tokens, m), recent)
    K = along(lambda tokens: model.kernel_at(tokens, m - 1), recent)
    belief = Scaled(state.mantissa, state.exponent)
    chosen = jnp.take_along_axis(C, jnp.maximum(code, 0)[..., None, None], -1)[..., 0]
    seen = jnp.where(code[..., None] < 0, 1, chosen)
    plain, log_q = recursions.advance(belief.linear, seen, K)
    after, log_q = lax.cond(
        Limits.of(plain.dtype).respected(plain, log_q),
        lambda: (Scaled(plain, jnp.zeros_like(state.exponent)), log_q),
        lambda: scaled.advance(Scaled.of(belief.m, belief.e), Scaled.of(seen), Scaled.of(K)),
    )
    log_q = jnp.where(code < 0, 0, log_q)
    new = RememberingStream(after.m, after.e, state.log_likelihood + log_q, state.time + 1, recent)
    expected = jnp.sum(belief.linear[..., None] * C, -2)
    return new, Prediction(jnp.sum(new.predicted[..., None] * following, -2), log_q, as_rare(expected, code))
