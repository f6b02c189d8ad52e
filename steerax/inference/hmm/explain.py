"""Which past tokens a prediction comes from: the control weights of the dual filter."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._results import RESULTS
from ...models.hmm import HiddenMarkovModel
from ..explained import explained, target_of, unless_identity
from ..results import Explanation
from ..tokens import Tokens, check_hidden
from .filter import FilteredTokens, filter_tokens
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
    F = target_of(target, hmm.n_states, hmm.emission)
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    filtered = filter_tokens(hmm, data, on_impossible)
    explain_one = lambda k, z, times: _explain_one(hmm, k, z, F, times, dtype)
    return explained(filtered, data, queries, F, _gains(filtered), explain_one)


def explain_norms(
    hmm: Any, tokens: Array | np.ndarray, target: str | Any = "state", *, on_impossible: str = "raise"
) -> Explanation:
    """`explain_tokens` of one sequence for all queries, with `norms` only: `[T+1 T k]` numbers are never held."""
    check_hidden("explain_norms", hmm)
    F = target_of(target, hmm.n_states, hmm.emission)
    filtered = filter_tokens(hmm, tokens, on_impossible)
    z = jnp.asarray(filtered.tokens)
    prior, norms = control_norms(_gains(filtered), *hmm.arrays, z, unless_identity(F))
    large = norms.max(initial=0) > 1 / jnp.sqrt(jnp.finfo(norms.dtype).eps)  # rounding in such terms shows in any sum
    result = RESULTS.where(large, RESULTS.breakdown, RESULTS.successful)
    return Explanation(np.arange(len(z) + 1), prior, None, norms, result=result)


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
        parts = all_controls(k, *hmm.arrays, z, unless_identity(F), dtype)
        return parts if len(times) == T + 1 else tuple(part[times] for part in parts)
    prior, weights = controls_of(k, *hmm.arrays, z, F, jnp.asarray(times))
    weights = weights.astype(dtype)
    return prior, weights, jnp.abs(weights).sum(-1)
