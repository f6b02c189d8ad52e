"""Which past observations a prediction comes from: the control of the dual filter, which for densities is the innovation."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import DataError
from ..._results import is_traced
from ...models.hmm import HiddenMarkovModel
from ..explained import explained, target_of, unless_identity
from ..hmm.kernels.controls import all_controls, controls_of
from ..results import Explanation
from .filter import FilteredObservations, filter_series
from .kernels.layers import innovations, innovations_scaled
from .observations import lifted


def explain_series(
    hmm: HiddenMarkovModel,
    data: Any,
    queries: int | str | Any = -1,
    target: str | Any = "next",
    *,
    dtype: Any = None,
    on_impossible: str = "raise",
) -> Explanation:
    r"""The prediction at each query as a prior term plus what each past observation changed when it came,

    $$\pi_T(F)=\mu A^TF+\sum_{s<T}(\rho^+_s-\pi_s)\,A^{T-s}F,\qquad \rho^+_s=\frac{\pi_s\odot\ell_s}{\pi_s^\top\ell_s}:$$

    the control of the dual filter for densities, where half of each of its terms, which hides in the prior, is given back to its
    step. A missing observation has weight zero.

    **Arguments:** `queries` and `dtype` as of `explain_tokens`; `target`: `"next"`, the mean of the next observation (`k = p`);
    `"state"`; or `[d k]`.

    **Raises:** as `filter_series`; `DataError` for a target that does not fit or a mean that does not exist;
    `ConfigurationError` for a query that does not fit or an unknown option.
    """
    means = lifted(hmm.emission.means.T, hmm.transition).T
    F = target_of(target, hmm.n_states, means)
    if not is_traced(F) and not np.isfinite(np.asarray(F)).all():
        raise DataError("The mean of a state does not exist, so its share cannot be told; explain target='state'.")
    dtype = F.dtype if dtype is None else jnp.dtype(dtype)
    filtered = filter_series(hmm, data, on_impossible)
    explain_one = lambda k, z, times: _explain_one(hmm, k, z, F, times, dtype)
    return explained(filtered.run, data, queries, F, _innovations(filtered), explain_one)


def _innovations(filtered: FilteredObservations) -> Float[Array, "T *batch d"]:
    """The changes of the belief by each observation."""
    run = filtered.run
    C, z = run.model.emission, jnp.asarray(run.tokens)
    return run.either(lambda: innovations(run.states, C, z), lambda states: innovations_scaled(states, C, z))


def _explain_one(hmm: HiddenMarkovModel, k, z, F: Float[Array, "d k"], times: np.ndarray, dtype):
    """`(prior, weights, norms)` at the given times of one sequence: the control system of tokens with $2C-1=0$."""
    T = len(z)
    even, first = jnp.full((hmm.n_states, 1), 0.5, k.dtype), jnp.zeros(T, jnp.int32)
    chain = hmm.initial, hmm.transition, even, first
    if len(times) * F.shape[1] > T:
        parts = all_controls(k, *chain, unless_identity(F), dtype)
        return parts if len(times) == T + 1 else tuple(part[times] for part in parts)
    prior, weights = controls_of(k, *chain, F, jnp.asarray(times))
    weights = weights.astype(dtype)
    return prior, weights, jnp.abs(weights).sum(-1)
