"""Explanations of one sequence or several of a room for tokens: which method, of what, and whether the terms add up."""

import contextlib
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._errors import ConfigurationError, DataError
from .._results import RESULTS, first_failure, is_traced, successful_if
from ..data.sequences import Sequences
from ..data.vocabulary import Vocabulary
from ..maths.keys import as_key
from ..maths.precision import in_one_precision
from .attribution import AbstractSoftPath, Asked, deleted, ends, integrated, news, values
from .explanation import Explanation
from .results import query_times
from .shapley import ORDERS_GIVEN, shapley
from .tokens import AbstractFilteredTokens, Tokens, check_choice

METHODS = ("integrated", "control", "news", "deletion", "shapley")

_Control = Callable[[Any, Any, np.ndarray], tuple[Array, Array]]  # gains, tokens, times -> prior, weights
_Path = Callable[[Any, Any, Any], AbstractSoftPath]  # tokens, their log q, whether numbers are scaled -> the path


class Target(NamedTuple):
    """The functions of a belief that are explained, and their names."""

    F: Float[Array, "d k"]
    columns: tuple[str, ...]


class Method(NamedTuple):
    """How a prediction is attributed; `orders` and `key` are of sampled Shapley values, `dtype` of what is returned."""

    name: str
    orders: int | None
    key: Any
    dtype: Any

    @classmethod
    def of(cls, name: str, orders: int | None = None, key: Any = 0, dtype: Any = None) -> "Method":
        """**Raises:** `ConfigurationError` for an unknown method, or a number of orders that does not belong to it."""
        check_choice("method", name, METHODS)
        if orders is not None:
            ORDERS_GIVEN.check("orders", orders)
            if name != "shapley":
                raise ConfigurationError(f"orders={orders} is of method='shapley', not of {name!r}.")
        return cls(name, orders, key, None if dtype is None else real_type(dtype))

    def of_sequence(self, i: int) -> "Method":
        """The method for one of several sequences, which draws orders of its own."""
        return self._replace(key=jax.random.fold_in(as_key(self.key), i)) if self.name == "shapley" else self


class Room(NamedTuple):
    """What a room for tokens knows: control `gains` `[T *batch d]` when asked, control weights, and the path of one sequence, of which
    `control` alone has no need."""

    gains: Callable[[], Array]
    control: _Control
    path: _Path | Any = None


class Terms(NamedTuple):
    """The terms of one sequence."""

    prior: Float[Array, "q k"]
    weights: Float[Array, "q T k"]
    errors: Float[Array, "q T k"] | None = None
    exact: Any = True


def explained(
    filtered: AbstractFilteredTokens, data: Tokens, queries: Any, target: Target, method: Method, room: Room
) -> Explanation:
    """What `explain_tokens` returns. **Raises:** `ConfigurationError` for a query that does not fit."""
    several = isinstance(data, Sequences)
    times = times_of(queries, len(filtered.tokens), data)
    here = jnp if is_traced(filtered.tokens, filtered.log_q) else np
    z, log_q = here.asarray(filtered.tokens), here.asarray(filtered.log_q)
    log_q = here.where(here.isfinite(log_q), log_q, 0)
    gains = room.gains() if method.name == "control" else None

    def one(part: Any, times: np.ndarray, method: Method) -> Terms:
        tokens, states = jnp.asarray(z[part]), filtered.states if part == slice(None) else filtered.states[part]
        if gains is not None:
            return Terms(*room.control(gains[part], tokens, times))
        n = len(tokens) if several else _enough(len(tokens), times)
        asked = Asked(times, target.F, z[part][:n] >= 0)
        path = lambda scaled: room.path(tokens[:n], jnp.asarray(log_q[part][:n]), scaled)
        attributed = lambda scaled: _attributed(path(scaled), asked, states[: n + 1], method, scaled)
        terms = filtered.either(lambda: attributed(False), lambda _: attributed(True))
        later = lambda x: x if x is None or n == len(tokens) else jnp.pad(x, ((0, 0), (0, len(tokens) - n), (0, 0)))
        return terms._replace(weights=later(terms.weights), errors=later(terms.errors))

    if not several:
        terms, states = one(slice(None), times, method), filtered.states[times]
    else:
        parts = [one((slice(None), i), times[i], method.of_sequence(i)) for i in range(data.number)]
        terms = jax.tree.map(
            lambda *each: jnp.stack(each), *(part._replace(exact=jnp.asarray(part.exact)) for part in parts)
        )
        states = filtered.predicted[np.arange(data.number)[:, None], times]
    weights = terms.weights if method.dtype is None else terms.weights.astype(method.dtype)
    norms, remainder, adds = _balance(terms.prior, weights, states, target.F, method.name)
    exact = terms.exact.all() if several else terms.exact
    return Explanation(
        times, terms.prior, weights, norms, errors=terms.errors, remainder=remainder, method=method.name,
        result=first_failure([successful_if(exact, RESULTS.max_steps_reached), successful_if(adds, RESULTS.breakdown)]),
        columns=target.columns,
        observations=z.T, vocabulary=filtered.model.vocabulary,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames="method")
