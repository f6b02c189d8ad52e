"""Emissions that read the observations before: vector autoregressions that switch with the state."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..._bounds import COUNT
from .base import Family, Prior, check_option, checked, require
from .elliptical import STRUCTURES, Structure
from .gaussian import at_least_one, check_matrices, of_all_data
from .regression import AbstractRegression


class Autoregressive(AbstractRegression):
    r"""A vector autoregression in each state, [Hamilton1989]:

    $$Z_t\mid x,Z_{<t}\sim\mathcal N\Bigl(c_x+\sum_{l=1}^LB_{x,l}\,Z_{t-l},\;S_x\Bigr).$$

    The first $L$ observations of a sequence are given: their factor is one. A gap inside of a sequence is refused, since the sum
    over what was not seen is none over paths of `d` states; gaps before the first and after the last observation are not.

    **Arguments:** `intercept` $c$ `[d p]`; `coefficients` $B$ `[d L p p]`, those of lag one first, rows are what is
    predicted; `covariance` $S$ `[d p p]`, positive definite; `structure` of the covariances, as of `Gaussian`.

    **Raises:** `DataError` as `Gaussian`, and for coefficients of another shape.
    """

    coefficients: Float[Array, "d lags p p"]

    def __init__(self, intercept: Any, coefficients: Any, covariance: Any, structure: Any = "full"):
        given = checked(intercept=(intercept, 2), coefficients=(coefficients, 4), covariance=(covariance, 3))
        self.intercept, self.coefficients, self.covariance = given
        self.structure = structure
        d, p = self.intercept.shape
        require(
            self.coefficients.shape == (d, self.lags, p, p),
            f"`coefficients` has shape {self.coefficients.shape}; intercepts [{d} {p}] need [{d} L {p} {p}].",
        )
        check_matrices("covariance", self.intercept, self.covariance, structure)

    @property
    def lags(self) -> int:
        return self.coefficients.shape[1]

    @property
    def reads(self) -> str:
        return "an Autoregressive emission depends on the observations before"

    @property
    def takes_gaps(self) -> bool:
        return False

    def _stacked(self) -> Float[Array, "d k p"]:
        return jnp.swapaxes(self.coefficients, -1, -2).reshape(self.n_states, -1, self.n_channels)

    def _unstacked(self, rows: Float[Array, "d k p"]) -> Float[Array, "d lags p p"]:
        return jnp.swapaxes(rows.reshape(self.coefficients.shape), -1, -2)

    def _spread_of_given(self, prior: Prior) -> Float[Array, " k"]:
        return jnp.tile(prior.spread, self.lags)

    def log_densities(self, z: Float[Array, "N w"]) -> Float[Array, "N d"]:
        r"""$-\frac12(\delta+\log|S|+p\log2\pi)$; zero where the observation or an entry of its past is missing, NaN where only some of
        its channels are, which data do not have."""
        missing = jnp.isnan(z[:, : self.n_channels])
        partly = missing.any(-1) & ~missing.all(-1)
        return jnp.where(partly[:, None], jnp.nan, super().log_densities(z))

    def sample(self, key: Any, states: Int[Array, "T *n"]) -> Float[Array, "T *n p"]:
        """A series along the first axis, from a past of zeros."""
        start = jnp.zeros((*states.shape[1:], self.lags * self.n_channels), self.intercept.dtype)

        def step(past, given):
            z = self.sample_given(given[0], given[1], past)
            return jnp.concatenate([z, past], -1)[..., : past.shape[-1]], z

        return lax.scan(step, start, (jax.random.split(key, len(states)), states))[1]

    @classmethod
    def kind(cls, *, lags: int = 1, structure: Any = "full") -> Family:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The kind with this many lags. **Raises:** `ConfigurationError` for fewer than one, or an unknown structure."""
        COUNT.check("lags", lags)
        check_option("structure", structure, STRUCTURES)
        return Family(cls, (("lags", lags), ("structure", structure)))

    @classmethod
    def started(
        cls, weights: Any, z: Any, prior: Prior, rng: Any, *, lags: int = 1, structure: Structure = "full"
    ) -> "Autoregressive":
        """Least squares over the windows of the observations that belong to each state."""
        mean, S = of_all_data(weights.shape[1], prior, structure)
        first = cls(mean, jnp.zeros((*mean.shape[:1], lags, *S.shape[1:]), S.dtype), S, structure)
        return first.maximised(first.statistics(jnp.asarray(weights), jnp.asarray(z)), at_least_one(prior))
