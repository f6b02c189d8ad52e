"""The dual filter: inference as layers, from any start to the filter."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS, is_traced, successful_if
from ...models.hmm import HiddenMarkovModel
from ..results import DualFiltered
from .filter import FilteredTokens, Tokens, batch_first, check_choice, filter_tokens
from .kernels.layers import layer
from .kernels.recursions import prior_distributions
from .kernels.scaled import Scaled, layer_scaled

Distributions = Array | Scaled  # `[T+1 … d]`


@bounded(layers=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, max_layers=COUNT_OR_ZERO)
def dual_filter_tokens(
    hmm: HiddenMarkovModel,
    data: Tokens,
    layers: int | None = None,
    initial: str | Any = None,
    tolerance: float | None = None,
    *,
    max_layers: int | None = None,
    keep: bool = False,
    on_impossible: str = "raise",
) -> DualFiltered:
    r"""The filter as the fixed point $\rho=N(\rho)$ of dual-filter layers (see `kernels/layers.py`).

    Causal, hence exact after at most $T$ layers from a start with $\rho_0=\mu$ and $T+1$ from any other; not a
    contraction: chains that stay long in a state need nearly all of them, whatever the filter forgets. A layer costs
    $O(d^2T)$.

    **Arguments:**

    - `layers`: how many to apply; `None` applies them until the residual is at most `tolerance`, at most `max_layers`
      (default $T+1$).
    - `initial`: the input of the first layer: `"filter"`, `"prior"` ($\mu A^t$), `"uniform"`, `"stationary"`, or an array
      of distributions `[T+1 d]`. `None` is `"filter"` without `layers` (one layer verifies it) and `"prior"` with them.
    - `tolerance`: for the residual, the largest sum over states of absolute changes; 64 machine epsilons by default.
    - `keep`: keep the output of every layer in `history`; needs `layers`.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` and
    `ConfigurationError` for tokens and options that cannot be used.
    """
    filtered = filter_tokens(hmm, data, on_impossible)
    z = jnp.asarray(filtered.tokens)
    _check(layers, keep)
    initial = ("filter" if layers is None else "prior") if initial is None else initial
    rho: Any = _start(hmm, filtered, initial)
    tolerance = 64 * float(jnp.finfo(rho.dtype).eps) if tolerance is None else tolerance

    def applied(rho):
        if layers is None:
            cap = len(z) + 1 if max_layers is None else max_layers
            rho, residuals, used = _until_fixed(rho, *hmm.arrays, z, tolerance, cap)
            return _linear(rho), residuals, used
        if keep:
            outputs, residuals = _history(rho, *hmm.arrays, z, layers)
            return _linear(outputs), residuals, jnp.asarray(layers)
        rho, residuals = _a_number_of(rho, *hmm.arrays, z, layers)
        return _linear(rho), residuals, jnp.asarray(layers)

    scaled = lambda states: applied(states if isinstance(initial, str) and initial == "filter" else Scaled.of(rho))
    rho, residuals, used = filtered.either(lambda: applied(rho), scaled)
    history = None
    if keep:
        rho, history = rho[-1], jnp.moveaxis(rho, 2, 1) if z.ndim > 1 else rho
    if is_traced(residuals):
        residuals = jnp.where(jnp.arange(len(residuals)) < used, residuals, jnp.nan)
        reached = residuals[used - 1] <= tolerance if len(residuals) else False
    else:
        residuals, used = np.asarray(residuals)[: int(used)], int(used)
        reached = bool(used) and residuals[-1] <= tolerance
    result = successful_if(reached, RESULTS.max_steps_reached)
    return DualFiltered(batch_first(rho), residuals, used, result, history)


def _check(layers: int | None, keep: bool) -> None:
    if keep and layers is None:
        raise ConfigurationError("keep=True needs a number of layers, so that its memory is known beforehand.")


def _start(hmm: HiddenMarkovModel, filtered: FilteredTokens, initial: str | Any) -> Float[Array, "T1 *batch d"]:
    """Distributions to start from."""
    shape, dtype = filtered.states.shape, filtered.states.dtype
    if not isinstance(initial, str):
        rho = jnp.asarray(initial, dtype)
        if rho.shape != filtered.predicted.shape:
            raise DataError(
                f"The initial distributions have shape {rho.shape}, but {filtered.predicted.shape} is needed."
            )
        return jnp.moveaxis(rho, 0, 1) if rho.ndim == 3 else rho
    check_choice("initial", initial, ("filter", "prior", "uniform", "stationary"))
    if initial == "filter":
        return filtered.states
    if initial == "uniform":
        return jnp.full(shape, 1 / hmm.n_states, dtype)
    if initial == "stationary":
        if is_traced(hmm):
            raise ConfigurationError(
                'Inside jit initial="stationary" needs a model with values; pass the distributions.'
            )
        return jnp.broadcast_to(hmm.stationary(), shape)
    prior = prior_distributions(hmm.initial, hmm.transition, shape[0] - 1)
    return jnp.broadcast_to(jnp.expand_dims(prior, tuple(range(1, len(shape) - 1))), shape)


def _layer(rho: Distributions, mu, A, C, z: Int[Array, "T *batch"]) -> Distributions:
    return layer_scaled(rho, mu, A, C, z) if isinstance(rho, Scaled) else layer(rho, mu, A, C, z)


def _linear(rho: Distributions) -> Float[Array, "*n d"]:
    return rho.linear if isinstance(rho, Scaled) else rho


def _change(new: Distributions, old: Distributions) -> Float[Array, ""]:
    return jnp.max(jnp.sum(jnp.abs(_linear(new) - _linear(old)), -1))


def _until_fixed(rho: Distributions, mu, A, C, z: Int[Array, "T *batch"], tolerance, cap: int):
    def refuse(*_):
        raise ConfigurationError("How many layers dual_filter needs has no derivative; pass layers=… for gradients.")

    iterated = jax.custom_vjp(lambda *arrays: _iterated(*arrays, z, tolerance, cap))
    iterated.defvjp(refuse, refuse)
    return iterated(rho, mu, A, C)


@functools.partial(jax.jit, static_argnames="cap")
def _iterated(rho: Distributions, mu, A, C, z: Int[Array, "T *batch"], tolerance, cap: int):
    def unfinished(carry):
        _, residuals, n = carry
        return (n < cap) & ((n == 0) | (residuals[n - 1] > tolerance))

    def apply(carry):
        rho, residuals, n = carry
        new = _layer(rho, mu, A, C, z)
        return new, residuals.at[n].set(_change(new, rho)), n + 1

    return lax.while_loop(unfinished, apply, (rho, jnp.zeros(cap, mu.dtype), 0))


@functools.partial(jax.jit, static_argnames="layers")
def _a_number_of(rho: Distributions, mu, A, C, z: Int[Array, "T *batch"], layers: int):
    def apply(rho, _):
        new = _layer(rho, mu, A, C, z)
        return new, _change(new, rho)

    return lax.scan(apply, rho, None, length=layers)


@functools.partial(jax.jit, static_argnames="layers")
def _history(rho: Distributions, mu, A, C, z: Int[Array, "T *batch"], layers: int):
    """The start and the output of every layer, and the residuals."""

    def apply(rho, _):
        new = _layer(rho, mu, A, C, z)
        return new, (new, _change(new, rho))

    outputs, residuals = lax.scan(apply, rho, None, length=layers)[1]
    return jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), rho, outputs), residuals
