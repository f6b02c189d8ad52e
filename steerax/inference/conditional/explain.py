"""Which past tokens a prediction comes from: the control weights of the dual filter, with the kernels of the tokens."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models.conditional import AbstractConditionalHMM
from ..explained import explained, target_of, unless_identity
from ..generalised.kernels.controls import all_controls_along, controls_along
from ..results import Explanation
from ..tokens import Tokens, batch_first
from .dual import operators_of
from .filter import along, filter_tokens
from .kernels.layers import gains
from .kernels.scaled import gains_scaled


def explain_tokens(
    model: AbstractConditionalHMM,
    data: Tokens,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past token (dual filter, path by path),

    $$\pi_T(F)=\mu(y_0)+\sum_{s<T}w_{T,s},\qquad y_T=F,\quad w_{T,s}=k_s^\top y_{s+1},\quad
    y_s=A_sy_{s+1}-(2T_s\mathbf 1-\mathbf 1)\,w_{T,s},$$

    with $A_s=\sum_z\mathrm{diag}(C_s(\cdot,z))K_s^z$, $T_s$ its term of the token that was seen, and the gain $k_s$ of
    `kernels/layers.py` at the true filter. A token acts in two ways: it is evidence of the state, which is its term, and it chooses
    the kernels, along which the terms of all tokens travel: `lag_weights` of `filter` shows that. A missing token has weight zero.

    **Arguments:** `queries`, `target` and `dtype` as for a hidden Markov model; `"next"` is the emission of the query's own time.

    The terms can be far larger than what they add up to; `result` is `breakdown` where rounding in them shows in the sum.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    filtered = filter_tokens(model, data, on_impossible)
    adapted = isinstance(target, str) and target == "next" and model.emission_reads_tokens
    following = jnp.asarray(model.initial[:, None] if model.emission_reads_tokens else model.emission)
    F = target_of("state" if adapted else target, model.n_states, following)
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    seen, other, either = operators_of(filtered)
    k = filtered.either(lambda: gains(filtered.states, seen, other), lambda states: gains_scaled(states, seen, other))
    costs = 2 * seen.sum(-1) - 1
    explain_one = lambda given, z, times: _explain_one(model.initial, given, F, times, F.dtype if adapted else dtype)
    found = explained(filtered, data, queries, F, (k, either, costs), explain_one)
    if not adapted:
        return found
    return _at_emissions(found, batch_first(along(model.emissions, jnp.asarray(filtered.read)), 3), dtype)


def _explain_one(mu: Float[Array, " d"], given: tuple, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights, norms)` at the given times of one sequence."""
    k, A, costs = given
    if len(times) * F.shape[1] > len(k):  # see `generalised/explain.py`
        parts = all_controls_along(k, mu, A, costs, unless_identity(F), dtype)
        prior, weights, norms = parts if len(times) == len(k) + 1 else (part[times] for part in parts)
        return prior, weights, norms
    prior, weights = controls_along(k, mu, A, costs, F, jnp.asarray(times))
    weights = weights.astype(dtype)
    return prior, weights, jnp.abs(weights).sum(-1)


def _at_emissions(found: Explanation, C: Float[Array, "*batch T1 d V"], dtype) -> Explanation:
    """An explanation of the state as one of the next token, whose emission is another at each query."""
    weights: Any = found.weights
    at = jnp.take_along_axis(C, jnp.asarray(found.queries)[..., None, None], -3)
    prior = jnp.einsum("...qd,...qdv->...qv", found.prior, at)
    weights = jnp.einsum("...qtd,...qdv->...qtv", weights, at).astype(dtype)
    return Explanation(found.queries, prior, weights, jnp.abs(weights).sum(-1), result=found.result)
