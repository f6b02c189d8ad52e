"""Which past tokens a prediction comes from: the control weights of the dual filter, with the kernels of the tokens."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError
from ...models.conditional import AbstractConditionalHMM
from ..explained import Method, Room, explained, target_of, unless_identity
from ..explanation import Explanation
from ..generalised.kernels.controls import all_controls_along, controls_along
from ..tokens import Tokens, batch_first
from .dual import unseen_of
from .filter import FilteredTokens, along, filter_tokens
from .kernels.layers import gains
from .kernels.scaled import gains_scaled


def explain_tokens(
    model: AbstractConditionalHMM,
    data: Tokens,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    method: str = "control",
    contrast: tuple[Any, Any] | Any = None,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past token (dual filter, path by path),

    $$\pi_T(F)=\mu(y_0)+\sum_{s<T}w_{T,s},\qquad y_T=F,\quad w_{T,s}=k_s^\top y_{s+1},\quad
    y_s=A_sy_{s+1}-(2T_s\mathbf 1-\mathbf 1)\,w_{T,s},$$

    with $A_s=\sum_z\mathrm{diag}(C_s(\cdot,z))K_s^z$, $T_s$ its term of the token that was seen, and the gain $k_s$ of
    `kernels/layers.py` at the true filter. A token acts in two ways: it is evidence of the state, which is its term, and it chooses
    the kernels, along which the terms of all tokens travel: `lag_weights` of `filter` shows that. A missing token has weight zero.

    **Arguments:** `queries`, `target`, `contrast` and `dtype` as for a hidden Markov model; `"next"` is the emission of the query's own
    time. `method`, `"control"` only: the others take a token away or weaken it, which changes the kernels of all later steps too.

    The terms can be far larger than what they add up to; `result` is `breakdown` where rounding in them shows in the sum.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target that does not fit;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    if method != "control":
        raise ConfigurationError(f"A conditionally Markov model is explained by method='control', not by {method!r}.")
    filtered = filter_tokens(model, data, on_impossible)
    dtype = None if dtype is None else jnp.dtype(dtype)
    control = lambda packed, z, times: _control(model.initial, packed, aim.F, times)
    room, inner = Room(lambda: _packed(filtered), control), dtype
    if adapted := isinstance(target, str) and target == "next" and model.emission_reads_tokens:
        said = target_of(model, target, contrast, jnp.eye(model.n_tokens, dtype=model.initial.dtype))  # of tokens
        aim, inner = target_of(model, "state", None, jnp.zeros((model.n_states, 0), model.initial.dtype)), None
    else:
        nothing = jnp.zeros((model.n_states, model.n_tokens), model.initial.dtype)
        aim = target_of(
            model, target, contrast, nothing if model.emission_reads_tokens else jnp.asarray(model.emission)
        )
    found = explained(filtered, data, queries, aim, Method.of(method, dtype=inner), room)
    if not adapted:
        return found
    C = batch_first(along(model.emissions, jnp.asarray(filtered.read)), 3)
    return _at_emissions(found, C @ said.F, said.columns, dtype)


def _packed(filtered: FilteredTokens) -> Float[Array, "T *batch n"]:
    """Gains, operators and costs of every step, side by side."""
    (c, K), other = filtered.steps, unseen_of(filtered)
    k = filtered.either(lambda: gains(filtered.states, c, K, other), lambda states: gains_scaled(states, c, K, other))
    either = c[..., None] * K + other
    return jnp.concatenate([k, 2 * c * K.sum(-1) - 1, either.reshape(*k.shape[:-1], either.shape[-1] ** 2)], -1)


def _control(mu: Float[Array, " d"], packed: Float[Array, "T n"], F: Float[Array, "d k"], times: np.ndarray):
    """`(prior, weights)` at the given times of one sequence."""
    (T, d), here = (len(packed), len(mu)), slice(0, len(mu))
    k, costs, A = packed[:, here], packed[:, d : 2 * d], packed[:, 2 * d :].reshape(T, d, d)
    if len(times) * F.shape[1] > T:  # see `generalised/explain.py`
        prior, weights, _ = all_controls_along(k, mu, A, costs, unless_identity(F), F.dtype)
        return (prior, weights) if len(times) == T + 1 else (prior[times], weights[times])
    return controls_along(k, mu, A, costs, F, jnp.asarray(times))


def _at_emissions(
    found: Explanation, C: Float[Array, "*batch T1 d v"], columns: tuple[str, ...], dtype: Any
) -> Explanation:
    """An explanation of the state as one of the next token, whose emission is another at each query."""
    at = jnp.take_along_axis(C, jnp.asarray(found.queries)[..., None, None], -3)
    prior = jnp.einsum("...qd,...qdv->...qv", found.prior, at)
    weights = jnp.einsum("...qtd,...qdv->...qtv", found.weights, at)
    weights = weights if dtype is None else weights.astype(dtype)
    remainder = jnp.einsum("...qd,...qdv->...qv", found.remainder, at)
    return Explanation(
        found.queries, prior, weights, jnp.abs(weights).sum(-1), remainder=remainder, method=found.method, result=found.result,
        columns=columns, observations=found.observations, vocabulary=found.vocabulary,
    )  # fmt: skip
