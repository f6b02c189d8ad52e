"""Predictors: functions of a whole token string, `int [n T] → float [n]`, whatever computes them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._errors import ConfigurationError, DataError
from ..models.hmm import HiddenMarkovModel
from .hmm.kernels.recursions import filter_checked


class HMMPredictor(eqx.Module):
    """`P(Z_{T+1} = token | Z_{1:T})` under a hidden Markov model; impossible and missing tokens are stepped over."""

    model: HiddenMarkovModel
    token: int = eqx.field(static=True)

    @property
    def target(self) -> Float[Array, " d"]:
        """`F` with prediction `π_T · F`."""
        return self.model.emission[:, self.token]

    def __call__(self, tokens) -> Float[np.ndarray, " n"]:
        return np.asarray(_last_belief(*self.model.arrays, jnp.asarray(tokens)) @ self.target)


class NetworkPredictor(eqx.Module):
    """`softmax(network(Z_{1:T})_T)[token]` for a network that maps tokens `[T]` to logits `[T V]`."""

    network: Any
    token: int = eqx.field(static=True)

    def __call__(self, tokens) -> Float[np.ndarray, " n"]:
        tokens = np.asarray(tokens)
        if tokens.shape[1] == 0:
            raise DataError("A network predicts from at least one token; give it a string that is not empty.")
        if (tokens < 0).any():
            raise DataError("A network cannot read a missing token; use sequences without gaps.")
        return np.asarray(_last_probability(self.network, jnp.asarray(tokens), self.token))


def next_token_predictor(model: Any, token: int) -> HMMPredictor | NetworkPredictor:
    """The probability that a model gives to `token` as the next one, as a predictor for `represent`.

    **Arguments:** `model`, a `HiddenMarkovModel` or any callable from tokens int `[T]` to logits `[T V]`, a `GPT` for
    instance; `token`, a code.

    **Raises:** `ConfigurationError` for another object or a token outside the vocabulary.
    """
    if isinstance(model, HiddenMarkovModel):
        if not 0 <= token < model.n_tokens:
            raise ConfigurationError(f"The model has tokens 0 … {model.n_tokens - 1}, not {token}.")
        return HMMPredictor(model, int(token))
    if not callable(model):
        raise ConfigurationError(f"A {type(model).__name__} predicts no tokens: it is no process and not callable.")
    return NetworkPredictor(model, int(token))


@jax.jit
def _last_belief(mu, A, C, tokens):
    return filter_checked(mu, A, C, tokens.T)[0][-1]


@eqx.filter_jit
def _last_probability(network, tokens, token: int):
    return jax.nn.softmax(jax.vmap(network)(tokens)[:, -1])[:, token]
