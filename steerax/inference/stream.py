"""Streams: one observation at a time, with memory that does not grow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError, ImpossibleTokenError
from .._results import RESULTS, is_traced, successful_if
from ..data.convert import converted
from .hmm.kernels.scaled import Scaled
from .results import Gaussian
from .tokens import as_codes, check_choice


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
        r"""$-\log p(Z_t\mid Z_{<t})$, nats: the larger, the less expected."""
        return -self.log_likelihood

    @property
    def result(self) -> RESULTS:
        """Whether all went well: `impossible_token`, or for a series `breakdown`, as in `Filtered`; of several streams, of any."""
        log_q = self.log_likelihood
        fault = RESULTS.breakdown if isinstance(self.next, Gaussian) else RESULTS.impossible_token
        return successful_if(jnp.isfinite(log_q).all(), fault)


def _no_config(state: Any) -> dict[str, Any]:
    """What a file of a state needs besides the arrays."""
    return {}


def _of_arrays(kind: Any, config: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """The state of its named arrays."""
    return kind(**{name: jnp.asarray(value) for name, value in arrays.items()}, **config)


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
        return Scaled(self.mantissa, self.exponent).linear

    to_config, from_config = _no_config, classmethod(_of_arrays)


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

    to_config, from_config = _no_config, classmethod(_of_arrays)


class RememberingStream(NamedTuple):
    r"""What a model that reads the past knows after the tokens or observations so far; a leading axis for several streams.

    **Attributes:** `mantissa`, `exponent` `[d]`, the belief $\pi_t$ given $Z_{<t}$ as numbers $m2^e$ of which none underflows;
    `log_likelihood` of the tokens so far, nats; `time` $t$, their number; `recent` `[m]`, the last tokens, −1 before
    the start, or the numbers of the last observations, newest first, NaN before the start.
    """

    mantissa: Float[Array, "*batch d"]
    exponent: Int[Array, "*batch d"]
    log_likelihood: Float[Array, "*batch"]
    time: Int[Array, "*batch"]
    recent: Int[Array, "*batch m"] | Float[Array, "*batch m"]

    @property
    def predicted(self) -> Float[Array, "*batch d"]:
        r"""$\pi_t$, the distribution of $X_t$ given $Z_{<t}$."""
        return Scaled(self.mantissa, self.exponent).linear

    to_config, from_config = _no_config, classmethod(_of_arrays)


def begun(belief: Scaled, number: int | None) -> TokenStream:
    """A stream at its first token, or several."""
    zero = jnp.zeros((), belief.m.dtype)
    return repeated(TokenStream(belief.m, belief.e, zero, jnp.zeros((), jnp.int32)), number)


def repeated(state: Any, number: int | None) -> Any:
    """The same state for several streams."""
    return state if number is None else jax.tree.map(lambda a: jnp.broadcast_to(a, (number, *a.shape)), state)


def stepped(
    model: Any, state: Any, token: Any, on_impossible: str, kernel: Callable[[Any, Any], Any], recent: int | None = None
) -> Any:
    """What a compiled `kernel(state, code)` of a room for tokens makes of a token; states remember `recent` tokens, if the room has
    such ones.

    **Raises:** `ConfigurationError` for a state of another model or an unknown choice; `DataError` for what is no token;
    `ImpossibleTokenError` unless `on_impossible="skip"`.
    """
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    check_state(state, (model.n_states,), recent=recent)
    code = _as_code(model, token, state.time.shape)
    after, prediction = kernel(state, code)
    if on_impossible == "raise" and not is_traced(prediction.log_likelihood):
        log_q = np.atleast_1d(np.asarray(prediction.log_likelihood))
        if np.isneginf(log_q).any():
            at = int(np.argmax(np.isneginf(log_q)))
            raise ImpossibleTokenError(at, int(np.ravel(state.time)[at]), int(np.ravel(code)[at]))
    return after, prediction


def check_state(
    state: Any, shape: tuple[int, ...], kind: type = TokenStream, recent: int | None = None, of_numbers: bool = False
) -> None:
    """Raises `ConfigurationError` for a state that is not one of this model.

    **Arguments:** `shape` of its first array, without streams; `kind` of a state without memory; `recent`, how many tokens, or numbers,
    a state with memory holds.
    """
    kind = kind if recent is None else RememberingStream
    fits = isinstance(state, kind) and state[0].shape[state.time.ndim :] == shape
    if fits and recent is not None:
        kept = state.recent
        fits = kept.shape[state.time.ndim :] == (recent,) and jnp.issubdtype(kept.dtype, jnp.floating) == of_numbers
    if not fits:
        remembers = "" if recent is None else f" and {recent} remembered {'numbers' if of_numbers else 'tokens'}"
        raise ConfigurationError(
            f"step takes a state of this model, of {shape[-1]} hidden states{remembers}; get one from steerax.start(model)."
        )


def _as_code(model: Any, token: Any, streams: tuple[int, ...]) -> Int[Any, "*batch"]:
    """A checked code for each stream, −1 for a missing one; symbols by the model's vocabulary. **Raises:** `DataError`."""
    if type(token) is int and not streams and -1 <= token < model.n_tokens:
        return np.int32(token)  # the common case, fast
    if is_traced(token):
        codes = jnp.atleast_1d(token)
    else:
        codes = converted(token if streams else [token], "tokens", model.vocabulary)
    if np.ndim(codes) != 1:
        raise DataError(f"step takes one token a stream; got {str(token)[:60]}.")
    codes = as_codes(model, codes)
    check_number(codes, streams)
    return codes if streams else codes[0]


def check_number(observations: Any, streams: tuple[int, ...]) -> None:
    """Raises `DataError` unless there is an observation for each stream."""
    number = streams[0] if streams else 1
    if len(observations) != number:
        raise DataError(f"step takes one observation for each of {number} streams; got {len(observations)}.")


def predicted_next(state: TokenStream, code: Any, after: Scaled, log_q: Any, next_all: Callable[[Any], Any]) -> Any:
    """The stream after a token, and the prediction, where `next_all` gives the distribution of the next token for a belief."""
    new = TokenStream(after.m, after.e, state.log_likelihood + log_q, state.time + 1)
    return new, Prediction(next_all(new.predicted), log_q, as_rare(next_all(state.predicted), code))


def as_rare(q: Float[Array, "*batch V"], code: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The probability of a token that is at most as likely as the one that was seen; 1 if none was."""
    own = jnp.take_along_axis(q, jnp.maximum(code, 0)[..., None], -1)
    room = 1 + 64 * jnp.finfo(q.dtype).eps  # tokens of equal probability are so up to rounding
    return jnp.where(code < 0, 1, jnp.minimum(jnp.where(q <= room * own, q, 0).sum(-1), 1))
