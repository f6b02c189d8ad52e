"""Which past tokens a prediction comes from: the control weights of the dual filter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ..results import Explanation, query_times
from .filter import FilteredTokens, Tokens, check_choice, filter_tokens
from .kernels.controls import all_controls, control_norms, controls_of
from .kernels.layers import gains
from .kernels.scaled import gains_scaled


def explain_tokens(
    hmm: HiddenMarkovModel,
    data: Tokens,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past token (dual filter, path by path),

    $$\pi_T(F)=\mu(y_0)+\sum_{s<T}w_{T,s},\qquad
    y_T=F,\quad w_{T,s}=k_s^\top Ay_{s+1},\quad y_s=Ay_{s+1}-(2C_{z_s}-1)\,w_{T,s},$$

    with the gain $k_s$ of `kernels/layers.py` at the true filter; the paper writes $u=-w$. These path weights use the
    whole string up to the query; they are not the adapted weights of `represent`. A missing token has weight zero.
    All queries cost $O(d^2T^2+dkT^2)$; a single one $O(d^2kT)$.

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several of them, or `"all"` for the `T+1`
      distributions $\pi_0\dots\pi_T$. For a `Sequences`, −1 (each at its own end) or `"all"`.
    - `target`: `"next"` ($F=C$, `k = V`), `"state"` ($F=I$, `k = d`), or `[d k]`.
    - `dtype`: of the returned weights and norms, for instance `jnp.float32` to halve their memory.

    The terms can be far larger than what they add up to; `result` is `breakdown` where rounding in them shows in the sum.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    F = _target(hmm, target)
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    filtered = filter_tokens(hmm, data, on_impossible)
    z, k = jnp.asarray(filtered.tokens), _gains(filtered)
    T = z.shape[0]
    if not isinstance(data, Sequences):
        times = query_times(queries, T)
        prior, weights, norms = _explain_one(hmm, k, z, F, times, dtype)
        return Explanation(times, prior, weights, norms, result=_balance(prior, weights, filtered.states[times], F))
    if isinstance(queries, str) and queries == "all":
        times = np.tile(np.arange(T + 1), (data.number, 1))
    elif np.ndim(queries) == 0 and not isinstance(queries, str) and int(queries) == -1:
        times = np.asarray(data.lengths)[:, None]
    else:
        raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')
    parts = [_explain_one(hmm, k[:, i], z[:, i], F, times[i], dtype) for i in range(data.number)]
    prior, weights, norms = (jnp.stack(part) for part in zip(*parts, strict=True))
    states = filtered.predicted[np.arange(data.number)[:, None], times]
    return Explanation(times, prior, weights, norms, result=_balance(prior, weights, states, F))


def explain_norms(
    hmm: HiddenMarkovModel, tokens: Array | np.ndarray, target: str | Any = "state", *, on_impossible: str = "raise"
) -> Explanation:
    """`explain_tokens` of one sequence for all queries, with `norms` only: `[T+1 T k]` numbers are never held."""
    F = _target(hmm, target)
    filtered = filter_tokens(hmm, tokens, on_impossible)
    z = jnp.asarray(filtered.tokens)
    prior, norms = control_norms(_gains(filtered), *hmm.arrays, z, _unless_identity(F))
    large = norms.max(initial=0) > 1 / jnp.sqrt(jnp.finfo(norms.dtype).eps)  # rounding in such terms shows in any sum
    result = RESULTS.where(large, RESULTS.breakdown, RESULTS.successful)
    return Explanation(np.arange(len(z) + 1), prior, None, norms, result=result)


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


def _gains(filtered: FilteredTokens) -> Float[Array, "T *batch d"]:
    """The gains $k_t$ at the states of the filter."""
    C, z = filtered.model.emission, jnp.asarray(filtered.tokens)
    return filtered.either(lambda: gains(filtered.states, C, z), lambda states: gains_scaled(states, C, z))


def _explain_one(hmm: HiddenMarkovModel, k, z, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights, norms)` at the given times of one sequence."""
    T = len(z)
    # Backward passes share their matrix products among queries, but each costs the whole past and all columns; forward
    # gains carry one row per past token and give every query and column.
    if len(times) * F.shape[1] > T:
        parts = all_controls(k, *hmm.arrays, z, _unless_identity(F), dtype)
        return parts if len(times) == T + 1 else tuple(part[times] for part in parts)
    prior, weights = controls_of(k, *hmm.arrays, z, F, jnp.asarray(times))
    weights = weights.astype(dtype)
    return prior, weights, jnp.abs(weights).sum(-1)


def _unless_identity(F: Float[Array, "d k"]) -> Float[Array, "d k"] | None:
    return None if F.shape[0] == F.shape[1] and np.array_equal(F, np.eye(len(F))) else F


def _target(hmm: HiddenMarkovModel, target: str | Any) -> Float[Array, "d k"]:
    if isinstance(target, str):
        check_choice("target", target, ("next", "state"))
        return hmm.emission if target == "next" else jnp.eye(hmm.n_states, dtype=hmm.emission.dtype)
    F = jnp.asarray(target, hmm.emission.dtype)
    if F.ndim != 2 or F.shape[0] != hmm.n_states:
        raise DataError(f"The target has shape {F.shape}; functions of {hmm.n_states} states are [{hmm.n_states} k].")
    return F
