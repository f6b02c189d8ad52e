"""Distributions of observations: mixtures, over the hidden states, of what the states emit."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..._bounds import SHARE
from ..._errors import ConfigurationError, DataError
from ...models.emissions.base import AbstractEmission
from ..results import check_coverage


class Predictive(eqx.Module):
    r"""$p(z)=\sum_xw_x\,p(z\mid x)$; an index picks along the leading axes.

    **Attributes:** `weights` `[… d]`, of the states; `emission`; `given` `[… k]`, for an emission that reads them the observations
    before, newest first, or the inputs.
    """

    weights: Float[Array, "*batch d"]
    emission: AbstractEmission
    given: Float[Array, "*batch k"] | None = None

    def __getitem__(self, index: Any) -> "Predictive":
        return type(self)(self.weights[index], self.emission, None if self.given is None else self.given[index])

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weights."""
        return self.weights.shape

    @property
    def rows(self) -> tuple[int, ...]:
        """The leading axes: one distribution each."""
        return self.weights.shape[:-1]

    def for_inputs(self, inputs: Any) -> "Predictive":
        """The same where the known inputs are `[q]`, or one row for each distribution `[… q]`.

        **Raises:** `ConfigurationError` for an emission that reads none; `DataError` for another shape.
        """
        q, found = self.emission.n_inputs, jnp.asarray(inputs, self.weights.dtype)
        if q == 0:
            raise ConfigurationError(f"A {type(self.emission).__name__} reads no inputs; leave out for_inputs.")
        if found.shape not in ((q,), (*self.rows, q)):
            raise DataError(f"The inputs have shape {list(found.shape)}; {q} numbers are needed, [{q}].")
        return type(self)(self.weights, self.emission, jnp.broadcast_to(found, (*self.rows, q)))

    def _centres(self) -> Float[Array, "N d p"]:
        """Means of the states, of each row or (`N` = 1) of all."""
        return self.emission.means[None] if self.given is None else self.emission.means_given(_flat(self.given))

    def _read(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch w"]:
        """What the emission reads of observations: those before too."""
        return (
            z
            if self.given is None
            else jnp.concatenate([jnp.broadcast_to(z, (*self.rows, z.shape[-1])), self.given], -1)
        )

    @property
    def mean(self) -> Float[Array, "*batch p"]:
        """Means; NaN where they do not exist."""
        return _mixed(self.weights, self._centres())

    @property
    def covariance(self) -> Float[Array, "*batch p p"]:
        r"""$\sum_xw_x(S_x+(m_x-m)(m_x-m)^\top)$."""
        means, shape = self._centres(), self.weights.shape[:-1]
        _, d, p = means.shape
        weights = self.weights.reshape(-1, d)
        apart = jnp.where((weights > 0)[..., None], means - _mixed(weights, means)[:, None], 0)
        between = jnp.einsum("nd,ndp,ndq->npq", weights, apart, apart)
        within = _mixed(weights, self.emission.covariances.reshape(1, d, -1))
        return (within.reshape(-1, p, p) + between).reshape(*shape, p, p)

    def log_density(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        """Logarithms of the density at observations, nats; −∞ where it is zero."""
        return _log_mixed(jnp.asarray(self.emission.log_likelihoods(self._read(z))), self.weights)

    def cumulative(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch p"]:
        r"""$P(Z_c\le z_c)$ of every channel by itself."""
        return jnp.einsum("...d,...dp->...p", self.weights, self.emission.cumulative(self._read(z)))

    def quantile(self, share: float) -> Float[Array, "*batch p"]:
        r"""The smallest $z_c$ with $P(Z_c\le z_c)\ge$ `share`, of every channel by itself, to rounding.

        **Raises:** `ConfigurationError` unless `0 < share < 1`.
        """
        SHARE.check("share", share)
        of = jnp.asarray(share, self.weights.dtype)
        return _bisected(self, of, *_bracketed(self, of), self.emission.discrete())

    def interval(self, coverage: float = 0.9) -> Float[Array, "*batch p two"]:
        """Lower and upper ends, per channel, of the central interval with (for whole numbers at least) this probability.

        **Raises:** `ConfigurationError` unless `0 < coverage < 1`.
        """
        check_coverage(coverage)
        return jnp.stack([self.quantile((1 - coverage) / 2), self.quantile((1 + coverage) / 2)], axis=-1)

    def p_value(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        r"""How unusual observations are: $\min(1,p_o\min_c2\min(P(Z_c\le z_c),P(Z_c\ge z_c)))$ over the $p_o$ channels that are
        seen, which is at most $a$ with a probability of at most $a$; 1 where none is, and where the past that counts is not known."""
        seen, whole = ~jnp.isnan(z), np.asarray(self.emission.discrete())
        at = jnp.where(seen, z, 0)
        below = self.cumulative(at)
        above = 1 - jnp.where(np.broadcast_to(whole, z.shape), self.cumulative(at - 1), below)
        smallest = jnp.where(seen, 2 * jnp.minimum(below, above), jnp.inf).min(-1)
        number = seen.sum(-1)
        counted = number > 0 if self.given is None else (number > 0) & ~jnp.isnan(self.given).any(-1)
        return jnp.where(counted, jnp.minimum(1, number * smallest), 1)


class SimulatedPredictive(Predictive):
    r"""The mean of the distributions after `S` simulated pasts: `weights` `[… S d]`, `given` `[… S k]`."""

    @property
    def rows(self) -> tuple[int, ...]:
        return self.weights.shape[:-2]

    @property
    def _each(self) -> Predictive:
        return Predictive(self.weights, self.emission, self.given)

    def _to_each(self, z: Float[Array, "*batch p"]) -> Float[Array, "*futures p"]:
        return jnp.broadcast_to(z[..., None, :], (*self.weights.shape[:-1], z.shape[-1]))

    @property
    def mean(self) -> Float[Array, "*batch p"]:
        return self._each.mean.mean(-2)

    @property
    def covariance(self) -> Float[Array, "*batch p p"]:
        apart = self._each.mean - self.mean[..., None, :]
        return self._each.covariance.mean(-3) + jnp.einsum("...sp,...sq->...pq", apart, apart) / apart.shape[-2]

    def log_density(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        found = self._each.log_density(self._to_each(z))
        return logsumexp(found, -1) - math.log(found.shape[-1])

    def cumulative(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch p"]:
        return self._each.cumulative(self._to_each(z)).mean(-2)


def _flat(values: Float[Array, "*batch k"]) -> Float[Array, "N k"]:
    return values.reshape(-1, values.shape[-1])


def _mixed(weights: Float[Array, "*batch d"], values: Float[Array, "N d k"]) -> Float[Array, "*batch k"]:
    """Averages over the states that are possible: what does not exist elsewhere does not matter."""
    flat = weights.reshape(-1, weights.shape[-1])[..., None]
    return jnp.where(flat > 0, flat * values, 0).sum(1).reshape(*weights.shape[:-1], -1)


def _log_mixed(log_likelihoods: Float[Array, "*batch d"], weights: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    joint = jnp.where(weights > 0, log_likelihoods + jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)
    largest = joint.max(-1, keepdims=True)
    safe = jnp.where(jnp.isfinite(largest), largest, 0)
    total = jnp.exp(joint - safe).sum(-1)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) + safe[..., 0], -jnp.inf)


@jax.jit
def _bracketed(of: Predictive, share) -> tuple[Array, Array]:
    """Ends between which the quantiles lie: powers of two."""
    shape = (*of.rows, of.emission.n_channels)
    ends = -jnp.ones(shape, of.weights.dtype), jnp.ones(shape, of.weights.dtype)

    def outside(ends):
        return (of.cumulative(ends[0]) >= share) | (of.cumulative(ends[1]) < share)

    def widen(ends):
        low, high = ends
        return (
            jnp.where(of.cumulative(low) >= share, 2 * low, low),
            jnp.where(of.cumulative(high) < share, 2 * high, high),
        )

    finite = lambda ends: jnp.isfinite(ends[0]).all() & jnp.isfinite(ends[1]).all()
    return jax.lax.while_loop(lambda ends: outside(ends).any() & finite(ends), widen, ends)


@jax.jit
def _bisected(of: Predictive, share, low, high, whole) -> Float[Array, "*batch p"]:
    def halve(_, ends):
        low, high = ends
        middle = low / 2 + high / 2
        enough = of.cumulative(middle) >= share
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    _, high = jax.lax.fori_loop(0, 2 * jnp.finfo(low.dtype).nmant, halve, (low, high))
    high = jnp.where(jnp.isnan(of.cumulative(high)), jnp.nan, high)
    return jnp.where(jnp.broadcast_to(whole, high.shape), jnp.round(high), high)
