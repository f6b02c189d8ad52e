r"""Predictors: whatever gives the distribution of the next token after every prefix of a string.

A predictor is a hidden Markov model, a network of dual-filter layers, a network that maps tokens `[T]` to logits
`[T V]` (a GPT, a grouped or pruned one), an object with `log_probabilities(tokens) -> [T V]`, or a plain function of
either form (log-probabilities are their own log-softmax). Row $t$ belongs to the token after `tokens[t]`.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..models.hmm import HiddenMarkovModel
from .hmm.kernels.recursions import filter_checked
from .hmm.network import DualFilterNetwork


class AbstractPredictor(eqx.Module):
    """The common form of all predictors."""

    predicts_first: ClassVar[bool] = False  # whether there is a distribution of the first token

    @property
    @abc.abstractmethod
    def n_tokens(self) -> int | None:
        """V, or `None` where only a call tells."""

    @property
    @abc.abstractmethod
    def reads_gaps(self) -> bool:
        """Whether −1 may stand among the tokens."""

    @abc.abstractmethod
    def log_probabilities(self, strings: Int[Any, "n T"]) -> Float[Any, "n R V"]:
        r"""$\log p(Z_t=z\mid Z_{<t})$, `R = T` rows for $t=1\dots T$, or `T + 1` from $t=0$ on if it predicts the first."""


class FilterPredictor(AbstractPredictor):
    """The filter of a hidden Markov model; impossible and missing tokens are stepped over."""

    model: HiddenMarkovModel
    predicts_first: ClassVar[bool] = True

    @property
    def n_tokens(self) -> int:
        return self.model.n_tokens

    @property
    def reads_gaps(self) -> bool:
        return True

    def log_probabilities(self, strings):
        return _of_filter(self.model, jnp.asarray(strings))


class LayersPredictor(AbstractPredictor):
    """A network of dual-filter layers."""

    network: DualFilterNetwork
    predicts_first: ClassVar[bool] = True

    @property
    def n_tokens(self) -> int:
        return self.network.n_tokens

    @property
    def reads_gaps(self) -> bool:
        return True

    def log_probabilities(self, strings):
        return _of_layers(self.network, jnp.asarray(strings))


class NetworkPredictor(AbstractPredictor):
    """An `equinox.Module` from tokens `[T]` to logits `[T V]`, mapped over strings and compiled."""

    network: Any

    @property
    def n_tokens(self) -> int | None:
        return getattr(getattr(self.network, "config", None), "vocab_size", None)

    @property
    def reads_gaps(self) -> bool:
        return bool(getattr(getattr(self.network, "config", None), "missing", False))

    def log_probabilities(self, strings):
        return _of_network(self.network, jnp.asarray(strings))


class FunctionPredictor(AbstractPredictor):
    """A function from tokens `[T]`, a NumPy array, to logits or log-probabilities `[T V]`, called for each string."""

    function: Callable[[np.ndarray], Any] = eqx.field(static=True)

    @property
    def n_tokens(self) -> None:
        return None

    @property
    def reads_gaps(self) -> bool:
        return False

    def log_probabilities(self, strings):
        rows = [np.asarray(self.function(np.asarray(tokens)), np.float64) for tokens in strings]
        wrong = next((row.shape for row in rows if row.ndim != 2 or len(row) != np.shape(strings)[1]), None)
        if wrong is not None:
            raise DataError(f"The predictor gave an array {wrong} for {np.shape(strings)[1]} tokens; [T V] is needed.")
        logits = np.stack(rows)
        return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def as_predictor(predictor: Any) -> AbstractPredictor:
    """The common form of anything that predicts tokens; see the head of this module.

    **Raises:** `ConfigurationError` for an object that is none of these.
    """
    if isinstance(predictor, AbstractPredictor):
        return predictor
    if isinstance(predictor, HiddenMarkovModel):
        return FilterPredictor(predictor)
    if isinstance(predictor, DualFilterNetwork):
        return LayersPredictor(predictor)
    if hasattr(predictor, "log_probabilities"):
        return FunctionPredictor(predictor.log_probabilities)
    if isinstance(predictor, eqx.Module) and callable(predictor):
        return NetworkPredictor(predictor)
    if callable(predictor):
        return FunctionPredictor(predictor)
    raise ConfigurationError(
        f"A {type(predictor).__name__} does not predict tokens; pass a hidden Markov model, a network or function from "
        "tokens [T] to logits [T V], or an object with log_probabilities(tokens)."
    )


class NextToken(eqx.Module):
    """`P(next token = token)` after a whole string, int `[n T]` → float `[n]`: what `represent` decomposes."""

    predictor: AbstractPredictor
    token: int = eqx.field(static=True)

    def __call__(self, strings: Int[Any, "n T"]) -> Float[np.ndarray, " n"]:
        strings = np.asarray(strings)
        if isinstance(self.predictor, FilterPredictor):
            last = _last_belief(*self.predictor.model.arrays, jnp.asarray(strings))
            return np.asarray(last @ self.predictor.model.emission[:, self.token])
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
    return filter_checked(mu, A, C, strings.T)[0][-1]


@eqx.filter_jit
def _of_filter(model: HiddenMarkovModel, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    states = filter_checked(*model.arrays, strings.T)[0]
    return jnp.log(jnp.swapaxes(states, 0, 1) @ model.emission)


@eqx.filter_jit
def _of_layers(network: DualFilterNetwork, strings: Int[Array, "n T"]) -> Float[Array, "n T1 V"]:
    return jnp.log(jnp.swapaxes(network.next_all(strings.T), 0, 1))


@eqx.filter_jit
def _of_network(network: Any, strings: Int[Array, "n T"]) -> Float[Array, "n T V"]:
    return jax.nn.log_softmax(jax.vmap(network)(strings), axis=-1)
