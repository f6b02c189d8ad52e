"""The dual filter: inference as layers, from any start to the filter."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from .filter import _batch_first, forward_filter
from .kernels.layers import layer
from .kernels.recursions import prior_laws


class DualFiltered(eqx.Module):
    """What `dual_filter` returns.

    **Attributes:** `state_probabilities` `[T+1 d]`, the output of the last layer (`[B T+1 d]` for a `Sequences`);
    `residuals` `[layers]`, the largest change (sum of absolute values over states) that each layer made; `layers`, how
    many were applied; `result`, a member of `RESULTS`; `history` `[layers+1 T+1 d]` (`[layers+1 B T+1 d]` for a
    `Sequences`), the start and every layer's output, if they were kept.
    """

    state_probabilities: Float[Array, "*batch T1 d"]
    residuals: Float[np.ndarray, " layers"]
    layers: int = eqx.field(static=True)
    result: RESULTS
    history: Float[Array, "..."] | None = None


def dual_filter(
    hmm: HiddenMarkovModel,
    tokens: Array | np.ndarray | Sequences,
    layers: int | None = None,
    initial: str | Any = None,
    tolerance: float | None = None,
    *,
    max_layers: int | None = None,
    keep: bool = False,
    on_impossible: str = "raise",
) -> DualFiltered:
    """The filter as the fixed point `ρ = N(ρ)` of dual-filter layers (see `steerax.inference.hmm.kernels.layers`).

    Causal, hence exact after at most `T` layers from a start with `ρ_0 = μ` and `T+1` from any other; not a
    contraction: chains that stay long in a state need nearly all of them, whatever the filter forgets. Costs `O(d² T)`
    per layer.

    **Arguments:**

    - `layers`: how many to apply; `None` applies them until the residual is at most `tolerance`, at most `max_layers`
      (default `T+1`).
    - `initial`: the input of the first layer: `"filter"`, `"prior"` (`μ A^t`), `"uniform"`, `"stationary"`, or laws
      `[T+1 d]`. `None` is `"filter"` without `layers` (one layer verifies it) and `"prior"` with them.
    - `tolerance`: for the residual, the largest sum over states of absolute changes; 64 machine epsilons by default.
    - `keep`: keep the output of every layer in `history`; needs `layers`.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` and
    `ConfigurationError` for tokens and options that cannot be used.
    """
    filtered = forward_filter(hmm, tokens, on_impossible)
    z = filtered.tokens
    rho = _start(hmm, filtered, initial if initial is not None else ("filter" if layers is None else "prior"))
    if layers is not None and layers < 0:
        raise ConfigurationError(f"The number of layers cannot be {layers}; use 0 or more, or None.")
    if keep and layers is None:
        raise ConfigurationError("keep=True needs a number of layers, so that its memory is known beforehand.")
    tolerance = 64 * float(jnp.finfo(rho.dtype).eps) if tolerance is None else tolerance
    if layers is None:
        cap = len(z) + 1 if max_layers is None else max_layers
        rho, residuals, used = _until_fixed(rho, *hmm.arrays, z, tolerance, cap)
        residuals = np.asarray(residuals)[: int(used)]
        history = None
    else:
        rho, residuals, history = _a_number_of(rho, *hmm.arrays, z, layers, keep)
        residuals = np.asarray(residuals)
        history = jnp.moveaxis(history, 2, 1) if history is not None and z.ndim > 1 else history
    reached = bool(len(residuals)) and residuals[-1] <= tolerance
    result = RESULTS.successful if reached else RESULTS.max_steps_reached
    return DualFiltered(_batch_first(rho), residuals, len(residuals), result, history)


def _start(hmm, filtered, initial):
    """Laws `[T+1 … d]` to start from."""
    shape = filtered.states.shape
    if not isinstance(initial, str):
        rho = jnp.asarray(initial, filtered.states.dtype)
        if rho.shape != filtered.state_probabilities.shape:
            raise DataError(
                f"The initial laws have shape {rho.shape}, but {filtered.state_probabilities.shape} is needed."
            )
        return jnp.moveaxis(rho, 0, 1) if rho.ndim == 3 else rho
    starts = {
        "filter": lambda: filtered.states,
        "uniform": lambda: jnp.full(shape, 1 / hmm.n_states, filtered.states.dtype),
        "stationary": lambda: jnp.broadcast_to(hmm.stationary(), shape),
        "prior": lambda: jnp.broadcast_to(
            jnp.expand_dims(prior_laws(hmm.initial, hmm.transition, shape[0] - 1), tuple(range(1, len(shape) - 1))),
            shape,
        ),
    }
    if initial not in starts:
        raise ConfigurationError(f"There is no start called {initial!r}; choose one of {', '.join(starts)}, or laws.")
    return starts[initial]()


def _change(new, old):
    return jnp.max(jnp.sum(jnp.abs(new - old), -1))


@functools.partial(jax.jit, static_argnames="cap")
def _until_fixed(rho, mu, A, C, z, tolerance, cap: int):
    def unfinished(carry):
        _, residuals, n = carry
        return (n < cap) & ((n == 0) | (residuals[n - 1] > tolerance))

    def apply(carry):
        rho, residuals, n = carry
        new = layer(rho, mu, A, C, z)
        return new, residuals.at[n].set(_change(new, rho)), n + 1

    return lax.while_loop(unfinished, apply, (rho, jnp.zeros(cap, rho.dtype), 0))


@functools.partial(jax.jit, static_argnames=("layers", "keep"))
def _a_number_of(rho, mu, A, C, z, layers: int, keep: bool):
    def apply(rho, _):
        new = layer(rho, mu, A, C, z)
        return new, (_change(new, rho), new if keep else None)

    last, (residuals, outputs) = lax.scan(apply, rho, None, length=layers)
    return last, residuals, None if outputs is None else jnp.concatenate([rho[None], outputs])