def _balance(
    prior: Float[Array, "*n q k"], weights: Float[Array, "*n q T k"], states: Float[Array, "*n q d"], F, method: str
) -> tuple[Array, Array, Array]:
    """`(norms, remainder, whether the terms add up to the prediction)`; of `deletion` whether they are finite.

    The terms of `control` are unbounded: on a chain that nearly cannot return, a run of tokens that it hardly emits makes terms so
    large that their sum says nothing.
    """
    exact = states @ F
    remainder = exact - prior - weights.sum(-2)
    room = jnp.sqrt(jnp.finfo(weights.dtype).eps) * jnp.maximum(jnp.abs(exact).max(initial=0), 1)
    room = jnp.inf if method == "deletion" else room
    adds = jnp.isfinite(weights).all() & (jnp.abs(remainder).max(initial=0) <= room)
    return jnp.abs(weights).sum(-1), remainder, adds


def _enough(T: int, times: np.ndarray) -> int:
    """How many tokens, all of them or a power of two, reach to the last query: few lengths are compiled."""
    return min(T, 1 << (int(max(times, default=1)) - 1).bit_length())


def times_of(queries: Any, T: int, data: Any) -> np.ndarray:
    """Times of the queries, `[q]`, or for a `Sequences` `[B q]`. **Raises:** `ConfigurationError` for what does not fit."""
    if not isinstance(data, Sequences):
        return query_times(queries, T)
    if isinstance(queries, str) and queries == "all":
        return np.tile(np.arange(T + 1), (data.number, 1))
    with contextlib.suppress(TypeError):  # of what is no whole number
        number: Any = queries
        if operator.index(number) == -1:
            return np.asarray(data.lengths)[:, None]
    raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')


def _attributed(path: AbstractSoftPath, asked: Asked, states, method: Method, scaled: bool) -> Terms:
    """The terms by a method other than `control`."""
    T = len(asked.observed)
    prior, total = ends(path, asked, states)
    from_subsets = Partial(values, path, asked)
    match method.name:
        case "news":
            return Terms(prior, news(path, asked, states))
        case "deletion" if scaled:  # a slope at (1, 0) has no exponent to start from
            without = from_subsets(~jnp.eye(T, dtype=bool))
            gains = jnp.moveaxis((prior + total)[None] - without, 0, 1)
            return Terms(prior, jnp.where(asked.known[..., None], gains, 0))
        case "deletion":
            return Terms(prior, deleted(path, asked))
        case "integrated":
            weights, exact = integrated(path, asked, total, is_traced(path, asked))
            return Terms(prior, weights, exact=exact)
    players = np.arange(T) if is_traced(asked.observed) else np.flatnonzero(asked.observed)
    players = players[players < max(asked.times, default=0)]
    return Terms(prior, *shapley(from_subsets, players, T, method.orders, method.key))


