"""Looking back: the law of every past state given all tokens, and the likeliest path of states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from .filter import _batch_first, as_tokens, forward_filter
from .kernels.recursions import emission_table, row_numbers


class Smoothed(eqx.Module):
    """What `smooth` returns.

    **Attributes:** `state_probabilities` `[T+1 d]`, the law of `X_t` given *all* tokens (for a `Sequences` a batch axis
    comes first; rows beyond a sequence's end are forecasts); `log_likelihood`, nats.
    """

    state_probabilities: Float[Array, "*batch T1 d"]
    log_likelihood: Float[Array | np.ndarray, "*batch"]


def smooth(hmm: HiddenMarkovModel, tokens: Array | np.ndarray | Sequences, on_impossible: str = "raise") -> Smoothed:
    """The law of `X_t`, `t = 0 … T`, given all `T` tokens.

        P(X_t = i | Z_{1:T}) = π_t(i) C_{z_{t+1}}(i) b_t(i),    b_t ∝ A (C_{z_{t+2}} ⊙ b_{t+1}),    b_T = 1.

    `O(d² T)`. Missing tokens have factor one. **Raises** as `forward_filter`.
    """
    filtered = forward_filter(hmm, tokens, on_impossible)
    laws = smooth_backward(filtered.states, *hmm.arrays[1:], filtered.tokens)
    return Smoothed(_batch_first(laws), filtered.log_likelihood)


@jax.jit
def smooth_backward(states: Float[Array, "T1 *batch d"], A, C, z: Int[Array, "T *batch"]):
    """Smoothed laws `[T+1 … d]` from the filter's, by one backward pass normalised at each token."""
    table = emission_table(C)

    def step(b, x):
        state, row = x
        b = table[row] * _backward_product(A, b)
        b = b / b.max(-1, keepdims=True)
        law = state * b
        return b, law / law.sum(-1, keepdims=True)

    last = jnp.ones_like(states[-1])
    _, laws = lax.scan(step, last, (states[:-1], row_numbers(z)), reverse=True)
    return jnp.concatenate([laws, states[-1:]])


def _backward_product(A, b):
    """`A b` for `b` `[… d]`."""
    return jnp.moveaxis(A @ jnp.moveaxis(b, -1, 0), 0, -1) if b.ndim > 1 else A @ b


def most_likely_states(hmm: HiddenMarkovModel, tokens: Array | np.ndarray | Sequences) -> Int[Array, "*batch T"]:
    """The path `X_0 … X_{T-1}` of greatest joint probability with the tokens (Viterbi): who emitted what.

    `[T]`, or `[B T]` for a `Sequences`, with −1 beyond a sequence's end. `O(d² T)`; ties go to the lower state.

    **Raises:** `ImpossibleTokenError` if the tokens have probability zero; `DataError` if they are no codes.
    """
    z = as_tokens(hmm, tokens)
    if z.shape[0] == 0:
        return jnp.zeros(z.shape[::-1], jnp.int32)
    path, best = viterbi(*hmm.arrays, z)
    if np.asarray(jnp.isneginf(best)).any():
        forward_filter(hmm, tokens)  # names the token
    path = _batch_first(path, 1)
    return jnp.where(jnp.asarray(tokens.inside), path, -1) if isinstance(tokens, Sequences) else path


@jax.jit
def viterbi(mu, A, C, z: Int[Array, "T *batch"]):
    """`(path [T …], its log-probability […])`."""
    log_table = jnp.log(emission_table(C))
    rows = row_numbers(z)

    def forward(score, row):
        best, origin = _best_predecessor(A, score)
        score = best + log_table[row]
        return score, origin

    start = jnp.broadcast_to(jnp.log(mu), (*z.shape[1:], len(mu))) + log_table[rows[0]]
    score, origins = lax.scan(forward, start, rows[1:])
    last = jnp.argmax(score, -1)

    def back(state, origin):
        before = jnp.take_along_axis(origin, state[..., None], -1)[..., 0]
        return before, before

    _, path = lax.scan(back, last, origins, reverse=True)
    return jnp.concatenate([path, last[None]]).astype(jnp.int32), score.max(-1)


def _best_predecessor(A, score):
    """`max_i (score_i + log A(i, j))` and its argument, for `score` `[… d]`."""
    if isinstance(A, OrderKTransition):
        d, b, _ = A.cube.shape
        joint = score.reshape(*score.shape[:-1], d, b)[..., None] + _aligned(jnp.log(A.cube), score.ndim + 2)
        oldest = joint.argmax(-3)
        middle = jnp.arange(b)[:, None]
        origin = oldest * b + jnp.broadcast_to(middle, oldest.shape[-2:])
        return joint.max(-3).reshape(score.shape), origin.reshape(score.shape)
    joint = score[..., None] + _aligned(jnp.log(A), score.ndim + 1)
    return joint.max(-2), joint.argmax(-2)


def _aligned(x, ndim: int):
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
