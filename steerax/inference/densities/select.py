"""Which state of one model of numbers is which of another."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models.emissions.base import AbstractEmission

_DRAWS = 512  # observations of each state


def distances(emission: AbstractEmission, reference: AbstractEmission) -> Float[np.ndarray, "d d"]:
    r"""How far state $x$ of the reference lies from state $y$: the root of

    $$J(x,y)=\tfrac12\,\mathbb E_{q_x}\log\frac{q_x(Z)}{p_y(Z)}+\tfrac12\,\mathbb E_{p_y}\log\frac{p_y(Z)}{q_x(Z)},$$

    the nats by which an observation tells them apart, over 512 draws of each state. For normal distributions with one covariance
    $\sqrt{2J}$ is the distance of their means in standard deviations; unlike total variation it tells far states from farther ones.
    Zero for equal distributions, whatever the draws.
    """
    found = np.asarray(_divergences(emission, reference), float)
    finite = found[np.isfinite(found)]
    beyond = 1 + 2 * finite.max(initial=0)  # what is impossible is farther than all that is possible
    return np.sqrt(np.where(np.isfinite(found), np.maximum(found, 0), beyond))


@jax.jit
def _divergences(emission: AbstractEmission, reference: AbstractEmission) -> Float[Array, "d d"]:
    d = reference.n_states

    def one_way(of: AbstractEmission, other: AbstractEmission) -> Float[Array, "d d"]:
        """The mean over draws of state `x` of `of`, for every state `y` of the other."""
        states = jnp.repeat(jnp.arange(d), _DRAWS)
        z = of.sample(jax.random.key(0), states)
        own = jnp.take_along_axis(of.log_densities(z), states[:, None], 1)
        return (own - other.log_densities(z)).reshape(d, _DRAWS, d).mean(1)

    return (one_way(reference, emission) + one_way(emission, reference).T) / 2