def target_of(model: Any, target: str | Any, contrast: Any, following: Float[Array, "d V"]) -> Target:
    """The functions of a belief that are explained: `"next"` (`following`), `"state"` (all coordinates), an array, or the difference of
    the probabilities of two next tokens.

    **Raises:** `DataError` for an array of another shape or an unknown token; `ConfigurationError` for an unknown name.
    """
    symbols = (model.vocabulary or Vocabulary.of_codes(model.n_tokens)).symbols
    if contrast is not None:
        a, b = pair_of(contrast, target, symbols, model.n_tokens, "tokens")
        return Target((following[:, a] - following[:, b])[:, None], (f"{symbols[a]} − {symbols[b]}",))
    return target_of_states(target, following, symbols)


def target_of_states(target: str | Any, following: Float[Array, "d k"], names: tuple[str, ...]) -> Target:
    """`"next"` (`following`, whose columns have `names`), `"state"`, or an array. **Raises:** as `target_of`."""
    d, dtype = following.shape[0], following.dtype
    if isinstance(target, str):
        check_choice("target", target, ("next", "state"))
        if target == "next":
            return Target(following, names)
        return Target(jnp.eye(d, dtype=dtype), tuple(f"state {i}" for i in range(d)))
    F = functions_of(target, d).astype(dtype)
    return Target(F, tuple(f"column {j}" for j in range(F.shape[1])))


def functions_of(target: Any, d: int) -> Float[Array, "d k"]:
    """An array of functions of a belief or a state. **Raises:** `DataError` unless it has `d` rows of finite real numbers."""
    (F,) = in_one_precision(target, names=["target"])
    if F.ndim != 2 or F.shape[0] != d or F.shape[1] == 0:
        raise DataError(f"The target has shape {F.shape}; functions of {d} states are [{d} k].")
    if not is_traced(F) and not np.isfinite(np.asarray(F)).all():
        raise DataError("The target holds an entry that is not finite.")
    return F


def pair_of(contrast: Any, target: Any, names: Any, number: int, said: str) -> tuple[int, int]:
    """The numbers of two tokens or channels given by name or number. **Raises:** `ConfigurationError` or `DataError`."""
    if not isinstance(target, str) or target != "next":
        raise ConfigurationError(f'contrast compares two {said} that could come next; leave target="next".')
    contrast = contrast.tolist() if isinstance(contrast, np.ndarray) else contrast
    if not isinstance(contrast, list | tuple) or len(contrast) != 2:
        raise ConfigurationError(f'contrast={contrast!r} needs to be a pair of {said}, ("a", "b") for instance.')
    found = []
    for each in contrast:
        whole = isinstance(each, (int, np.integer)) and not isinstance(each, bool)
        if whole and 0 <= int(each) < number:
            found.append(int(each))
        elif isinstance(each, str) and each in names:
            found.append(list(names).index(each))
        else:
            shown = ", ".join(map(repr, list(names)[:8])) + (", …" if len(names) > 8 else "")
            raise DataError(f"contrast names {each!r}, which is none of the {said} {shown}.")
    return found[0], found[1]


def real_type(dtype: Any) -> np.dtype:
    """A type of real numbers that JAX computes in. **Raises:** `ConfigurationError` for another one."""
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating) or jax.dtypes.canonicalize_dtype(found) != found:
        raise ConfigurationError(
            f"dtype={dtype!r} is no type of real numbers here; use jnp.float32, or jnp.float64 where jax_enable_x64 is on."
        )
    return found


def unless_identity(F: Float[Array, "d k"]) -> Float[Array, "d k"] | None:
    """`None` for the identity, by which nothing needs to be multiplied."""
    return None if F.shape[0] == F.shape[1] and np.array_equal(F, np.eye(len(F))) else F
