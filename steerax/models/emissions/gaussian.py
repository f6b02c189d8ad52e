"""Gaussian and Student-t emissions, with full, diagonal, tied or spherical matrices."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import betainc, digamma, gammaln, ndtr
from jaxtyping import Array, Float, Int

from ...maths.covariance import cholesky
from . import elliptical
from .base import AbstractEmission, Prior, check_option, checked, equation_root, require
from .elliptical import STRUCTURES, Moments, Structure

_LEAST_DEGREES, _MOST_DEGREES = 0.2, 1e4


class Gaussian(AbstractEmission):
    r"""$Z\mid x\sim\mathcal N(m_x,S_x)$.

    **Arguments:** `mean` `[d p]`; `covariance` `[d p p]`, positive definite; `structure`, which covariances a fit searches:
    `"full"`, `"diagonal"`, `"tied"` (one for all states) or `"spherical"` (one variance a state).

    **Raises:** `DataError` for shapes that do not fit or a matrix that is not positive definite or not of the structure.
    """

    mean: Float[Array, "d p"]
    covariance: Float[Array, "d p p"]
    structure: Structure = eqx.field(static=True)

    def __init__(self, mean: Any, covariance: Any, structure: Any = "full"):
        self.mean, self.covariance = checked(mean=(mean, 2), covariance=(covariance, 3))
        self.structure = structure
        check_matrices("covariance", self.mean, self.covariance, structure)

    @property
    def n_states(self) -> int:
        return self.mean.shape[0]

    @property
    def n_channels(self) -> int:
        return self.mean.shape[1]

    @property
    def n_parameters(self) -> int:
        return self.mean.size + elliptical.n_matrix_parameters(self.n_states, self.n_channels, self.structure)

    @property
    def means(self) -> Float[Array, "d p"]:
        return self.mean

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        return self.covariance

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        r"""$-\frac12(\delta+\log|S_{oo}|+p_o\log2\pi)$ with the distance of the channels seen, see `elliptical`."""
        delta, log_det = elliptical.distances(z, self.mean, self.covariance, self.structure)
        number = (~jnp.isnan(z)).sum(-1, keepdims=True)
        return -(delta + log_det + number * math.log(2 * math.pi)) / 2

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        return ndtr((z[:, None] - self.mean[None]) / deviations(self.covariance)[None])

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        L = jax.vmap(cholesky)(self.covariance)
        noise = jax.random.normal(key, (*states.shape, self.n_channels), self.mean.dtype)
        return self.mean[states] + jnp.einsum("...p,...pq->...q", noise, L[states])

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Moments:
        return elliptical.moments(weights, None, z, self.mean, self.covariance, self.structure)

    def maximised(self, statistics: Moments, prior: Prior) -> "Gaussian":
        found = elliptical.maximised(statistics, self.mean, self.covariance, self.structure, prior)
        return eqx.tree_at(lambda g: (g.mean, g.covariance), self, found)

    def translated(self, statistics: Moments, before: "Gaussian") -> Moments:
        return elliptical.translated(statistics, before.mean - self.mean, self.structure)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        return elliptical.log_prior(self.covariance, self.structure, prior)

    @property
    def free(self) -> tuple[Array, Array]:
        return self.mean, elliptical.free_roots(self.covariance, self.structure)

    def with_free(self, free: Any) -> "Gaussian":
        mean, roots = free
        S = elliptical.matrices_of(roots, mean.shape, self.structure)
        return eqx.tree_at(lambda g: (g.mean, g.covariance), self, (mean, S))

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Gaussian":
        return Gaussian(self.mean[order], self.covariance[order], self.structure)

    @classmethod
    def started(cls, weights: Any, z: Any, prior: Prior, rng: Any, *, structure: Structure = "full") -> "Gaussian":
        first = cls(*of_all_data(weights.shape[1], prior, structure), structure)
        return first.maximised(first.statistics(jnp.asarray(weights), jnp.asarray(z)), at_least_one(prior))


class StudentT(AbstractEmission):
    r"""A multivariate $t$ distribution: $Z\mid x,u\sim\mathcal N(m_x,S_x/u)$ with $u\sim\Gamma(\nu_x/2,\nu_x/2)$; heavy tails.

    **Arguments:** `location` `[d p]`; `scale` `[d p p]`, positive definite, the covariance times $(\nu-2)/\nu$; `degrees`
    $\nu$ `[d]`, positive; `structure` of the scale, as of `Gaussian`. A fit searches degrees between .2 and 10⁴.

    **Raises:** `DataError` as `Gaussian`, and for degrees that are not positive. [LiuRubin1995]
    """

    location: Float[Array, "d p"]
    scale: Float[Array, "d p p"]
    degrees: Float[Array, " d"]
    structure: Structure = eqx.field(static=True)

    def __init__(self, location: Any, scale: Any, degrees: Any, structure: Any = "full"):
        given = checked(location=(location, 2), scale=(scale, 3), degrees=(degrees, 1))
        self.location, self.scale, self.degrees = given
        self.structure = structure
        check_matrices("scale", self.location, self.scale, structure)
        one_each = self.degrees.shape == self.location.shape[:1]
        require(
            one_each, f"`degrees` has shape {self.degrees.shape}; {len(self.location)} states need one number each."
        )
        require((self.degrees > 0).all(), "The degrees of freedom of a Student t distribution must be positive.")

    @property
    def n_states(self) -> int:
        return self.location.shape[0]

    @property
    def n_channels(self) -> int:
        return self.location.shape[1]

    @property
    def n_parameters(self) -> int:
        return (
            self.location.size
            + elliptical.n_matrix_parameters(self.n_states, self.n_channels, self.structure)
            + self.n_states
        )

    @property
    def means(self) -> Float[Array, "d p"]:
        return jnp.where(self.degrees[:, None] > 1, self.location, jnp.nan)

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        nu = self.degrees[:, None, None]
        return jnp.where(nu > 2, self.scale * nu / jnp.where(nu > 2, nu - 2, 1), jnp.where(nu > 1, jnp.inf, jnp.nan))

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        r"""$\log\frac{\Gamma((\nu+p_o)/2)}{\Gamma(\nu/2)(\nu\pi)^{p_o/2}|S_{oo}|^{1/2}}-\frac{\nu+p_o}2\log(1+\delta/\nu)$."""
        nu = self.degrees[None]
        delta, log_det = elliptical.distances(z, self.location, self.scale, self.structure)
        number = (~jnp.isnan(z)).sum(-1, keepdims=True).astype(z.dtype)
        constant = gammaln((nu + number) / 2) - gammaln(nu / 2) - number / 2 * jnp.log(nu * math.pi)
        return constant - log_det / 2 - (nu + number) / 2 * jnp.log1p(delta / nu)

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        nu = self.degrees[None, :, None]
        t = (z[:, None] - self.location[None]) / deviations(self.scale)[None]
        tail = betainc(nu / 2, jnp.asarray(0.5, z.dtype), nu / (nu + t**2)) / 2
        return jnp.where(t > 0, 1 - tail, tail)

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        first, second = jax.random.split(key)
        L, nu = jax.vmap(cholesky)(self.scale), self.degrees[states]
        noise = jax.random.normal(first, (*states.shape, self.n_channels), self.location.dtype)
        u = jax.random.gamma(second, nu / 2) / (nu / 2)
        return self.location[states] + jnp.einsum("...p,...pq->...q", noise, L[states]) / jnp.sqrt(u)[..., None]

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        """The moments with the expected $u$ as scales, and the weighted sum of $\\mathbb E(\\log u-u)$."""
        nu = self.degrees[None]
        delta, _ = elliptical.distances(z, self.location, self.scale, self.structure)
        number = (~jnp.isnan(z)).sum(-1, keepdims=True).astype(z.dtype)
        u = (nu + number) / (nu + delta)
        log_u = digamma((nu + number) / 2) - jnp.log((nu + delta) / 2)
        w = jnp.where(number > 0, weights, 0)
        found = elliptical.moments(weights, u, z, self.location, self.scale, self.structure)
        return found, w.sum(0), (w * (log_u - u)).sum(0)

    def maximised(self, statistics: Any, prior: Prior) -> "StudentT":
        found, count, total = statistics
        location, scale = elliptical.maximised(found, self.location, self.scale, self.structure, prior)
        mean = total / jnp.where(count > 0, count, 1)
        # log(ν/2) − ψ(ν/2) + 1 + mean falls with ν
        falling = lambda log_nu: jnp.log(jnp.exp(log_nu) / 2) - digamma(jnp.exp(log_nu) / 2) + 1 + mean
        low, high = (jnp.full_like(mean, math.log(end)) for end in (_LEAST_DEGREES, _MOST_DEGREES))
        nu = jnp.exp(equation_root(lambda x: -falling(x), low, high))
        nu = jnp.where(count > 0, nu, self.degrees)
        return eqx.tree_at(lambda t: (t.location, t.scale, t.degrees), self, (location, scale, nu))

    def translated(self, statistics: Any, before: "StudentT") -> Any:
        found, *degrees = statistics
        return elliptical.translated(found, before.location - self.location, self.structure), *degrees

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        return elliptical.log_prior(self.scale, self.structure, prior)

    @property
    def free(self) -> tuple[Array, Array, Array]:
        return self.location, elliptical.free_roots(self.scale, self.structure), jnp.log(self.degrees)

    def with_free(self, free: Any) -> "StudentT":
        location, roots, log_nu = free
        S = elliptical.matrices_of(roots, location.shape, self.structure)
        return eqx.tree_at(lambda t: (t.location, t.scale, t.degrees), self, (location, S, jnp.exp(log_nu)))

    def permuted(self, order: Int[np.ndarray, " n"]) -> "StudentT":
        return StudentT(self.location[order], self.scale[order], self.degrees[order], self.structure)

    @classmethod
    def started(cls, weights: Any, z: Any, prior: Prior, rng: Any, *, structure: Structure = "full") -> "StudentT":
        seen = np.where(np.isnan(z).all(0), 0, z)
        low, high = np.nanquantile(seen, [0.25, 0.75], axis=0)
        reach = 3 * np.where(
            high > low, high - low, np.inf
        )  # further out, one observation would say how wide a state is
        first = Gaussian.started(weights, np.clip(z, low - reach, high + reach), prior, rng, structure=structure)
        return cls(first.mean, first.covariance, jnp.full(first.n_states, 10.0, first.mean.dtype), structure)


def check_matrices(name: str, mean: Array, matrices: Array, structure: str) -> None:
    """Raises `DataError` unless there is a positive definite matrix of the structure for each state."""
    check_option("structure", structure, STRUCTURES)
    d, p = mean.shape
    require(
        matrices.shape == (d, p, p),
        f"`{name}` has shape {matrices.shape}; means [{d} {p}] need one matrix a state, [{d} {p} {p}].",
    )
    if isinstance(matrices, Tracer):
        return
    S = np.asarray(matrices)
    size = np.sqrt(np.finfo(S.dtype).eps) * np.abs(S).max((-2, -1))
    symmetric = np.abs(S - S.swapaxes(-1, -2)).max((-2, -1)) <= size
    for x in range(d):
        good = symmetric[x] and np.linalg.eigvalsh(S[x]).min() > 0
        require(good, f"`{name}` of state {x} is not symmetric and positive definite.")
    off = np.abs(S * (1 - np.eye(p))).max((-2, -1))
    if structure in ("diagonal", "spherical"):
        require((off <= size).all(), f"`{name}` is not diagonal, but structure={structure!r} says so.")
    if structure == "spherical":
        v = np.diagonal(S, axis1=-2, axis2=-1)
        require((np.ptp(v, -1) <= size).all(), f"`{name}` has unlike variances in a state, but is called spherical.")
    if structure == "tied":
        require(
            (np.abs(S - S[:1]).max((-2, -1)) <= size).all(), f"`{name}` differs between states, but is called tied."
        )


def deviations(S: Float[Array, "d p p"]) -> Float[Array, "d p"]:
    return jnp.sqrt(jnp.diagonal(S, axis1=-2, axis2=-1))


def of_all_data(d: int, prior: Prior, structure: Structure) -> tuple[Any, Any]:
    """The same mean and matrix for all states: those of the data."""
    p = len(prior.centre)
    spread = jnp.full(p, prior.spread.mean()) if structure == "spherical" else prior.spread
    return jnp.broadcast_to(prior.centre, (d, p)), jnp.broadcast_to(jnp.diag(spread), (d, p, p))


def at_least_one(prior: Prior) -> Prior:
    """A prior that a start from few observations survives."""
    return prior._replace(weight=jnp.maximum(prior.weight, 1))
