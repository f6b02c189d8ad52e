"""Which past tokens a prediction comes from: the control weights of the dual filter."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .filter import check_choice, forward_filter
from .kernels.controls import all_controls, controls_of


class Explanation(eqx.Module):
    """What `explain` returns: `prior[q] + weights[q].sum(0) == π_q @ target`, exactly and for every query.

    `weights[q, s]` belongs to `tokens[s]` and is zero for `s ≥ q`. A batch axis comes first for a `Sequences`.

    **Attributes:** `queries` `[q]`, times; `prior` `[q k]`; `weights` `[q T k]`, or `None` if only norms were asked;
    `norms` `[q T]`, the sum over the columns of the target of absolute weights.
    """

    queries: Int[np.ndarray, "..."]
    prior: Float[Array, "*batch q k"]
    weights: Float[Array, "*batch q T k"] | None
    norms: Float[Array, "*batch q T"]


def explain(
    model: HiddenMarkovModel,
    tokens: Array | np.ndarray | Sequences,
    queries: int | str | Any = -1,
    target: str | Any = "next_token",
    *,
    weights: bool = True,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    """The prediction at each query as a prior term plus one term per past token (dual filter, path by path).

        π_T(F) = μ(y_0) - Σ_{s<T} u_{T,s},
        y_T = F,    u_{T,s} = -k_s·A y_{s+1},    y_s = A y_{s+1} + (2 C_{z_{s+1}} - 1) u_{T,s},

    with the gain `k_s` of `steerax.inference.hmm.kernels.layers` at the true filter. These path weights use the whole string
    up to the query; they are not the adapted weights of `represent`. A missing token has weight zero. All queries cost
    `O(d² T² + d k T²)`; a single one `O(d² k T)`.

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several of them, or `"all"` for the `T+1`
      laws `π_0 … π_T`. For a `Sequences`, −1 (each at its own end) or `"all"`.
    - `target`: `"next_token"` (`F = C`, `k = V`), `"state"` (`F = I`, `k = d`), or `[d k]`.
    - `weights`: False computes only `norms`, without ever holding `[q T k]` numbers.
    - `dtype`: of the returned weights and norms, for instance `jnp.float32` to halve their memory.

    **Raises:** `ImpossibleTokenError`, unless `on_impossible="skip"`; `DataError` for a target or a query that does not
    fit; `ConfigurationError` for an unknown option.
    """
    F = _target(model, target)
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    filtered = forward_filter(model, tokens, on_impossible)
    T = filtered.tokens.shape[0]
    if not isinstance(tokens, Sequences):
        times = _query_times(queries, T)
        return Explanation(times, *_explain_one(model, filtered.states, filtered.tokens, F, times, weights, dtype))
    if isinstance(queries, str):
        check_choice("queries", queries, ("all",))
        times = np.tile(np.arange(T + 1), (tokens.number, 1))
    elif np.ndim(queries) == 0 and int(queries) == -1:
        times = np.asarray(tokens.lengths)[:, None]
    else:
        raise ConfigurationError('For several sequences queries are -1 (the end of each) or "all".')
    parts = [
        _explain_one(model, filtered.states[:, i], filtered.tokens[:, i], F, times[i], weights, dtype)
        for i in range(tokens.number)
    ]
    prior, u, norms = zip(*parts, strict=True)
    return Explanation(times, jnp.stack(prior), jnp.stack(u) if weights else None, jnp.stack(norms))


def _explain_one(model, states, z, F, times, weights: bool, dtype):
    """`(prior, weights or None, norms)` at the given times of one sequence."""
    T = len(z)
    # Backward passes share their matrix products among queries, but each costs the whole past and all columns; forward
    # gains carry one row per past token and give every query and column.
    if len(times) * F.shape[1] > T:
        identity = F.shape[1] == model.n_states and np.array_equal(F, np.eye(model.n_states))
        prior, u, norms = all_controls(states, *model.arrays, z, None if identity else F, weights, dtype)
        pick = (lambda x: x) if len(times) == T + 1 else (lambda x: x[times])
        return pick(prior), None if u is None else pick(u), pick(norms)
    prior, u = controls_of(states, *model.arrays, z, F, jnp.asarray(times))
    u = u.astype(dtype)
    return prior, u if weights else None, jnp.abs(u).sum(-1)


def _target(model: HiddenMarkovModel, target):
    if isinstance(target, str):
        check_choice("target", target, ("next_token", "state"))
        return model.emission if target == "next_token" else jnp.eye(model.n_states, dtype=model.emission.dtype)
    F = jnp.asarray(target, model.emission.dtype)
    if F.ndim != 2 or F.shape[0] != model.n_states:
        raise DataError(
            f"The target has shape {F.shape}; functions of {model.n_states} states are [{model.n_states} k]."
        )
    return F


def _query_times(queries, T: int) -> np.ndarray:
    if isinstance(queries, str):
        check_choice("queries", queries, ("all",))
        return np.arange(T + 1)
    times = np.atleast_1d(np.asarray(queries))
    if (
        times.ndim > 1
        or times.dtype.kind not in "iu"
        or (len(times) and not (-T - 1 <= times.min() <= times.max() <= T))
    ):
        raise DataError(f"Queries are times between {-T - 1} and {T} (−1 is the end), but got {queries!r}.")
    return np.where(times < 0, times + T + 1, times)
