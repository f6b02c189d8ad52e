"""Streams: one observation at a time, with memory that does not grow."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError, ImpossibleTokenError
from .._results import is_traced
from .results import Gaussian
from .tokens import check_choice


class Prediction(NamedTuple):
    r"""What `step` says of an observation $Z_t$ and of the one after it; a leading axis for several streams.

    **Attributes:** `next`, the distribution of $Z_{t+1}$ given $Z_{\le t}$: probabilities `[V]` of a token, or a `Gaussian`;
    `log_likelihood`, $\log p(Z_t\mid Z_{<t})$ in nats, 0 for a missing one, −∞ for an impossible token; `p_value`, the probability, given
    the past, of an observation that is at most as likely as this one — $\sum_{z:q(z)\le q(Z_t)}q(z)$ for a token, and
    $P(\chi^2_p\ge e^\top S^{-1}e)$ for `p` observed channels with innovation $e$ of covariance $S$ — and 1 for a missing one.
    """

    next: Any
    log_likelihood: Float[Array, "*batch"]
    p_value: Float[Array, "*batch"]

    @property
    def surprise(self) -> Float[Array, "*batch"]:
        """$-\\log p(Z_t\\mid Z_{<t})$, nats: the larger, the less expected."""
        return -self.log_likelihood


class TokenStream(NamedTuple):
    r"""What a chain or its operators know after the tokens so far; a leading axis for several streams.

    **Attributes:** `mantissa`, `exponent` `[d]`, the belief $\pi_t$ given $Z_{<t}$ as numbers $m2^e$ of which none underflows
    (exponents are zero for a process with negative entries); `log_likelihood` of the tokens so far, nats; `time` $t$, their number.
    """

    mantissa: Float[Array, "*batch d"]
    exponent: Int[Array, "*batch d"]
    log_likelihood: Float[Array, "*batch"]
    time: Int[Array, "*batch"]

    @property
    def predicted(self) -> Float[Array, "*batch d"]:
        r"""$\pi_t$, the distribution of $X_t$ given $Z_{<t}$."""
        return jnp.ldexp(self.mantissa, self.exponent)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, Any]) -> "TokenStream":
        """The state of its named arrays."""
        return cls(**{name: jnp.asarray(value) for name, value in arrays.items()}, **config)


class SeriesStream(NamedTuple):
    r"""What a linear-Gaussian model knows after the observations so far; a leading axis for several streams.

    **Attributes:** `mean` `[m d]` and `root` `[md md]`, the distribution of the history $\xi_t=(X_t,\dots,X_{t-m+1})$ given $Z_{<t}$, of
    covariance `root.T @ root`; `log_likelihood` of the observations so far, nats; `time` $t$, their number.
    """

    mean: Float[Array, "*batch m d"]
    root: Float[Array, "*batch n n"]
    log_likelihood: Float[Array, "*batch"]
    time: Int[Array, "*batch"]

    @property
    def predicted(self) -> Gaussian:
        r"""The distribution of $X_t$ given $Z_{<t}$."""
        L = self.root[..., : self.mean.shape[-1]]
        return Gaussian(self.mean[..., 0, :], jnp.swapaxes(L, -1, -2) @ L)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, Any]) -> "SeriesStream":
        """The state of its named arrays."""
        return cls(**{name: jnp.asarray(value) for name, value in arrays.items()}, **config)


def check_state(state: Any, kind: type, size: int) -> None:
    """Raises `ConfigurationError` for a state that is not one of this model."""
    if not isinstance(state, kind) or state[0].shape[-1] != size:
        raise ConfigurationError(
            f"step takes a state of this model, of {size} hidden states; get one from steerax.start(model)."
        )


def repeated(state: Any, number: int | None) -> Any:
    """The same state for several streams."""
    return state if number is None else jax.tree.map(lambda a: jnp.broadcast_to(a, (number, *a.shape)), state)


def check_impossible(on_impossible: str) -> None:
    """**Raises:** `ConfigurationError` for an unknown choice."""
    check_choice("on_impossible", on_impossible, ("raise", "skip"))


def as_code(model: Any, observation: Any, state: TokenStream) -> Int[Any, "*batch"]:
    """A checked code for each stream, −1 for a missing one; symbols by the model's vocabulary.

    **Raises:** `DataError` for another shape, or what is no code or symbol of the model.
    """
    like = state.time
    if type(observation) is int and not like.shape:
        code: Any = np.int32(observation) if -1 <= observation < model.n_tokens else None
        if code is None:
            raise DataError(_outside(observation, model))
        return code
    if is_traced(observation):
        code = observation
    else:
        symbols = np.asarray(observation, dtype=object).ravel().tolist()
        if any(isinstance(s, str) for s in symbols):
            if model.vocabulary is None:
                raise DataError(f"The model has no vocabulary, so {observation!r} is no token; give its code.")
            code = np.asarray(model.vocabulary.encode(symbols), np.int32).reshape(np.shape(observation))
        elif None in symbols:
            code = np.asarray([-1 if s is None else s for s in symbols]).reshape(np.shape(observation))
        else:
            code = np.ma.filled(np.ma.asarray(observation), -1)
    if code.dtype.kind not in "iu" or code.shape != like.shape:
        wanted = "one code" if not like.shape else f"one code for each of the {like.shape[0]} streams"
        raise DataError(f"step takes {wanted}, −1 for a missing one; got an array {code.dtype}{list(code.shape)}.")
    if is_traced(code):
        return eqx.error_if(code, (code < -1) | (code >= model.n_tokens), _outside("A token", model))
    if code.size and (code.min() < -1 or code.max() >= model.n_tokens):
        raise DataError(_outside(code.ravel()[np.argmax((code < -1) | (code >= model.n_tokens))], model))
    return code.astype(np.int32)


def _outside(token: Any, model: Any) -> str:
    return f"{token} is not a code of the model: codes are 0 … {model.n_tokens - 1}, and -1 for a missing token."


def refuse_impossible(log_q: Any, code: Any, state: TokenStream) -> None:
    """Raises `ImpossibleTokenError` for a token of probability zero, outside `jit`."""
    if not is_traced(log_q):
        host = np.asarray(log_q)
        if np.isneginf(host).any():
            at = int(np.argmax(np.isneginf(host.ravel())))
            raise ImpossibleTokenError(at, int(np.asarray(state.time).ravel()[at]), int(np.asarray(code).ravel()[at]))


def rarer(q: Float[Array, "*batch V"], code: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The probability of a token that is at most as likely as the one that was seen; 1 if none was."""
    own = jnp.take_along_axis(q, jnp.maximum(code, 0)[..., None], -1)
    room = 1 + 64 * jnp.finfo(q.dtype).eps  # tokens of equal probability are so up to rounding
    return jnp.where(code < 0, 1, jnp.minimum(jnp.where(q <= room * own, q, 0).sum(-1), 1))
