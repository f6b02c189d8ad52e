"""Distributions of observations: mixtures, over the hidden states, of what the states emit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._bounds import SHARE
from ...models.emissions.base import AbstractEmission
from ..results import check_coverage


class Predictive(eqx.Module):
    r"""$p(z)=\sum_xw_x\,p(z\mid x)$; an index picks along the leading axes.

    **Attributes:** `weights` `[… d]`, of the states; `emission`.
    """

    weights: Float[Array, "*batch d"]
    emission: AbstractEmission

    def __getitem__(self, index: Any) -> "Predictive":
        return Predictive(self.weights[index], self.emission)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weights."""
        return self.weights.shape

    @property
    def mean(self) -> Float[Array, "*batch p"]:
        """Means; NaN where they do not exist."""
        return _mixed(self.weights, self.emission.means)

    @property
    def covariance(self) -> Float[Array, "*batch p p"]:
        r"""$\sum_xw_x(S_x+(m_x-m)(m_x-m)^\top)$."""
        (d, p), shape = self.emission.means.shape, self.weights.shape[:-1]
        weights, means = self.weights.reshape(-1, d), self.emission.means[None]
        apart = jnp.where((weights > 0)[..., None], means - _mixed(weights, self.emission.means)[:, None], 0)
        between = jnp.einsum("nd,ndp,ndq->npq", weights, apart, apart)
        within = _mixed(weights, self.emission.covariances.reshape(d, -1))
        return (within.reshape(-1, p, p) + between).reshape(*shape, p, p)

    def log_density(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        """Logarithms of the density at observations, nats; −∞ where it is zero."""
        return _log_mixed(jnp.asarray(self.emission.log_likelihoods(z)), self.weights)

    def cumulative(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch p"]:
        r"""$P(Z_c\le z_c)$ of every channel by itself."""
        return jnp.einsum("...d,...dp->...p", self.weights, self.emission.cumulative(z))

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
        seen, which is at most $a$ with a probability of at most $a$; 1 where none is."""
        seen, whole = ~jnp.isnan(z), np.asarray(self.emission.discrete())
        at = jnp.where(seen, z, 0)
        below = self.cumulative(at)
        above = 1 - jnp.where(np.broadcast_to(whole, z.shape), self.cumulative(at - 1), below)
        smallest = jnp.where(seen, 2 * jnp.minimum(below, above), jnp.inf).min(-1)
        number = seen.sum(-1)
        return jnp.where(number > 0, jnp.minimum(1, number * smallest), 1)


def _mixed(weights: Float[Array, "*batch d"], values: Float[Array, "d k"]) -> Float[Array, "*batch k"]:
    """Averages over the states that are possible: what does not exist elsewhere does not matter."""
    flat = weights.reshape(-1, weights.shape[-1])[..., None]
    return jnp.where(flat > 0, flat * values[None], 0).sum(1).reshape(*weights.shape[:-1], -1)


def _log_mixed(log_likelihoods: Float[Array, "*batch d"], weights: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    joint = jnp.where(weights > 0, log_likelihoods + jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)
    largest = joint.max(-1, keepdims=True)
    safe = jnp.where(jnp.isfinite(largest), largest, 0)
    total = jnp.exp(joint - safe).sum(-1)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) + safe[..., 0], -jnp.inf)


@jax.jit
def _bracketed(of: Predictive, share) -> tuple[Array, Array]:
    """Ends between which the quantiles lie: powers of two."""
    shape = (*of.weights.shape[:-1], of.emission.n_channels)
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
    return jnp.where(jnp.broadcast_to(whole, high.shape), jnp.round(high), high)
