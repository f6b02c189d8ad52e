"""Which past observations a prediction comes from: by integrated evidence, control weights, news, deletion or Shapley values."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import is_traced
from ...models.hmm import HiddenMarkovModel
from ..explained import Method, Room, Target, explained, pair_of, target_of_states, unless_identity
from ..explanation import Explanation
from ..hmm.kernels.controls import all_controls, controls_of
from ..hmm.kernels.likelihoods import emission_table, row_numbers
from ..hmm.kernels.scaled import scaled_table
from ..hmm.kernels.soft import soft_chain
from .filter import FilteredObservations, filter_series
from .kernels.layers import innovations, innovations_scaled
from .observations import as_observations, lifted


def explain_series(
    hmm: HiddenMarkovModel,
    data: Any,
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
    r"""The prediction at each query as a prior term plus one term per past observation, all of its channels together.

    The methods are those of `explain_tokens` of the room `hmm`, with $v(S)$ the prediction from the observations in $S$ alone. The control
    of the dual filter is, for densities, the news: half of each of its terms, which hides in the prior, is given back to its step,

    $$\pi_T(F)=\mu A^TF+\sum_{s<T}(\rho^+_s-\pi_s)\,A^{T-s}F,\qquad \rho^+_s=\frac{\pi_s\odot\ell_s}{\pi_s^\top\ell_s}.$$

    **Arguments:** `target`: `"next"`, the mean of the next observation (`k = p`); `"state"`; or `[d k]`. `contrast`: two channels,
    whose difference of means is explained. The others as of `explain_tokens`.

    An emission that reads the past or inputs has terms for `"state"` and arrays: those of its likelihoods $p(z_s\mid x,z_{<s})$ or
    $p(z_s\mid x,u_s)$.

    **Raises:** as `filter_series`; `DataError` for a target that does not fit or a mean that does not exist;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    asked = Method.of(method, orders, key, dtype)
    aim = _target(hmm, target, contrast)
    filtered = filter_series(hmm, data, on_impossible)
    mu, A, C = filtered.run.model.arrays
    room = Room(
        gains=lambda: _innovations(filtered),
        control=lambda k, z, times: _control(hmm, k, aim.F, times, asked.dtype or aim.F.dtype),
        path=lambda z, log_q, scaled: soft_chain(
            mu, A, (scaled_table if scaled else emission_table)(C)[row_numbers(z)], log_q, scaled
        ),
    )
    found = explained(filtered.run, data, queries, aim, asked, room)
    z = as_observations(hmm, data)
    return dataclasses.replace(found, observations=z if z.ndim == 2 else np.swapaxes(z, 0, 1))


def _target(hmm: HiddenMarkovModel, target: Any, contrast: Any) -> Target:
    """What is explained. **Raises:** `DataError` and `ConfigurationError` as `explain_series`."""
    names = (hmm.channels or tuple(f"channel {c}" for c in range(hmm.n_channels)))[: hmm.n_channels]
    if hmm.emission.reads is not None:
        if contrast is not None or (isinstance(target, str) and target == "next"):
            raise ConfigurationError(
                f'The mean of {hmm.emission.reads}, not on the state alone; explain target="state" or an array [d k].'
            )
        means = jnp.zeros((hmm.n_states, len(names)), hmm.initial.dtype)
    else:
        means = lifted(hmm.emission.means.T, hmm.transition).T
    if contrast is not None:
        a, b = pair_of(contrast, target, names, len(names), "channels")
        aim = Target((means[:, a] - means[:, b])[:, None], (f"{names[a]} − {names[b]}",))
    else:
        aim = target_of_states(target, means, names)
    if not is_traced(aim.F) and not np.isfinite(np.asarray(aim.F)).all():
        raise DataError('The mean of a state does not exist, so its share cannot be told; explain target="state".')
    return aim


def _innovations(filtered: FilteredObservations) -> Float[Array, "T *batch d"]:
    """The changes of the belief by each observation."""
    run = filtered.run
    C, z = run.model.emission, jnp.asarray(run.tokens)
    return run.either(lambda: innovations(run.states, C, z), lambda states: innovations_scaled(states, C, z))


def _control(hmm: HiddenMarkovModel, k, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights)` at the given times of one sequence: the control system of tokens with $2C-1=0$."""
    T = len(k)
    even, first = jnp.full((hmm.n_states, 1), 0.5, k.dtype), jnp.zeros(T, jnp.int32)
    chain = hmm.initial, hmm.transition, even, first
    if len(times) * F.shape[1] > T:
        prior, weights, _ = all_controls(k, *chain, unless_identity(F), dtype)
        return (prior, weights) if len(times) == T + 1 else (prior[times], weights[times])
    return controls_of(k, *chain, F, jnp.asarray(times))
