"""The forward filter: the law of the hidden state and of the next token, given the tokens so far."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError, ImpossibleTokenError
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .kernels.recursions import filter_checked, filter_possible, filter_traced, is_small_product


class Filtered(eqx.Module):
    """What `forward_filter` returns.

    `state_probabilities[t]` is `π_t`, the law of `X_t` given the first `t` tokens, `t = 0 … T` — what others call the
    one-step *predicted* law, since token `t+1` is emitted by `X_t`. For a `Sequences` a batch axis comes first, and
    rows beyond a sequence's end are its forecasts.

    **Attributes:** `log_likelihood`, nats, scalar or `[B]`, −∞ if a token was impossible; `tokens`, the tokens that
    count: impossible ones that were stepped over are −1 here.
    """

    model: HiddenMarkovModel
    tokens: Int[Array | np.ndarray, "T *batch"]  # time first, as the recursions produce them
    states: Float[Array, "T1 *batch d"]
    log_likelihood: Float[Array | np.ndarray, "*batch"]

    @property
    def state_probabilities(self) -> Float[Array, "*batch T1 d"]:
        """`π_0 … π_T`."""
        return _batch_first(self.states)

    def next_token_probabilities(self, t: int | None = None) -> Float[Array, "..."]:
        """`p(z | Z_{1:t}) = π_t C`: `[V]` for one `t` (−1 is `T`), `[T+1 V]` for `None`; a batch axis first."""
        states = self.state_probabilities if t is None else self.state_probabilities[..., t, :]
        return states @ self.model.emission

    @property
    def token_log_likelihoods(self) -> Float[Array, "*batch T"]:
        """`log p(Z_{t+1} | Z_{1:t})`, zero where a token is missing."""
        return _batch_first(token_log_likelihoods(self.states, self.model.emission, self.tokens), 1)


@jax.jit
def token_log_likelihoods(states, C, z):
    """`log(π_t · C_{z_{t+1}})`, `[T …]`, zero for a missing token, from states `[T+1 … d]`."""
    seen = z >= 0
    q = jnp.sum(states[:-1] * C.T[jnp.where(seen, z, 0)], -1)
    return jnp.where(seen, jnp.log(jnp.where(seen, q, 1)), 0)


def forward_filter(
    hmm: HiddenMarkovModel, tokens: Array | np.ndarray | Sequences, on_impossible: str = "raise"
) -> Filtered:
    """The filter of a hidden Markov model along one sequence `[T]` or a `Sequences`; −1 is a missing token.

        π_0 = μ,    π_{t+1} = A^⊤(π_t ⊙ C_{z_{t+1}}) / q_t,    q_t = π_t · C_{z_{t+1}},    log-likelihood = Σ log q_t.

    `O(d² T)` per sequence. Differentiable and traceable: inside `jit` an impossible token cannot raise, is stepped
    over (`π_{t+1} = A^⊤ π_t`) and makes the log-likelihood −∞.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` for
    tokens that are not codes of the model.
    """
    z = as_codes(hmm, tokens)
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    arrays = hmm.arrays
    if isinstance(z, Tracer) or any(isinstance(a, Tracer) for a in jax.tree.leaves(arrays)):
        return Filtered(hmm, *filter_traced(*arrays, jnp.asarray(z)))
    if is_small_product(z, hmm.n_states):
        states, log_likelihood = filter_possible(*arrays, z)
        if np.isfinite(log_likelihood):
            return Filtered(hmm, z, states, log_likelihood)
    states, log_q = filter_checked(*arrays, z)
    log_likelihood = np.asarray(np.asarray(log_q).sum(0))
    if not np.isfinite(log_likelihood).all():
        if on_impossible == "raise":
            raise_if_impossible(log_q, z)
        z = np.where(np.isfinite(log_q), z, -1)
    return Filtered(hmm, z, states, log_likelihood)


def raise_if_impossible(log_q, z) -> None:
    """Raise `ImpossibleTokenError` for the first token with `log q = -∞`; `log_q` and `z` are `[T]` or `[T B]`."""
    impossible = np.isneginf(log_q)
    if impossible.any():
        place = np.argwhere(impossible)[0]
        position, sequence = int(place[0]), int(place[1]) if len(place) > 1 else 0
        raise ImpossibleTokenError(sequence, position, int(np.asarray(z)[tuple(place)]))


def _batch_first(x, features: int = 2):
    return jnp.moveaxis(x, 0, -features) if x.ndim > features else x


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Raises `ConfigurationError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is not known; choose one of {', '.join(map(repr, choices))}.")


