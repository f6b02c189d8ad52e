"""Explanations of one sequence or several, from the control weights of a room for tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._errors import ConfigurationError, DataError
from .._results import RESULTS
from ..data.sequences import Sequences
from .results import Explanation, query_times
from .tokens import AbstractFilteredTokens, Tokens, check_choice

_Explain = Callable[[Any, Any, np.ndarray], tuple[Array, Array, Array]]  # gains, tokens, times -> prior, weights, norms


def explained(
    filtered: AbstractFilteredTokens,
    data: Tokens,
    queries: Any,
    F: Float[Array, "d k"],
    gains: Any,
    explain_one: _Explain,
) -> Explanation:
    """What `explain_tokens` returns, from the gains `[T … d]` of every step (or a tree of arrays, time first) and a function that
    explains one sequence.

    **Raises:** `ConfigurationError` for a query that does not fit.
    """
    z = jnp.asarray(filtered.tokens)
    T = z.shape[0]
    if not isinstance(data, Sequences):
        times = query_times(queries, T)
        prior, weights, norms = explain_one(gains, z, times)
        return Explanation(times, prior, weights, norms, result=_balance(prior, weights, filtered.states[times], F))
    if isinstance(queries, str) and queries == "all":
        times = np.tile(np.arange(T + 1), (data.number, 1))
    elif np.ndim(queries) == 0 and not isinstance(queries, str) and int(queries) == -1:
        times = np.asarray(data.lengths)[:, None]
    else:
        raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')
    one = lambda i: explain_one(jax.tree.map(lambda g: g[:, i], gains), z[:, i], times[i])
    parts = [one(i) for i in range(data.number)]
    prior, weights, norms = (jnp.stack(part) for part in zip(*parts, strict=True))
    states = filtered.predicted[np.arange(data.number)[:, None], times]
    return Explanation(times, prior, weights, norms, result=_balance(prior, weights, states, F))


@jax.jit
def _balance(
    prior: Float[Array, "*n q k"],
    weights: Float[Array, "*n q T k"],
    states: Float[Array, "*n q d"],
    F: Float[Array, "d k"],
) -> RESULTS:
    """Whether the terms add up to the prediction. They are unbounded: on a chain that nearly cannot return, a run of tokens
    that it hardly emits makes terms so large that their sum says nothing."""
    exact = states @ F
    room = jnp.sqrt(jnp.finfo(weights.dtype).eps) * jnp.maximum(jnp.abs(exact).max(initial=0), 1)
    wrong = jnp.abs(prior + weights.sum(-2) - exact).max(initial=0) > room
    return RESULTS.where(wrong, RESULTS.breakdown, RESULTS.successful)


def target_of(target: str | Any, d: int, following: Float[Array, "d V"]) -> Float[Array, "d k"]:
    """The functions of a belief that are explained: `"next"` (`following`), `"state"` (all coordinates), or an array.

    **Raises:** `DataError` for an array of another shape; `ConfigurationError` for an unknown name.
    """
    if isinstance(target, str):
        check_choice("target", target, ("next", "state"))
        return following if target == "next" else jnp.eye(d, dtype=following.dtype)
    F = jnp.asarray(target, following.dtype)
    if F.ndim != 2 or F.shape[0] != d:
        raise DataError(f"The target has shape {F.shape}; functions of {d} states are [{d} k].")
    return F


def unless_identity(F: Float[Array, "d k"]) -> Float[Array, "d k"] | None:
    """`None` for the identity, by which nothing needs to be multiplied."""
    return None if F.shape[0] == F.shape[1] and np.array_equal(F, np.eye(len(F))) else F
