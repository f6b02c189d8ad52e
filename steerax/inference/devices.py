"""Sequences over devices: every device runs the kernel on sequences of its own, and only sums travel between them.

`Sequences.over(devices)` says where; here arrays are placed, by their axis of sequences, and kernels are mapped (`jax.shard_map`), so
that no device needs the sequences of another. A number of sequences that the devices cannot share equally is filled up, and
what is found for the filling is cut off again. The devices may belong to several processes (`jax.distributed`), of which each calls
the same verbs with the same data.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._results import is_traced
from ..data.sequences import Sequences

AXIS = "sequences"

Axis = int | None  # of the sequences; `None`: the same everywhere


def mesh_of(data: Any) -> Mesh | None:
    """The mesh that a `Sequences` is to be spread over, or on which an array lies; `None` for one device."""
    if isinstance(data, Sequences):
        return None if data.devices is None else Mesh(np.asarray(data.devices), (AXIS,))
    mesh = getattr(getattr(data, "sharding", None), "mesh", None)
    return mesh if isinstance(mesh, Mesh) and mesh.axis_names == (AXIS,) else None


def spread(mesh: Mesh | None, x: Any, axis: int, fill: Any = None) -> jax.Array:
    """An array over the devices by its axis of sequences, filled up with `fill`, or else with copies of the last sequence."""
    if mesh is None:
        return jnp.asarray(x)
    missing = -x.shape[axis] % mesh.size
    if missing:
        widths = [(0, missing if i == axis else 0) for i in range(x.ndim)]
        how: dict[str, Any] = {"mode": "edge"} if fill is None else {"constant_values": fill}
        x = (jnp if isinstance(x, jax.Array) else np).pad(x, widths, **how)
    return _placed(x, NamedSharding(mesh, _spec(axis)))


def over_devices(
    mesh: Mesh | None, kernel: Callable, ins: tuple[Axis, ...], outs: Axis | tuple[Axis, ...], **static: Any
) -> Callable:
    """The kernel as a function of arrays of all sequences; itself on one device, and inside `jit`.

    **Arguments:** `ins`, `outs`: where the axis of sequences is in each argument and each result, `None` for what all sequences
    share; of a tree of arrays it is that of all leaves. `static`: keyword arguments that are compiled in.
    """
    if mesh is None:
        return functools.partial(kernel, **static) if static else kernel

    def run(*arguments: Any) -> Any:
        if is_traced(arguments):
            return kernel(*arguments, **static)
        first = next(i for i, axis in enumerate(ins) if isinstance(axis, int))
        number = jax.tree.leaves(arguments[first])[0].shape[ins[first]]
        placed = [
            _everywhere(mesh, x) if axis is None else _spread_all(mesh, x, axis)
            for x, axis in zip(arguments, ins, strict=True)
        ]
        found = mapped(mesh, kernel, ins, outs, tuple(static.items()))(*placed)
        cut = lambda x, axis: x if axis is None else jax.tree.map(functools.partial(_cut, axis=axis, number=number), x)
        return tuple(map(cut, found, outs)) if isinstance(outs, tuple) else cut(found, outs)

    return run


@functools.lru_cache(maxsize=512)
def mapped(
    mesh: Mesh, kernel: Callable, ins: tuple[Axis, ...], outs: Axis | tuple[Axis, ...], static: tuple = ()
) -> Callable:
    """The compiled function behind `over_devices`, of arrays that are in place."""
    specs = lambda axes: tuple(map(_spec, axes)) if isinstance(axes, tuple) else _spec(axes)
    local = functools.partial(kernel, **dict(static))
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=specs(ins), out_specs=specs(outs), check_vma=False))


def summed(tree: Any, axis: str | None) -> Any:
    """Sums over devices; what it is on one device."""
    return tree if axis is None else lax.psum(tree, axis)


def largest(x: jax.Array, axis: str | None) -> jax.Array:
    """The largest of the devices."""
    return x if axis is None else lax.pmax(x, axis)


def anywhere(flag: jax.Array, axis: str | None) -> jax.Array:
    """Whether it is true on some device."""
    return flag if axis is None else lax.pmax(flag.astype(jnp.int32), axis) > 0


def here(tree: Any) -> Any:
    """What all devices have a copy of, on the one device that this process computes on by itself."""
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def on_host(x: Any) -> np.ndarray:
    """All of an array; parts that lie with other processes are fetched."""
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def smallest_on_host(function: Callable[[np.ndarray], Any], x: jax.Array) -> float:
    """The smallest value of a function of the host, of the parts of an array."""
    here = min(float(np.min(function(np.asarray(part.data)))) for part in x.addressable_shards)
    return here if x.is_fully_addressable else float(np.min(multihost_utils.process_allgather(np.asarray(here))))


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def _spread_all(mesh: Mesh, tree: Any, axis: int) -> Any:
    return jax.tree.map(lambda x: spread(mesh, x, axis), tree)


def _everywhere(mesh: Mesh, tree: Any) -> Any:
    """A copy on every device; plain numbers stay what they are."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: _placed(x, whole) if hasattr(x, "shape") else x, tree)


def _placed(x: Any, sharding: NamedSharding) -> jax.Array:
    """Every device gets its part from the host, or from where the array lies already."""
    if isinstance(x, jax.Array) and mesh_of(x) == sharding.mesh:
        return jax.device_put(x, sharding)
    x = np.asarray(x, jax.dtypes.canonicalize_dtype(x.dtype))
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _cut(x: jax.Array, axis: int, number: int) -> jax.Array:
    return x if x.shape[axis] == number else lax.slice_in_dim(x, 0, number, axis=axis)
