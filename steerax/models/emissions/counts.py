"""Emissions of whole numbers: counts without a limit, and symbols of a channel."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import betainc, digamma, gammaincc, gammaln
from jaxtyping import Array, Bool, Float, Int

from .base import AbstractEmission, Prior, checked, equation_root, is_whole, logs, require

_LEAST_SHAPE, _MOST_SHAPE = 1e-4, 1e6


class _Counts(AbstractEmission):
    """Counts whose channels are independent given the state."""

    support = "whole numbers 0, 1, 2, …"

    @property
    def n_states(self) -> int:
        return self.means.shape[0]

    @property
    def n_channels(self) -> int:
        return self.means.shape[1]

    def discrete(self) -> Bool[np.ndarray, " p"]:
        return np.ones(self.n_channels, bool)

    def outside(self, z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
        return ~is_whole(z)

    @classmethod
    def never(cls, z: Float[np.ndarray, "N p"], **options: Any) -> Bool[np.ndarray, "N p"]:
        return ~is_whole(z)

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        each = (self._channel(z[:, c, None], c) for c in range(z.shape[1]))  # the last axis should be a long one
        return sum(each, jnp.zeros((), z.dtype))

    def _channel(self, z: Float[Array, "N one"], c: int) -> Float[Array, "N d"]:
        counts = jnp.where(jnp.isnan(z), 0, z)
        whole = (counts >= 0) & (counts == jnp.floor(counts))
        found = jnp.where(whole, self.log_masses(jnp.maximum(counts, 0), c), -jnp.inf)
        return jnp.where(jnp.isnan(z), 0, found)

    @abc.abstractmethod
    def log_masses(self, z: Float[Array, "N one"], c: int) -> Float[Array, "N d"]:
        """Log-probabilities of counts of one channel."""

    def _of_prior(self, prior: Prior) -> Float[Array, ""]:
        """Those of the observations that nobody made."""
        if not _weighs(prior):
            return jnp.zeros(())
        channels = range(self.n_channels)
        return prior.weight * sum(
            (self.log_masses(prior.centre[c, None, None], c).sum() for c in channels), jnp.zeros(())
        )

    def _sums(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> tuple[Array, Array]:
        """Weights and weighted counts of every channel."""
        seen = ~jnp.isnan(z)
        return weights.T @ seen.astype(z.dtype), weights.T @ jnp.where(seen, z, 0)


class Poisson(_Counts):
    r"""Independent counts, $P(Z_c=n\mid x)=e^{-\lambda}\lambda^n/n!$ with $\lambda=$ `rate[x, c]`.

    **Arguments:** `rate` `[d p]`, not negative; at a rate of zero only the count 0 is possible.

    **Raises:** `DataError` for a negative or non-finite rate.
    """

    rate: Float[Array, "d p"]

    def __init__(self, rate: Any):
        (self.rate,) = checked(rate=(rate, 2))
        require((self.rate >= 0).all(), "`rate` holds a negative entry; a rate is at least zero.")

    @property
    def n_parameters(self) -> int:
        return self.rate.size

    @property
    def means(self) -> Float[Array, "d p"]:
        return self.rate

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        return jax.vmap(jnp.diag)(self.rate)

    def log_masses(self, z: Float[Array, "N one"], c: int) -> Float[Array, "N d"]:
        rate = self.rate[None, :, c]
        return _times_log(z, rate) - rate - gammaln(z + 1)

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        n = jnp.floor(z)[:, None]
        found = gammaincc(jnp.maximum(n, 0) + 1, self.rate[None])
        return jnp.where(n >= 0, found, 0)

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        return jax.random.poisson(key, self.rate[states]).astype(self.rate.dtype)

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        return self._sums(weights, z)

    def maximised(self, statistics: Any, prior: Prior) -> "Poisson":
        count, total = (a + prior.weight * b for a, b in zip(statistics, (1, prior.centre[None]), strict=True))
        rate = jnp.where(count > 0, total / jnp.where(count > 0, count, 1), self.rate)
        return eqx.tree_at(lambda e: e.rate, self, rate)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        return self._of_prior(prior)

    @property
    def free(self) -> Array:
        return logs(self.rate)

    def with_free(self, free: Any) -> "Poisson":
        return eqx.tree_at(lambda e: e.rate, self, jnp.exp(free))

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Poisson":
        return Poisson(self.rate[order])

    @classmethod
    def started(cls, weights: Any, z: Any, prior: Prior, rng: Any) -> "Poisson":
        first = cls(jnp.broadcast_to(prior.centre, (weights.shape[1], len(prior.centre))))
        return first.maximised(first.statistics(jnp.asarray(weights), jnp.asarray(z)), one_more(prior))


class NegativeBinomial(_Counts):
    r"""Independent counts that vary more than a Poisson's: $Z\mid\lambda\sim\mathrm{Poisson}(\lambda)$ with
    $\lambda\sim\Gamma(r,r/m)$,

    $$P(Z=n\mid x)=\frac{\Gamma(n+r)}{n!\,\Gamma(r)}\Big(\frac r{r+m}\Big)^r\Big(\frac m{r+m}\Big)^n,\qquad
    \mathbb EZ=m,\quad\mathrm{var}\,Z=m+m^2/r .$$

    **Arguments:** `mean` $m$ and `shape` $r$, `[d p]`; a fit searches shapes from 10⁻⁴ to 10⁶, where it is a Poisson's.

    **Raises:** `DataError` for a negative mean or a shape that is not positive.
    """

    mean: Float[Array, "d p"]
    shape: Float[Array, "d p"]

    def __init__(self, mean: Any, shape: Any):
        self.mean, self.shape = checked(mean=(mean, 2), shape=(shape, 2))
        require(
            self.mean.shape == self.shape.shape,
            f"`mean` {self.mean.shape} and `shape` {self.shape.shape} need one number for each state and channel.",
        )
        require((self.mean >= 0).all(), "`mean` holds a negative entry; a mean count is at least zero.")
        require((self.shape > 0).all(), "`shape` holds an entry that is not positive.")

    @property
    def n_parameters(self) -> int:
        return 2 * self.mean.size

    @property
    def means(self) -> Float[Array, "d p"]:
        return self.mean

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        return jax.vmap(jnp.diag)(self.mean + self.mean**2 / self.shape)

    def log_masses(self, z: Float[Array, "N one"], c: int) -> Float[Array, "N d"]:
        m, r = self.mean[None, :, c], self.shape[None, :, c]
        ratio = gammaln(z + r) - gammaln(r) - gammaln(z + 1)
        return ratio - r * jnp.log1p(m / r) + _times_log(z, m / (r + m))

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        n, m, r = jnp.floor(z)[:, None], self.mean[None], self.shape[None]
        found = betainc(r, jnp.maximum(n, 0) + 1, r / (r + m))
        return jnp.where(n >= 0, found, 0)

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        first, second = jax.random.split(key)
        m, r = self.mean[states], self.shape[states]
        rate = jax.random.gamma(first, r) * m / r
        return jax.random.poisson(second, rate).astype(m.dtype)

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        r"""Weights, weighted counts, and weighted sums of $\psi(n+r)$."""
        seen = ~jnp.isnan(z)
        level = digamma(jnp.where(seen, z, 0)[:, None] + self.shape[None])
        return *self._sums(weights, z), jnp.einsum("nd,ndp,np->dp", weights, level, seen.astype(z.dtype))

    def maximised(self, statistics: Any, prior: Prior) -> "NegativeBinomial":
        r"""The mean count, whatever the shape, then one step of EM for the shape with $\lambda$ as what is hidden:
        $\log r'-\psi(r')=\log(r+m)-\overline{\psi(n+r)}$."""
        extra = 1, prior.centre[None], digamma(prior.centre[None] + self.shape)
        count, total, level = (a + prior.weight * b for a, b in zip(statistics, extra, strict=True))
        some, safe = count > 0, jnp.where(count > 0, count, 1)
        m = jnp.where(some, total / safe, self.mean)
        wanted = jnp.log(self.shape + m) - level / safe
        falling = lambda log_r: log_r - digamma(jnp.exp(log_r)) - wanted
        low, high = (jnp.full_like(m, np.log(end)) for end in (_LEAST_SHAPE, _MOST_SHAPE))
        r = jnp.exp(equation_root(lambda x: -falling(x), low, high))
        return eqx.tree_at(lambda e: (e.mean, e.shape), self, (m, jnp.where(some & (m > 0), r, self.shape)))

    def translated(self, statistics: Any, before: "NegativeBinomial") -> Any:
        r"""What is kept is the expectation of what is hidden, $\mathbb E\log\lambda=\psi(n+r)-\log(1+r/m)$."""
        count, total, level = statistics
        some = (self.mean > 0) & (before.mean > 0)
        apart = jnp.log1p(self.shape / jnp.where(some, self.mean, 1)) - jnp.log1p(
            before.shape / jnp.where(some, before.mean, 1)
        )
        return count, total, level + jnp.where(some, count * apart, 0)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        return self._of_prior(prior)

    @property
    def free(self) -> tuple[Array, Array]:
        return logs(self.mean), jnp.log(self.shape)

    def with_free(self, free: Any) -> "NegativeBinomial":
        return eqx.tree_at(lambda e: (e.mean, e.shape), self, tuple(map(jnp.exp, free)))

    def permuted(self, order: Int[np.ndarray, " n"]) -> "NegativeBinomial":
        return NegativeBinomial(self.mean[order], self.shape[order])

    @classmethod
    def started(cls, weights: Any, z: Any, prior: Prior, rng: Any) -> "NegativeBinomial":
        mean = Poisson.started(weights, z, prior, rng).rate
        return cls(mean, jnp.maximum(mean, 1))


class Categorical(AbstractEmission):
    r"""One channel of symbols 0 … V−1, $P(Z=z\mid x)=$ `probabilities[x, z]`, for products with other channels.

    **Arguments:** `probabilities` `[d V]`, rows that sum to one.

    **Raises:** `DataError` for a row that is no distribution.
    """

    support = "codes 0, 1, 2, … of the symbols of the channel"
    probabilities: Float[Array, "d V"]

    def __init__(self, probabilities: Any):
        (self.probabilities,) = checked(probabilities=(probabilities, 2))
        near = np.sqrt(np.finfo(self.probabilities.dtype).eps)
        require((self.probabilities >= 0).all(), "`probabilities` holds a negative entry.")
        require(
            (jnp.abs(self.probabilities.sum(-1) - 1) <= near).all(), "A row of `probabilities` does not sum to one."
        )

    @property
    def n_states(self) -> int:
        return self.probabilities.shape[0]

    @property
    def n_channels(self) -> int:
        return 1

    @property
    def n_parameters(self) -> int:
        return self.n_states * (self.probabilities.shape[1] - 1)

    @property
    def means(self) -> Float[Array, "d p"]:
        return (self.probabilities @ self._codes)[:, None]

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        return ((self.probabilities @ self._codes**2) - self.means[:, 0] ** 2)[:, None, None]

    @property
    def _codes(self) -> Float[Array, " V"]:
        return jnp.arange(self.probabilities.shape[1], dtype=self.probabilities.dtype)

    def discrete(self) -> Bool[np.ndarray, " p"]:
        return np.ones(1, bool)

    def outside(self, z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
        return ~(is_whole(z) & ~(z >= self.probabilities.shape[1]))

    @classmethod
    def never(cls, z: Float[np.ndarray, "N p"], **options: Any) -> Bool[np.ndarray, "N p"]:
        return ~is_whole(z)

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        code, V = z[:, 0], self.probabilities.shape[1]
        rows = jnp.concatenate([jnp.log(self.probabilities).T, jnp.zeros((1, self.n_states), z.dtype)])
        inside = (code >= 0) & (code < V) & (code == jnp.floor(code))
        found = rows[jnp.where(inside, code, V).astype(jnp.int32)]
        return jnp.where((inside | jnp.isnan(code))[..., None], found, -jnp.inf)

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        below = self._codes[None] <= z
        return jnp.where(below[:, None], self.probabilities[None], 0).sum(-1, keepdims=True)

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        drawn = jax.random.categorical(key, jnp.log(self.probabilities)[states])
        return drawn[..., None].astype(self.probabilities.dtype)

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        V = self.probabilities.shape[1]
        code = jnp.where(jnp.isnan(z[:, 0]), V, z[:, 0]).astype(jnp.int32)
        return jax.ops.segment_sum(weights, code, V + 1)[:V].T

    def maximised(self, statistics: Any, prior: Prior) -> "Categorical":
        counts = statistics + jnp.where(self.probabilities > 0, prior.pseudocount, 0)
        total = counts.sum(-1, keepdims=True)
        rows = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), self.probabilities)
        return eqx.tree_at(lambda e: e.probabilities, self, rows)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        P = self.probabilities
        return prior.pseudocount * jnp.where(P > 0, jnp.log(jnp.where(P > 0, P, 1)), 0).sum()

    @property
    def free(self) -> Array:
        return logs(self.probabilities)

    def with_free(self, free: Any) -> "Categorical":
        return eqx.tree_at(lambda e: e.probabilities, self, jax.nn.softmax(free))

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Categorical":
        return Categorical(self.probabilities[order])

    @classmethod
    def started(cls, weights: Any, z: Any, prior: Prior, rng: Any, *, n_symbols: int | None = None) -> "Categorical":
        V = n_symbols or int(np.nanmax(z, initial=0)) + 1
        first = cls(jnp.full((weights.shape[1], V), 1 / V, jnp.asarray(weights).dtype))
        smooth = prior._replace(pseudocount=jnp.maximum(prior.pseudocount, 0.5))
        return first.maximised(first.statistics(jnp.asarray(weights), jnp.asarray(z)), smooth)


def _times_log(z: Float[Array, "N one"], x: Float[Array, "one d"]) -> Float[Array, "N d"]:
    r"""$z\log x$, where $0\log0=0$; a logarithm a state, not one an observation."""
    log_x = jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), 0)
    return z * log_x + jnp.where((x == 0) & (z > 0), -jnp.inf, 0)


def one_more(prior: Prior) -> Prior:
    """A prior that a start from few observations survives."""
    return prior._replace(weight=jnp.maximum(prior.weight, 1))


def _weighs(prior: Prior) -> bool:
    """Whether there is a prior at all; a traced weight counts as one."""
    return isinstance(prior.weight, Tracer) or float(prior.weight) > 0
