"""What the rooms for tokens share: tokens as codes, what a filter of tokens returns, scores and forecasts."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .._errors import ConfigurationError, DataError, ImpossibleTokenError
from .._results import RESULTS
from ..data.chunks import chunks
from ..data.convert import checked_codes
from ..data.scores import TokenScores
from ..data.sequences import Sequences, without_mask
from ..models.hmm import HiddenMarkovModel
from .devices import AXIS, anywhere, on_host, over_devices
from .results import Filtered, check_coverage

Tokens = Array | np.ndarray | Sequences


class AbstractFilteredTokens(Filtered):
    r"""`Filtered` for tokens: `predicted[t]` is $\pi_t$, the belief given $Z_{<t}$.

    **Attributes:** those of `Filtered`; `log_likelihood` is −∞ if a token was impossible; `tokens` `[T]` or `[T B]`, those
    that count (impossible ones that were stepped over are −1); `states`, `predicted` with time first; `log_q`, of every
    token, −∞ if it was impossible; `lost_mass`, whether the linear recursion would have lost mass for good.
    """

    model: Any
    tokens: Int[Array | np.ndarray, "T *batch"]
    states: Float[Array, "T1 *batch d"]
    log_q: Float[Array | np.ndarray, "T *batch"]
    lost_mass: Any  # bool, traced inside `jit`
    lengths: Int[np.ndarray, " batch"] | None = None

    @abc.abstractmethod
    def exact_states(self) -> Any:
        """The states as scaled numbers, of which none underflows."""

    def either(self, fast: Callable[[], Any], exact: Callable[[Any], Any]) -> Any:
        """`fast()`; where mass would underflow for good, what `exact` makes of the states as scaled numbers."""
        again = lambda: exact(self.exact_states())
        if isinstance(self.lost_mass, Tracer):
            return lax.cond(self.lost_mass, again, fast)
        return again() if self.lost_mass else fast()

    @property
    def predicted(self) -> Float[Array, "*batch T1 d"]:
        return batch_first(self.states)

    @property
    def log_likelihood(self) -> Float[Array | np.ndarray, "*batch"]:
        total = self.log_q.sum(0)
        return np.asarray(total) if isinstance(self.log_q, np.ndarray) else total

    @property
    def log_likelihoods(self) -> Float[Array, "*batch T"]:
        log_q = jnp.asarray(self.log_q)
        return batch_first(jnp.where(jnp.isfinite(log_q), log_q, 0), 1)

    @property
    def result(self) -> RESULTS:
        total = self.log_likelihood
        if isinstance(total, np.ndarray):
            return RESULTS.successful if np.isfinite(total).all() else RESULTS.impossible_token
        return RESULTS.where(jnp.isfinite(total).all(), RESULTS.successful, RESULTS.impossible_token)


class TokenForecast(eqx.Module):
    r"""Distributions of the next tokens; a batch axis comes first for a `Sequences`.

    **Attributes:** `probabilities` `[steps V]`, row `j` the distribution of $Z_{T+j}$ given $Z_{<T}$; `states` `[steps d]`,
    of the state $X_{T+j}$ that emits it; `result`.
    """

    probabilities: Float[Array, "*batch steps V"]
    states: Float[Array, "*batch steps d"]
    result: RESULTS

    @property
    def method(self) -> str:
        """`"exact"`, or `"simulated"`."""
        return "exact"

    def interval(self, coverage: float = 0.9) -> Bool[Array, "*batch steps V"]:
        """The smallest set of tokens with at least this probability at each step, as an indicator.

        **Raises:** `ConfigurationError` unless `0 < coverage <= 1`.
        """
        if coverage != 1:
            check_coverage(coverage)
        order = jnp.argsort(-self.probabilities, axis=-1)
        ranked = jnp.take_along_axis(self.probabilities, order, -1)
        before = jnp.cumsum(ranked, -1) - ranked
        rank = jnp.argsort(order, axis=-1)
        return jnp.take_along_axis(before < coverage * (1 - 1e-12), rank, -1)


class SimulatedForecast(TokenForecast):
    """A `TokenForecast` from simulated futures, where tokens to come move the chain: `standard_error` `[steps V]` of the
    probabilities, zero for the first step, which is exact."""

    standard_error: Float[Array, "*batch steps V"]

    @property
    def method(self) -> str:
        return "simulated"


def last_states(filtered: AbstractFilteredTokens, data: Tokens) -> Float[Array, "*batch d"]:
    """The beliefs after each sequence's own end."""
    if isinstance(data, Sequences):
        return filtered.states[jnp.asarray(data.lengths), jnp.arange(data.number)]
    return filtered.states[-1]


