"""Dual-filter layers applied until they change nothing, or a number of times: what all rooms but `linear` share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from .._results import RESULTS, is_traced, successful_if
from .devices import AXIS, largest, mesh_of, over_devices, spread
from .doubling import Windows, check_scheme, dual_filtered_by_doubling
from .hmm.kernels.scaled import Scaled
from .results import DualFiltered
from .tokens import AbstractFilteredTokens, batch_first, check_choice

_Beliefs = Array | Scaled  # `[T+1 … d]`
Layer = Callable[[Any, tuple, Array], Any]  # (beliefs, arrays of the model, tokens) -> beliefs


class Layers(NamedTuple):
    """The options of `dual_filter_tokens` and `dual_filter_series` of these names."""

    layers: int | None
    initial: str | Any
    tolerance: float | None
    max_layers: int | None
    keep: bool
    scheme: str

    def of(
        self,
        filtered: AbstractFilteredTokens,
        layer: Layer,
        laws: dict[str, Callable[[], Array]],
        windows: Callable[[], Windows],
        arrays: Callable[[], tuple] | None = None,
    ) -> DualFiltered:
        """What layers make of what a filter returned.

        **Arguments:** `laws`, the beliefs by name that layers may start from, `"prior"` among them; `windows`, what doubling needs;
        `arrays`, what a layer takes between beliefs and tokens, those of the model by default.

        **Raises:** `ConfigurationError` for options that do not fit together; otherwise as `start_of`.
        """
        layers, initial, tolerance, max_layers, keep, scheme = self
        if keep and layers is None and scheme == "dual":
            raise ConfigurationError("keep=True needs a number of layers, so that its memory is known beforehand.")
        check_scheme(scheme, initial=initial, tolerance=tolerance, max_layers=max_layers)
        if scheme == "doubling":
            return dual_filtered_by_doubling(filtered, laws["prior"](), windows(), layers, keep)
        initial = ("filter" if layers is None else "prior") if initial is None else initial
        start = initial, start_of(filtered, initial, laws)
        given = filtered.model.arrays if arrays is None else arrays()
        return dual_filtered(layer, filtered, start, layers, tolerance, max_layers, keep, given)


def start_of(
    filtered: AbstractFilteredTokens, initial: str | Any, laws: dict[str, Callable[[], Array]]
) -> Float[Array, "T1 *batch d"]:
    """The beliefs that the first layer reads: `"filter"`, one of the named `laws` (`[d]` or `[T+1 d]`), or an array.

    **Raises:** `DataError` for an array of another shape; `ConfigurationError` for an unknown name.
    """
    shape, dtype = filtered.states.shape, filtered.states.dtype
    if not isinstance(initial, str):
        rho = jnp.asarray(initial, dtype)
        if rho.shape != filtered.predicted.shape:
            raise DataError(
                f"The initial distributions have shape {rho.shape}, but {filtered.predicted.shape} is needed."
            )
        return jnp.moveaxis(rho, 0, 1) if rho.ndim == 3 else rho
    check_choice("initial", initial, ("filter", *laws))
    if initial == "filter":
        return filtered.states
    law = laws[initial]()
    if law.ndim == 2:
        law = jnp.expand_dims(law, tuple(range(1, len(shape) - 1)))
    mesh = mesh_of(filtered.states)
    if mesh is not None and shape[1] % mesh.size == 0:  # no device makes the shares of the others
        return spread(mesh, np.broadcast_to(np.asarray(law), shape), 1)
    return jnp.broadcast_to(law, shape)


def stationary_of(model: Any) -> Float[Array, " d"]:
    """The stationary belief. **Raises:** `ConfigurationError` for a model without values."""
    if is_traced(model):
        raise ConfigurationError('Inside jit initial="stationary" needs a model with values; pass the distributions.')
    return model.stationary()


def dual_filtered(
    layer: Layer,
    filtered: AbstractFilteredTokens,
    start: tuple[str | Any, Float[Array, "T1 *batch d"]],
    layers: int | None,
    tolerance: float | None,
    max_layers: int | None,
    keep: bool,
    arrays: tuple,
) -> DualFiltered:
    """What layers make of `start`, the name of the first beliefs and their values; the options are those of
    `dual_filter_tokens`.

    `layer` is a function of the module, so that it is compiled once, and takes beliefs as arrays or as scaled numbers: the
    latter where the filter would lose mass otherwise; then `arrays`, and the tokens.
    """
    initial, rho = start
    z, mesh = jnp.asarray(filtered.tokens), mesh_of(filtered.states)
    axis = None if mesh is None else AXIS
    over = functools.partial(over_devices, mesh, layer=layer, axis=axis)
    tolerance = 64 * float(jnp.finfo(rho.dtype).eps) if tolerance is None else tolerance

    def applied(rho):
        if layers is None:
            cap = len(z) + 1 if max_layers is None else max_layers
            iterate = over(_until_fixed, (1, None, 1, None), (1, None, None), cap=cap)
            rho, residuals, used = iterate(rho, arrays, z, tolerance)
            return _linear(rho), residuals, used
        if keep:
            outputs, residuals = over(_history, (1, None, 1), (2, None), layers=layers)(rho, arrays, z)
            return _linear(outputs), residuals, jnp.asarray(layers)
        rho, residuals = over(_a_number_of, (1, None, 1), (1, None), layers=layers)(rho, arrays, z)
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


def _linear(rho: _Beliefs) -> Float[Array, "*n d"]:
    return rho.linear if isinstance(rho, Scaled) else rho


def _change(new: _Beliefs, old: _Beliefs, axis: str | None) -> Float[Array, ""]:
    """The largest change; `axis` names the devices, if there are several."""
    return largest(jnp.max(jnp.sum(jnp.abs(_linear(new) - _linear(old)), -1)), axis)


def _until_fixed(
    rho: _Beliefs, arrays: tuple, z: Int[Array, "T *batch"], tolerance, *, layer: Layer, cap: int, axis: str | None
):
    def refuse(*_):
        raise ConfigurationError("How many layers dual_filter needs has no derivative; pass layers=… for gradients.")

    iterated = jax.custom_vjp(
        lambda rho, *arrays: _iterated(rho, arrays, z, tolerance, layer=layer, cap=cap, axis=axis)
    )
    iterated.defvjp(refuse, refuse)
    return iterated(rho, *arrays)


@functools.partial(jax.jit, static_argnames=("layer", "cap", "axis"))
def _iterated(
    rho: _Beliefs, arrays: tuple, z: Int[Array, "T *batch"], tolerance, *, layer: Layer, cap: int, axis: str | None
):
    def unfinished(carry):
        _, residuals, n = carry
        return (n < cap) & ((n == 0) | (residuals[n - 1] > tolerance))

    def apply(carry):
        rho, residuals, n = carry
        new = layer(rho, arrays, z)
        return new, residuals.at[n].set(_change(new, rho, axis)), n + 1

    return lax.while_loop(unfinished, apply, (rho, jnp.zeros(cap, arrays[0].dtype), 0))


@functools.partial(jax.jit, static_argnames=("layer", "layers", "axis"))
def _a_number_of(
    rho: _Beliefs, arrays: tuple, z: Int[Array, "T *batch"], *, layer: Layer, layers: int, axis: str | None
):
    def apply(rho, _):
        new = layer(rho, arrays, z)
        return new, _change(new, rho, axis)

    return lax.scan(apply, rho, None, length=layers)


@functools.partial(jax.jit, static_argnames=("layer", "layers", "axis"))
def _history(rho: _Beliefs, arrays: tuple, z: Int[Array, "T *batch"], *, layer: Layer, layers: int, axis: str | None):
    """The start and the output of every layer, and the residuals."""

    def apply(rho, _):
        new = layer(rho, arrays, z)
        return new, (new, _change(new, rho, axis))

    outputs, residuals = lax.scan(apply, rho, None, length=layers)[1]
    return jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), rho, outputs), residuals
