"""Which past tokens a prediction comes from: the control weights of the dual filter of operators."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models.generalised import GeneralisedHMM, token_columns
from ..explained import explained, target_of, unless_identity
from ..results import Explanation
from ..tokens import Tokens
from .filter import FilteredTokens, filter_tokens
from .kernels.controls import all_controls, controls_of
from .kernels.layers import gains
from .kernels.scaled import gains_scaled


def explain_tokens(
    model: GeneralisedHMM,
    data: Tokens,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past token (dual filter, path by path),

    $$\pi_TF=p_0y_0+\sum_{s<T}w_{T,s},\qquad y_T=F,\quad w_{T,s}=k_sy_{s+1},\quad y_s=Ay_{s+1}-(2T^{z_s}w-w)\,w_{T,s},$$

    with the gain $k_s$ of `kernels/layers.py` at the true filter. The terms of `"next"` do not depend on the basis of the beliefs.
    A missing token has weight zero. All queries cost $O(d^2T^2+dkT^2)$; a single one $O(d^2kT)$.

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several of them, or `"all"` for the `T+1`
      beliefs $\pi_0\dots\pi_T$. For a `Sequences`, −1 (each at its own end) or `"all"`.
    - `target`: `"next"` ($F=[T^zw]_z$, `k = V`), `"state"` ($F=I$, `k = d`, the coordinates of the belief), or `[d k]`.
    - `dtype`: of the returned weights and norms, for instance `jnp.float32` to halve their memory.

    The terms can be far larger than what they add up to; `result` is `breakdown` where rounding in them shows in the sum.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    F = target_of(target, model.n_states, token_columns(model))
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    filtered = filter_tokens(model, data, on_impossible)
    explain_one = lambda k, z, times: _explain_one(model, k, z, F, times, dtype)
    return explained(filtered, data, queries, F, _gains(filtered), explain_one)


def _gains(filtered: FilteredTokens) -> Float[Array, "T *batch d"]:
    """The gains $k_t$ at the states of the filter."""
    (_, T, w), z = filtered.model.arrays, jnp.asarray(filtered.tokens)
    return filtered.either(lambda: gains(filtered.states, T, w, z), lambda states: gains_scaled(states, T, w, z))


def _explain_one(model: GeneralisedHMM, k, z, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights, norms)` at the given times of one sequence."""
    T = len(z)
    # A backward pass costs the whole past and all columns; forward rows give every query and column, one row per past token.
    if len(times) * F.shape[1] > T:
        parts = all_controls(k, *model.arrays, z, unless_identity(F), dtype)
        return parts if len(times) == T + 1 else tuple(part[times] for part in parts)
    prior, weights = controls_of(k, *model.arrays, z, F, jnp.asarray(times))
    weights = weights.astype(dtype)
    return prior, weights, jnp.abs(weights).sum(-1)