def raise_if_impossible(log_q, z) -> None:
    """Raise `ImpossibleTokenError` for the first token with `log q = -∞`; `log_q` and `z` are `[T]` or `[T B]`."""
    impossible = np.isneginf(log_q)
    if impossible.any():
        place = np.argwhere(impossible)[0]
        position, sequence = int(place[0]), int(place[1]) if len(place) > 1 else 0
        raise ImpossibleTokenError(sequence, position, int(np.asarray(z)[tuple(place)]))


def filtered_over(
    mesh: Any, filter_traced: Callable[..., Any], arrays: tuple, z: Int[np.ndarray, "T batch"], on_impossible: str
) -> dict[str, Any]:
    """The filter of a room over the devices of a mesh: what a record of filtered tokens holds.

    **Raises:** as `raise_if_impossible`, unless impossible tokens are to be skipped.
    """
    ins, outs = (*(None for _ in arrays), 1), (1, 1, 1, None, None)
    kernel = _filter_of_a_device(filter_traced)
    tokens, states, log_q, impossible, lost = over_devices(mesh, kernel, ins, outs)(*arrays, z)
    if bool(impossible) and on_impossible == "raise":
        raise_if_impossible(on_host(log_q), z)
    return {"tokens": tokens, "states": states, "log_q": log_q, "lost_mass": bool(lost)}


@functools.cache
def _filter_of_a_device(filter_traced: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments):
        states, log_q, lost = filter_traced(*arguments)
        possible = jnp.isfinite(log_q)
        tokens = jnp.where(possible, arguments[-1], -1)
        return tokens, states, log_q, anywhere(~possible.all(), AXIS), anywhere(lost, AXIS)

    return run


def batch_first(x: Array, features: int = 2) -> Array:
    """`[T B …]` as `[B T …]`, where the last `features` axes (time among them) belong to one sequence."""
    return jnp.moveaxis(x, 0, -features) if x.ndim > features else x


def check_hidden(verb: str, model: Any) -> None:
    """Raises `ConfigurationError` unless a model is a `HiddenMarkovModel` of tokens."""
    if not isinstance(model, HiddenMarkovModel):
        raise ConfigurationError(f"{verb} takes a HiddenMarkovModel, not a {type(model).__name__}.")
    if not model.emits_tokens:
        raise ConfigurationError(
            f"{verb} takes a model of tokens; this one emits numbers ({type(model.emission).__name__})."
        )


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Raises `ConfigurationError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")


def as_codes(model: Any, data: Any) -> Int[Array | np.ndarray, "T ..."]:
    """Checked codes, time first: `[T]` for one sequence, `[T B]` for a `Sequences`; on the host unless traced.

    **Raises:** `DataError` for observations, a wrong rank, or a code outside −1 … V−1.
    """
    several = isinstance(data, Sequences)
    if several and model.vocabulary is not None:
        data = data.in_codes_of(model.vocabulary)
    values: Any = data.values if several else data
    if isinstance(values, Tracer):
        return _traced_codes(model, values, several)
    return checked_codes(without_mask(values), model.n_tokens, several)


def _traced_codes(model: Any, values: Array, several: bool) -> Int[Array, "T ..."]:
    """Codes inside `jit`: rank and type are known, and a code outside the model stops the compiled function."""
    if values.ndim != 1 + several or not jnp.issubdtype(values.dtype, jnp.integer):
        raise DataError(f"Tokens are integer codes, one per position; got an array {values.dtype}{list(values.shape)}.")
    outside = (values < -1) | (values >= model.n_tokens)
    message = f"A token is not a code of the model: codes are 0 … {model.n_tokens - 1}, and -1 for a missing token."
    return eqx.error_if(values, outside, message).T


def scored(model: Any, data: Sequences, filter_data: Callable[..., Any], on_impossible: str) -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every observation by the filter of a room, −∞ for an impossible one that was stepped over."""
    data = data if model.vocabulary is None else data.in_codes_of(model.vocabulary)
    scores = np.zeros(data.values.shape[:2])
    for part, rows in _parts_of(data):
        try:
            filtered = filter_data(model, part, on_impossible)
        except ImpossibleTokenError as error:  # names the sequence in the whole data set
            raise ImpossibleTokenError(rows.start + error.sequence, error.position, error.token, error.noun) from None
        skipped = part.mask & (on_host(filtered.tokens).T < 0)
        scores[rows] = np.where(skipped, -np.inf, on_host(filtered.log_likelihoods))
    return TokenScores(scores, data.mask)


def _parts_of(data: Sequences, size: int = 256):
    """`(sequences, their rows)`, at most `size` sequences of a device at a time."""
    size *= len(data.devices or [None])
    part = lambda rows: dataclasses.replace(data, values=data.values[rows], lengths=data.lengths[rows], names=None)
    return ((part(rows), rows) for rows in chunks(data.number, size))
