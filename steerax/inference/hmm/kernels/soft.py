r"""The filter of a chain under soft evidence, on arrays; see `inference/attribution.py`.

$$\pi_{t+1}=A^\top\big(\pi_t\odot(a_t\ell_t/q_t+b_t)\big)/m_t,$$

with the likelihood columns $\ell_t$ of the observations (ones for a missing one), their predictive probabilities $q_t$ under the
filter, up to a common factor of both, and the mass $m_t$ that makes the sum one.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...attribution import AbstractSoftPath
from .recursions import moved
from .scaled import soft_states_scaled


class _SoftChain(AbstractSoftPath):
    """**Attributes:** `mu` `[d]`, `A`, `likelihoods` `[T d]` (scaled numbers where they may underflow), `log_q` `[T]`."""

    mu: Float[Array, " d"]
    A: Any
    likelihoods: Any
    log_q: Float[Array, " T"]

    def ahead(self, p: Float[Array, "T d"]) -> Float[Array, "T d"]:
        return p @ self.A

    def back(self, y: Float[Array, "d k"]) -> Float[Array, "d k"]:
        return self.A @ y


class SoftChain(_SoftChain):
    """In linear numbers."""

    def states(self, a: Float[Array, " T"], b: Float[Array, " T"]) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
        def step(p, x):
            seen, q, a, b = x
            joint = p * seen / q * a + p * b
            mass = joint.sum()
            mass = jnp.where(mass > 0, mass, 1)
            return moved(joint / mass, self.A), (p, jnp.log(mass))

        last, (states, log_mass) = lax.scan(step, self.mu, (self.likelihoods, jnp.exp(self.log_q), a, b))
        return jnp.concatenate([states, last[None]]), log_mass


class ScaledSoftChain(_SoftChain):
    """In numbers that do not underflow; of an observation that is there, both parts of the evidence must be positive, or one of
    them constant, where slopes are wanted."""

    def states(self, a: Float[Array, " T"], b: Float[Array, " T"]) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
        return soft_states_scaled(self.mu, self.A, self.likelihoods, self.log_q, a, b)


def soft_chain(mu, A, likelihoods: Any, log_q: Float[Array, " T"], scaled: bool) -> AbstractSoftPath:
    """The path of one sequence; a `log q` of an observation that was stepped over may be anything finite."""
    return (ScaledSoftChain if scaled else SoftChain)(mu, A, likelihoods, log_q)
