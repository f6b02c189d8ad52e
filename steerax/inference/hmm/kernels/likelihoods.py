r"""Likelihoods of observations in place of an emission matrix, so that the kernels of tokens serve numbers too.

A kernel needs of an emission only the column $\ell_t(x)=p(z_t\mid x)$ of each observation, up to a factor per observation. So
$N$ observations are $N$ tokens of a matrix with $N$ columns, each seen once, and divided by its largest entry; the factors are
added to the log-likelihood where it leaves the kernels.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Likelihoods(eqx.Module):
    r"""$\log\ell_n(x)-\max_x\log\ell_n(x)$ of observations, `[N d]`: at most zero, −∞ where a state cannot emit one.

    An observation that no state can emit is a row of −∞.
    """

    relative: Float[Array, "N d"]

    @classmethod
    def of(cls, log_likelihoods: Float[Array, "N d"]) -> tuple["Likelihoods", Float[Array, " N"]]:
        """The likelihoods, and the logarithms of the factors that were divided out."""
        largest = log_likelihoods.max(-1)
        factor = jnp.where(jnp.isfinite(largest), largest, 0)
        return cls(log_likelihoods - factor[:, None]), factor

    @property
    def shape(self) -> tuple[int, int]:
        """That of the matrix, `(d, N)`."""
        return self.relative.shape[1], self.relative.shape[0]

    @property
    def dtype(self) -> Any:
        return self.relative.dtype

    @property
    def rows(self) -> Float[Array, "N d"]:
        """The likelihoods. What is possible but below the smallest normal number is set to it: a kernel that would miss the
        difference finds a small entry, and is run again in scaled numbers."""
        possible = jnp.isfinite(self.relative)
        return jnp.where(possible, jnp.maximum(jnp.exp(self.relative), jnp.finfo(self.dtype).tiny), 0)


Emission = Float[Array, "d V"] | Likelihoods


def emission_table(C: Emission) -> Float[Array, "V1 d"]:
    """A first row of ones for a missing token, then the rows $C_z$."""
    rows = C.rows if isinstance(C, Likelihoods) else C.T
    return jnp.concatenate([jnp.ones((1, C.shape[0]), C.dtype), rows])


def log_emission_table(C: Emission) -> Float[Array, "V1 d"]:
    """Logarithms of the table, also of what is below the smallest number."""
    if isinstance(C, Likelihoods):
        return jnp.concatenate([jnp.zeros((1, C.shape[0]), C.dtype), C.relative])
    return jnp.log(emission_table(C))


def row_numbers(z: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """Rows of the table for tokens, −1 for a missing one."""
    return z + 1


def rows_of(C: Emission, z: Int[Array, "*n"]) -> Float[Array, "*n d"]:
    """The rows of a few tokens, without making a table."""
    rows = C.rows if isinstance(C, Likelihoods) else C.T
    return jnp.where(z[..., None] < 0, 1, rows[jnp.maximum(z, 0)])
