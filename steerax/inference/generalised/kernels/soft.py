r"""The filter of operators under soft evidence, on arrays; see `inference/attribution.py`.

$$\pi_{t+1}=\pi_t\big(a_tT^{z_t}/q_t+b_tA\big)/m_t,$$

with the probability $q_t$ of the token under the filter and the mass $m_t$ that makes $\pi_{t+1}w=1$; $T^{z_t}=A$ and $q_t=1$ for a
missing token.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ...attribution import AbstractSoftPath
from .recursions import moved, operator_table, row_numbers
from .scaled import soft_states_scaled


class _SoftOperators(AbstractSoftPath):
    """**Attributes:** `p0` `[d]`, `T` `[V d d]`, `w` `[d]`, tokens `z` `[T]`, `log_q` `[T]`."""

    p0: Float[Array, " d"]
    T: Float[Array, "V d d"]
    w: Float[Array, " d"]
    z: Int[Array, " T"]
    log_q: Float[Array, " T"]

    def ahead(self, p: Float[Array, "T d"]) -> Float[Array, "T d"]:
        return moved(p, self.T.sum(0))

    def back(self, y: Float[Array, "d k"]) -> Float[Array, "d k"]:
        return self.T.sum(0) @ y


class SoftOperators(_SoftOperators):
    """In linear numbers."""

    def states(self, a: Float[Array, " T"], b: Float[Array, " T"]) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
        table = operator_table(self.T)

        def step(p, x):
            row, q, a, b = x
            joint = moved(p, table[row]) / q * a + moved(p, table[0]) * b
            mass = joint @ self.w
            mass = jnp.where(mass > 0, mass, 1)
            return joint / mass, (p, jnp.log(mass))

        last, (states, log_mass) = lax.scan(step, self.p0, (row_numbers(self.z), jnp.exp(self.log_q), a, b))
        return jnp.concatenate([states, last[None]]), log_mass


class ScaledSoftOperators(_SoftOperators):
    """In numbers that do not underflow, for a model without negative entries."""

    def states(self, a: Float[Array, " T"], b: Float[Array, " T"]) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
        return soft_states_scaled(self.p0, self.T, self.w, self.z, self.log_q, a, b)


def soft_operators(p0, T, w, z: Int[Array, " T"], log_q: Float[Array, " T"], scaled: bool) -> AbstractSoftPath:
    """The path of one sequence, whose impossible tokens are missing."""
    return (ScaledSoftOperators if scaled else SoftOperators)(p0, T, w, z, log_q)