def as_tokens(hmm: HiddenMarkovModel, tokens) -> Int[Array, "T ..."]:
    """`as_codes` as an array of JAX."""
    return jnp.asarray(as_codes(hmm, tokens))


def as_codes(hmm: HiddenMarkovModel, tokens) -> Int[Array | np.ndarray, "T ..."]:
    """Checked codes, time first: `[T]` for one sequence, `[T B]` for a `Sequences`; on the host unless traced.

    **Raises:** `DataError` for observations, a wrong rank, or a code outside −1 … V−1.
    """
    several = isinstance(tokens, Sequences)
    values: Any = tokens.values if several else tokens
    if isinstance(values, Tracer):
        return values.T
    host = np.asarray(values)
    if host.ndim == 2 and not several:
        raise DataError(f"Tokens of shape {host.shape} are several sequences; wrap them in `Sequences`.")
    host = host.astype(np.int32) if host.size == 0 and not several else host.T
    if host.dtype.kind not in "iu" or host.ndim > 2:
        raise DataError(f"Tokens are integer codes, one per position; got an array {host.dtype}{list(host.shape)}.")
    if host.size and (host.min() < -1 or host.max() >= hmm.n_tokens):
        at = np.argwhere((host < -1) | (host >= hmm.n_tokens))[0]
        where = f"position {at[0]}" + (f" of sequence {at[1]}" if len(at) > 1 else "")
        raise DataError(
            f"Token {host[tuple(at)]} at {where} is not a code of the model: codes are 0 … {hmm.n_tokens - 1}, "
            "and -1 for a missing token."
        )
    return host.astype(np.int32)


def score_tokens(
    hmm: HiddenMarkovModel, data: Sequences, *, chunk: int = 256, on_impossible: str = "raise"
) -> TokenScores:
    """Next-token log-likelihoods of a whole data set, `chunk` sequences at a time.

    With `on_impossible="skip"` an impossible token scores −∞.

    **Raises:** `ImpossibleTokenError`, `DataError` as `forward_filter`.
    """
    scores = np.zeros(data.values.shape)
    for start in range(0, data.number, chunk):
        rows = np.arange(start, min(start + chunk, data.number))
        part = Sequences(data.values[rows], data.lengths[rows])
        try:
            found = forward_filter(hmm, part, on_impossible)
        except ImpossibleTokenError as error:
            raise ImpossibleTokenError(start + error.sequence, error.position, error.token) from None
        skipped = part.mask & (np.asarray(found.tokens).T < 0)
        scores[rows] = np.where(skipped, -np.inf, np.asarray(found.token_log_likelihoods))
    return TokenScores(scores, data.mask)


def predict_next_tokens(hmm: HiddenMarkovModel, data: Sequences, *, chunk: int = 256) -> np.ndarray:
    """`p(z | Z_{1:t})` for every prefix of every sequence, `[B T+1 V]` on the host, `chunk` sequences at a time.

    Rows beyond a sequence's end are forecasts. **Raises** as `forward_filter`.
    """
    parts = [
        forward_filter(hmm, Sequences(data.values[i : i + chunk], data.lengths[i : i + chunk]))
        for i in range(0, data.number, chunk)
    ]
    return np.concatenate([np.asarray(part.next_token_probabilities()) for part in parts])
