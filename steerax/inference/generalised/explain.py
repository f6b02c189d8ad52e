"""Which past tokens a prediction comes from: by integrated evidence, control weights, news, deletion or Shapley values."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models.generalised import GeneralisedHMM, token_columns
from ..explained import Method, Room, explained, target_of, unless_identity
from ..explanation import Explanation
from ..tokens import Tokens
from .filter import FilteredTokens, filter_tokens
from .kernels.controls import all_controls, controls_of
from .kernels.layers import gains
from .kernels.scaled import gains_scaled
from .kernels.soft import soft_operators


def explain_tokens(
    model: GeneralisedHMM,
    data: Tokens,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    method: str = "integrated",
    contrast: tuple[Any, Any] | Any = None,
    orders: int | None = None,
    key: Any = 0,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past token, $\pi_TF=\text{prior}+\sum_{s<T}w_{T,s}$.

    The methods and options are those of `explain_tokens` of the room `hmm`, with $A=\sum_zT^z$ for a missing token; the prior is
    $p_0A^TF$ but for `"control"`, whose terms are (dual filter, path by path)

    $$\pi_TF=p_0y_0+\sum_{s<T}w_{T,s},\qquad y_T=F,\quad w_{T,s}=k_sy_{s+1},\quad y_s=Ay_{s+1}-(2T^{z_s}w-w)\,w_{T,s},$$

    with the gain $k_s$ of `kernels/layers.py` at the true filter. The terms of `"next"` do not depend on the basis of the beliefs,
    by any method. A missing token has weight zero.

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several of them, or `"all"` for the `T+1`
      beliefs $\pi_0\dots\pi_T$. For a `Sequences`, −1 (each at its own end) or `"all"`.
    - `target`: `"next"` ($F=[T^zw]_z$, `k = V`), `"state"` ($F=I$, `k = d`, the coordinates of the belief), or `[d k]`.
    - `contrast`: two tokens `(a, b)`, symbols or codes: $F=T^aw-T^bw$.
    - `orders`, `key`: of sampled Shapley values.
    - `dtype`: of the returned weights and norms, for instance `jnp.float32` to halve their memory.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target or contrast that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    asked = Method.of(method, orders, key, dtype)
    aim = target_of(model, target, contrast, token_columns(model))
    filtered = filter_tokens(model, data, on_impossible)
    room = Room(
        gains=lambda: _gains(filtered),
        control=lambda k, z, times: _control(model, k, z, aim.F, times, asked.dtype or aim.F.dtype),
        path=lambda z, log_q, scaled: soft_operators(*model.arrays, z, log_q, scaled),
    )
    return explained(filtered, data, queries, aim, asked, room)


def _gains(filtered: FilteredTokens) -> Float[Array, "T *batch d"]:
    """The gains $k_t$ at the states of the filter."""
    (_, T, w), z = filtered.model.arrays, jnp.asarray(filtered.tokens)
    return filtered.either(lambda: gains(filtered.states, T, w, z), lambda states: gains_scaled(states, T, w, z))


def _control(model: GeneralisedHMM, k, z, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights)` at the given times of one sequence."""
    T = len(z)
    # A backward pass costs the whole past and all columns; forward rows give every query and column, one row per past token.
    if len(times) * F.shape[1] > T:
        prior, weights, _ = all_controls(k, *model.arrays, z, unless_identity(F), dtype)
        return (prior, weights) if len(times) == T + 1 else (prior[times], weights[times])
    return controls_of(k, *model.arrays, z, F, jnp.asarray(times))
