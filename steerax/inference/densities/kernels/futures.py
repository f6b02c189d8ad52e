"""Simulated futures of a chain whose emission reads the observations before, on arrays."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...hmm.kernels.recursions import moved
from ..observations import lifted, newest

_AT_ONCE = 256  # futures simulated side by side


@functools.partial(jax.jit, static_argnames=("steps", "samples"))
def futures(
    belief: Float[Array, " d"],
    transition: Any,
    emission: Any,
    past: Float[Array, " k"],
    key: Any,
    steps: int,
    samples: int,
) -> tuple[Float[Array, "steps S d"], Float[Array, "steps S k"]]:
    """The belief before each step and the past it is after, in each of `samples` futures drawn observation by observation."""

    def one(key):
        def step(carry, key):
            p, past = carry
            which, what = jax.random.split(key)
            own = newest(p, transition)
            state = jax.random.categorical(which, jnp.log(own))
            z = emission.sample_given(what, state, past)
            read = jnp.concatenate([z, past])
            log_l = lifted(emission.log_densities(read[None])[0], transition)
            joint = jax.nn.softmax(jnp.log(p) + log_l)
            return (moved(joint, transition), read[: past.shape[0]]), carry

        return lax.scan(step, (belief, past), jax.random.split(key, steps))[1]

    found = lax.map(one, jax.random.split(key, samples), batch_size=min(samples, _AT_ONCE))
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), found)
