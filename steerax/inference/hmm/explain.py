"""Which past tokens a prediction comes from: by integrated evidence, control weights, news, deletion or Shapley values."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._results import RESULTS
from ...models.hmm import HiddenMarkovModel
from ..explained import Method, Room, explained, target_of, unless_identity
from ..explanation import Explanation
from ..tokens import Tokens, check_hidden
from .filter import FilteredTokens, filter_tokens
from .kernels.controls import all_controls, control_norms, controls_of
from .kernels.layers import gains
from .kernels.likelihoods import emission_table, row_numbers
from .kernels.scaled import gains_scaled
from .kernels.soft import soft_chain


def explain_tokens(
    hmm: HiddenMarkovModel,
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
    r"""The prediction at each query as a prior term plus one term per past token, $\pi_T(F)=\text{prior}+\sum_{s<T}w_{T,s}$.

    With $v(S)$ the prediction from the tokens in $S$ alone, the others missing, the prior is $v(\varnothing)=\mu A^TF$ (but for
    `control`) and the term of token $s$ is, by `method`,

    - `"integrated"`: how $v$ grows with the evidence of $s$ while that of all tokens grows from none to whole together
      (`inference/attribution.py`). Nearest to Shapley values, and adds up to rounding. From 48 filters and as many backward passes.
    - `"control"`: the control weights of the dual filter, path by path,

      $$\pi_T(F)=\mu(y_0)+\sum_{s<T}w_{T,s},\qquad y_T=F,\quad w_{T,s}=k_s^\top Ay_{s+1},\quad y_s=Ay_{s+1}-(2C_{z_s}-1)\,w_{T,s},$$

      with the gain $k_s$ of `kernels/layers.py` at the true filter; the paper writes $u=-w$. These path weights use the whole
      string up to the query; they are not the adapted weights of `represent`. One backward pass. The terms can be far larger than
      what they add up to; `result` is `breakdown` where rounding in them shows in the sum.
    - `"news"`: $(\pi_{s+1}-\pi_sA)A^{T-s-1}F$, what the prediction changed by when $s$ arrived, whatever came later. Adds up.
    - `"deletion"`: $v(\text{all})-v(\text{all but }s)$. One backward pass. Does *not* add up: two tokens that say the same have no
      term each, and `remainder` holds what is left of the prediction.
    - `"shapley"`: the mean over all orders of arrival of what $s$ adds. Exact up to 12 tokens ($2^n$ filters), beyond that from random
      `orders` (256; an even number, four at least; others for each of several sequences) with standard errors in `errors`; adds up
      either way. $n+1$ filters an order.

    A missing token has weight zero. All queries cost $T+1$ times one; of control weights $O(d^2T^2+dkT^2)$.

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several of them, or `"all"` for the `T+1`
      distributions $\pi_0\dots\pi_T$. For a `Sequences`, −1 (each at its own end) or `"all"`.
    - `target`: `"next"` ($F=C$, `k = V`), `"state"` ($F=I$, `k = d`), or `[d k]`.
    - `contrast`: two tokens `(a, b)`, symbols or codes, whose difference of probabilities is explained, $F=C_a-C_b$: why the one
      and not the other.
    - `orders`, `key`: of sampled Shapley values.
    - `dtype`: of the returned weights and norms, for instance `jnp.float32` to halve their memory.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target or contrast that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    asked = Method.of(method, orders, key, dtype)
    aim = target_of(hmm, target, contrast, hmm.emission)
    filtered = filter_tokens(hmm, data, on_impossible)
    mu, A, C = hmm.arrays
    room = Room(
        gains=lambda: _gains(filtered),
        control=lambda k, z, times: _control(hmm, k, z, aim.F, times, asked.dtype or aim.F.dtype),
        path=lambda z, log_q, scaled: soft_chain(mu, A, emission_table(C)[row_numbers(z)], log_q, scaled),
    )
    return explained(filtered, data, queries, aim, asked, room)


def explain_norms(
    hmm: Any, tokens: Array | np.ndarray, target: str | Any = "state", *, on_impossible: str = "raise"
) -> Explanation:
    """Control weights of one sequence for all queries, with `norms` only: `[T+1 T k]` numbers are never held."""
    check_hidden("explain_norms", hmm)
    F = target_of(hmm, target, None, hmm.emission).F
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


def _control(hmm: HiddenMarkovModel, k, z, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights)` at the given times of one sequence."""
    T = len(z)
    # Backward passes share their matrix products among queries, but each costs the whole past and all columns; forward
    # gains carry one row per past token and give every query and column.
    if len(times) * F.shape[1] > T:
        prior, weights, _ = all_controls(k, *hmm.arrays, z, unless_identity(F), dtype)
        return (prior, weights) if len(times) == T + 1 else (prior[times], weights[times])
    return controls_of(k, *hmm.arrays, z, F, jnp.asarray(times))
