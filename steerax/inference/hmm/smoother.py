"""Looking back: the distribution of every past state given all tokens, and the likeliest path of states."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..._results import is_traced
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition
from ..results import Smoothed
from ..tokens import Tokens, as_codes, batch_first
from .filter import FilteredTokens, filter_tokens
from .kernels.likelihoods import Emission, emission_table, log_emission_table, row_numbers
from .kernels.scaled import smooth_scaled


def smooth_tokens(hmm: HiddenMarkovModel, data: Tokens, on_impossible: str = "raise") -> Smoothed:
    r"""The distribution of $X_t$, $t=0\dots T-1$, given all $T$ tokens,

    $$P(X_t=i\mid Z)\propto\pi_t(i)\,C_{z_t}(i)\,b_t(i),\qquad b_t\propto A(C_{z_{t+1}}\odot b_{t+1}),\qquad b_{T-1}=1 .$$

    $O(d^2T)$. Missing tokens have factor one. **Raises:** as `filter_tokens`.
    """
    filtered = filter_tokens(hmm, data, on_impossible)
    return Smoothed(smoothed_states(filtered), filtered.log_likelihood, filtered.result)


def smoothed_states(filtered: FilteredTokens) -> Float[Array, "*batch T d"]:
    """The distributions of the states given all tokens, from what the filter returned."""
    model, z = filtered.model.arrays[1:], jnp.asarray(filtered.tokens)
    return batch_first(
        filtered.either(
            lambda: _smooth_backward(filtered.states, *model, z), lambda states: smooth_scaled(states, *model, z)
        )
    )


@jax.jit
def _smooth_backward(
    states: Float[Array, "T1 *batch d"], A, C: Emission, z: Int[Array, "T *batch"]
) -> Float[Array, "T *batch d"]:
    """Smoothed distributions from the filter's, by one backward pass normalised at each token."""
    table = emission_table(C)

    def step(b, x):
        state, row = x
        # the likelihood of the tokens that follow, where the state is possible: elsewhere it may be so large as to hide that
        b = jnp.where(state > 0, table[row] * _backward_product(A, b), 0)
        joint = state * b
        total = joint.sum(-1, keepdims=True)
        return b / total, joint / total

    return lax.scan(step, jnp.ones_like(states[-1]), (states[:-1], row_numbers(z)), reverse=True)[1]


def _backward_product(A, b: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """$A b$."""
    return jnp.moveaxis(A @ jnp.moveaxis(b, -1, 0), 0, -1) if b.ndim > 1 else A @ b


def most_likely_states_tokens(hmm: HiddenMarkovModel, data: Tokens) -> Int[Array, "*batch T"]:
    r"""The path $X_0\dots X_{T-1}$ of greatest joint probability with the tokens (Viterbi).

    `[T]`, or `[B T]` for a `Sequences`, with −1 beyond a sequence's end. $O(d^2T)$; ties go to the lower state.

    **Raises:** `ImpossibleTokenError` if the tokens (inside `jit` the path is −1 then) have probability zero; `DataError` if they
    are not codes of the model.
    """
    return likeliest_path(hmm, jnp.asarray(as_codes(hmm, data)), data, lambda: filter_tokens(hmm, data))


def likeliest_path(
    chain: Any, z: Int[Array, "T *batch"], data: Any, name_impossible: Callable[[], Any]
) -> Int[Array, "*batch T"]:
    """The likeliest path of a chain along codes, time first; where there is none, `name_impossible` raises."""
    if z.shape[0] == 0:
        return jnp.zeros(z.shape[::-1], jnp.int32)
    path, best = _viterbi(*chain.arrays, z)
    impossible = jnp.isneginf(best)
    if not is_traced(impossible) and np.asarray(impossible).any():
        name_impossible()
    path = batch_first(jnp.where(impossible, -1, path), 1)
    return jnp.where(jnp.asarray(data.inside), path, -1) if isinstance(data, Sequences) else path


@jax.jit
def _viterbi(
    mu: Float[Array, " d"], A, C: Emission, z: Int[Array, "T *batch"]
) -> tuple[Int[Array, "T *batch"], Float[Array, "*batch"]]:
    """The likeliest path and its log-probability."""
    log_table, transition = log_emission_table(C), as_transition(A)
    rows = row_numbers(z)

    def forward(score, row):
        best, origin = transition.best_predecessor(score)
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
