r"""Predictors: whatever gives the distribution of the next token after every prefix of a string.

A predictor is a hidden Markov model, plain, generalised or conditional, a network of dual-filter layers, a network that maps tokens `[T]` to logits
`[T V]` (a GPT, a grouped or pruned one), an object with `log_probabilities(tokens) -> [T V]`, or a plain function of
either form (log-probabilities are their own log-softmax). Row $t$ belongs to the token after `tokens[t]`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..models.conditional import AbstractConditionalHMM
from ..models.generalised import GeneralisedHMM
from ..models.hmm import HiddenMarkovModel
from .conditional.filter import next_log_probabilities as next_of_kernels
from .generalised.kernels import scaled as operators
from .hmm.kernels.scaled import filter_traced, next_log_probabilities
from .hmm.network import DualFilterNetwork


class Predictor(eqx.Module):
    """The common form of all predictors.

    **Attributes:** `source`, what predicts; `apply(source, strings)`; `n_tokens`, V, or `None` where only a call tells;
    `predicts_first`, whether there is a distribution of the first token; `reads_gaps`, whether −1 may stand among the
    tokens; `compiled`, whether `apply` is compiled anew for each shape.
    """

    source: Any
    apply: Callable[[Any, Any], Any] = eqx.field(static=True)
    n_tokens: int | None = eqx.field(static=True)
    predicts_first: bool = eqx.field(static=True)
    reads_gaps: bool = eqx.field(static=True)
    compiled: bool = eqx.field(static=True, default=True)

    def log_probabilities(self, strings: Int[Any, "n T"]) -> Float[Any, "n R V"]:
        r"""$\log p(Z_t=z\mid Z_{<t})$, `R = T` rows for $t=1\dots T$, or `T + 1` from $t=0$ on if it predicts the first."""
        return self.apply(self.source, jnp.asarray(strings) if self.compiled else np.asarray(strings))


def as_predictor(predictor: Any) -> Predictor:
    """The common form of anything that predicts tokens; see the head of this module.

    An `equinox.Module` from tokens to logits is mapped over strings and compiled; it reads gaps if its configuration says
    so. Any other function is called with one string, a NumPy array, at a time.

    **Raises:** `ConfigurationError` for an object that is none of these.
    """
    if isinstance(predictor, Predictor):
        return predictor
    if isinstance(predictor, HiddenMarkovModel):
        return Predictor(predictor, _of_filter, predictor.n_tokens, True, True)
    if isinstance(predictor, GeneralisedHMM):
        return Predictor(predictor, _of_operators, predictor.n_tokens, True, True)
    if isinstance(predictor, AbstractConditionalHMM):
        return Predictor(predictor, _of_kernels, predictor.n_tokens, True, True)
    if isinstance(predictor, DualFilterNetwork):
        return Predictor(predictor, _of_layers, predictor.n_tokens, True, True)
    if hasattr(predictor, "log_probabilities"):
        return Predictor(predictor.log_probabilities, _of_function, None, False, False, compiled=False)
    if isinstance(predictor, eqx.Module) and callable(predictor):
        config = getattr(predictor, "config", None)
        gaps = bool(getattr(config, "missing", False))
        return Predictor(predictor, _of_network, getattr(config, "vocab_size", None), False, gaps)
    if callable(predictor):
        return Predictor(predictor, _of_function, None, False, False, compiled=False)
    raise ConfigurationError(
        f"A {type(predictor).__name__} does not predict tokens; pass a hidden Markov model, a network or function from "
        "tokens [T] to logits [T V], or an object with log_probabilities(tokens)."
    )


@eqx.filter_jit
def _of_filter(model: HiddenMarkovModel, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    """Impossible and missing tokens are stepped over."""
    return jnp.swapaxes(next_log_probabilities(*model.arrays, strings.T), 0, 1)


@eqx.filter_jit
def _of_operators(model: GeneralisedHMM, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    return jnp.swapaxes(operators.next_log_probabilities(*model.arrays, strings.T), 0, 1)


@eqx.filter_jit
def _of_kernels(model: AbstractConditionalHMM, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    return jnp.swapaxes(next_of_kernels(model, strings.T), 0, 1)


@eqx.filter_jit
def _of_layers(network: DualFilterNetwork, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    return jnp.log(jnp.swapaxes(network.next_all(strings.T), 0, 1))


@eqx.filter_jit
def _of_network(network: Any, strings: Int[Array, "n T"]) -> Float[Array, "n T V"]:
    return jax.nn.log_softmax(jax.vmap(network)(strings), axis=-1)


def _of_function(function: Callable[[np.ndarray], Any], strings: Int[np.ndarray, "n T"]) -> Float[np.ndarray, "n T V"]:
    rows = [np.asarray(function(tokens), np.float64) for tokens in strings]
    wrong = next((row.shape for row in rows if row.ndim != 2 or len(row) != strings.shape[1]), None)
    if wrong is not None:
        raise DataError(f"The predictor gave an array {wrong} for {strings.shape[1]} tokens; [T V] is needed.")
    logits = np.stack(rows)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


class NextToken(eqx.Module):
    """`P(next token = token)` after a whole string, int `[n T]` → float `[n]`: what `represent` decomposes."""

    predictor: Predictor
    token: int = eqx.field(static=True)

    @property
    def model(self) -> HiddenMarkovModel | GeneralisedHMM | None:
        """The process whose filter predicts, if there is one."""
        source = self.predictor.source
        return source if isinstance(source, HiddenMarkovModel | GeneralisedHMM) else None

    def __call__(self, strings: Int[Any, "n T"]) -> Float[np.ndarray, " n"]:
        strings = np.asarray(strings)
        if isinstance(self.model, HiddenMarkovModel):
            last = _last_belief(*self.model.arrays, jnp.asarray(strings))
            return np.asarray(last @ self.model.emission[:, self.token])
        if strings.shape[1] == 0 and not self.predictor.predicts_first:
            raise DataError("A network predicts from at least one token; give it a string that is not empty.")
        if (strings < 0).any() and not self.predictor.reads_gaps:
            raise DataError("A network cannot read a missing token; use sequences without gaps.")
        return np.exp(np.asarray(self.predictor.log_probabilities(strings)[:, -1, self.token]))


def next_token_predictor(predictor: Any, token: int) -> NextToken:
    """The probability that a predictor gives to `token` as the next one, for `represent`.

    **Arguments:** `predictor`, anything that `as_predictor` takes; `token`, a code.

    **Raises:** `ConfigurationError` for another object or a token outside the vocabulary.
    """
    common = as_predictor(predictor)
    if token < 0 or (common.n_tokens is not None and token >= common.n_tokens):
        raise ConfigurationError(f"The model has tokens 0 … {(common.n_tokens or 1) - 1}, not {token}.")
    return NextToken(common, int(token))


@jax.jit
def _last_belief(mu: Float[Array, " d"], A, C, strings: Int[Array, "n T"]) -> Float[Array, "n d"]:
    return filter_traced(mu, A, C, strings.T)[0][-1]
