"""Emissions that read the observations before: vector autoregressions that switch with the state."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Int

from ..._bounds import COUNT
from ..._errors import ConfigurationError
from ...maths.covariance import cholesky
from . import elliptical
from .base import AbstractEmission, Family, Prior, check_option, checked, require
from .elliptical import STRUCTURES, Moments, Structure
from .gaussian import at_least_one, check_matrices, deviations, of_all_data


class Regressions(NamedTuple):
    r"""Sums over observations with weights $w$, of the regressors $u=(1,z_{t-1},\dots,z_{t-L})$ and the errors $e$ of the current
    parameters: `count` $\sum w$, `squares` $\sum w\,uu^\top$, `first` $\sum w\,ue^\top$ and `second` $\sum w\,ee^\top$."""

    count: Float[Array, " d"]
    squares: Float[Array, "d k k"]
    first: Float[Array, "d k p"]
    second: Float[Array, "d p p"]


class Autoregressive(AbstractEmission):
    r"""A vector autoregression in each state, [Hamilton1989]:

    $$Z_t\mid x,Z_{<t}\sim\mathcal N\Bigl(c_x+\sum_{l=1}^LB_{x,l}\,Z_{t-l},\;S_x\Bigr).$$

    The first $L$ observations of a sequence are given: their factor is one. A gap inside of a sequence is refused, since the sum
    over what was not seen is none over paths of `d` states; gaps before the first and after the last observation are not.

    **Arguments:** `intercept` $c$ `[d p]`; `coefficients` $B$ `[d L p p]`, those of lag one first, rows are what is
    predicted; `covariance` $S$ `[d p p]`, positive definite; `structure` of the covariances, as of `Gaussian`.

    **Raises:** `DataError` as `Gaussian`, and for coefficients of another shape.
    """

    intercept: Float[Array, "d p"]
    coefficients: Float[Array, "d lags p p"]
    covariance: Float[Array, "d p p"]
    structure: Structure = eqx.field(static=True)

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
    def n_states(self) -> int:
        return self.intercept.shape[0]

    @property
    def n_channels(self) -> int:
        return self.intercept.shape[1]

    @property
    def n_parameters(self) -> int:
        matrices = elliptical.n_matrix_parameters(self.n_states, self.n_channels, self.structure)
        return self.intercept.size + self.coefficients.size + matrices

    @property
    def means(self) -> Float[Array, "d p"]:
        """**Raises:** `ConfigurationError`: there are none without the past."""
        raise ConfigurationError(
            "The mean of an Autoregressive emission depends on the observations before; use means_after(past)."
        )

    def means_after(self, past: Float[Array, "N k"]) -> Float[Array, "N d p"]:
        r"""$c_x+\sum_lB_{x,l}z_{t-l}$ after pasts $(z_{t-1},\dots,z_{t-L})$; NaN where one of these is missing."""
        lagged = past.reshape(-1, self.lags, self.n_channels)
        return self.intercept[None] + jnp.einsum("dlpq,nlq->ndp", self.coefficients, lagged)

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        """Those given the past."""
        return self.covariance

    def log_densities(self, z: Float[Array, "N w"]) -> Float[Array, "N d"]:
        r"""$-\frac12(\delta+\log|S|+p\log2\pi)$; zero where the observation or an entry of its past is missing, NaN where only some of
        its channels are, which data do not have."""
        e, known = self._errors(z)
        L = jax.vmap(cholesky)(self.covariance)
        y = jnp.einsum("ndp,dpq->ndq", e, elliptical.inverse_roots(L))
        log_det = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
        found = -((y**2).sum(-1) + log_det[None] + self.n_channels * math.log(2 * math.pi)) / 2
        missing = jnp.isnan(z[:, : self.n_channels])
        partly = missing.any(-1) & ~missing.all(-1)
        return jnp.where(known[:, None], found, jnp.where(partly[:, None], jnp.nan, 0))

    def _errors(self, z: Float[Array, "N w"]) -> tuple[Float[Array, "N d p"], Any]:
        """What the regressions leave over, and where all of a window is known."""
        known = ~jnp.isnan(z).any(-1)
        z = jnp.where(known[:, None], z, 0)
        return z[:, None, : self.n_channels] - self.means_after(z[:, self.n_channels :]), known

    def below(self, z: Float[Array, "N w"]) -> Float[Array, "N d p"]:
        """NaN where an entry of the past is missing."""
        e = z[:, None, : self.n_channels] - self.means_after(z[:, self.n_channels :])
        return ndtr(e / deviations(self.covariance)[None])

    def sample(self, key: Any, states: Int[Array, "T *n"]) -> Float[Array, "T *n p"]:
        """A series along the first axis, from a past of zeros."""
        start = jnp.zeros((*states.shape[1:], self.lags * self.n_channels), self.intercept.dtype)

        def step(past, given):
            z = self.sample_after(given[0], given[1], past)
            return jnp.concatenate([z, past], -1)[..., : past.shape[-1]], z

        return lax.scan(step, start, (jax.random.split(key, len(states)), states))[1]

    def sample_after(self, key: Any, states: Int[Array, "*n"], past: Float[Array, "*n k"]) -> Float[Array, "*n p"]:
        """One observation for each state, after a past each."""
        L, lagged = jax.vmap(cholesky)(self.covariance), past.reshape(*states.shape, self.lags, -1)
        noise = jax.random.normal(key, (*states.shape, self.n_channels), self.intercept.dtype)
        moved = jnp.einsum("...lpq,...lq->...p", self.coefficients[states], lagged)
        return self.intercept[states] + moved + jnp.einsum("...p,...pq->...q", noise, L[states])

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N w"]) -> Regressions:
        e, known = self._errors(z)
        w = jnp.where(known[:, None], weights, 0)
        past = jnp.where(known[:, None], z[:, self.n_channels :], 0)
        u = jnp.concatenate([jnp.ones_like(past[:, :1]), past], -1)
        squares = jnp.einsum("ndk,nj->dkj", w[..., None] * u[:, None], u)
        first = jnp.einsum("nk,ndp->dkp", u, w[..., None] * e)
        return Regressions(w.sum(0), squares, first, jnp.einsum("ndp,ndq->dpq", w[..., None] * e, e))

    def maximised(self, statistics: Regressions, prior: Prior) -> "Autoregressive":
        r"""Weighted least squares, and the matrices $(\sum w\,ee^\top+w_0(\Lambda+\sum_lB_l\Lambda B_l^\top))/(\sum w+w_0)$ of what
        they leave over; the least move where they have no unique solution."""
        d, p = self.intercept.shape
        count, G, H, second = statistics
        penalty = prior.weight * jnp.concatenate([jnp.zeros_like(prior.spread[:1]), jnp.tile(prior.spread, self.lags)])
        before = self._regression()
        moved = _solved(G + jnp.diag(penalty)[None], H - penalty[None, :, None] * before)
        rest = _left_over(second, moved, G, H)
        after = before + moved
        rest = rest + _crossed(after, penalty[None, :, None] * after)
        number = jnp.broadcast_to(count[:, None], (d, p))
        found = Moments(number, number, jnp.zeros_like(self.intercept), rest)
        _, S = elliptical.maximised(found, self.intercept, self.covariance, self.structure, prior)
        B = jnp.swapaxes(after[:, 1:].reshape(d, self.lags, p, p), -1, -2)
        return eqx.tree_at(lambda a: (a.intercept, a.coefficients, a.covariance), self, (after[:, 0], B, S))

    def translated(self, statistics: Regressions, before: "Autoregressive") -> Regressions:
        count, G, H, second = statistics
        moved = self._regression() - before._regression()
        return Regressions(count, G, H - G @ moved, _left_over(second, moved, G, H))

    @property
    def free(self) -> tuple[Array, Array, Array]:
        return self.intercept, self.coefficients, elliptical.free_roots(self.covariance, self.structure)

    def with_free(self, free: Any) -> "Autoregressive":
        intercept, coefficients, roots = free
        S = elliptical.matrices_of(roots, intercept.shape, self.structure)
        return eqx.tree_at(lambda a: (a.intercept, a.coefficients, a.covariance), self, (intercept, coefficients, S))

    def _regression(self) -> Float[Array, "d k p"]:
        """Intercept and coefficients as those of regressors one and the past."""
        return jnp.concatenate([self.intercept[:, None], self._stacked()], 1)

    def _stacked(self) -> Float[Array, "d k p"]:
        """The coefficients as those of regressors."""
        return jnp.swapaxes(self.coefficients, -1, -2).reshape(self.n_states, -1, self.n_channels)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        r"""That of covariances, and $-\frac{w_0}2\sum_{x,l}\mathrm{tr}\,B_{x,l}\Lambda B_{x,l}^\top S_x^{-1}$: coefficients of zero."""
        roots = elliptical.inverse_roots(jax.vmap(cholesky)(self.covariance))
        scaled = jnp.einsum("dlpq,dpr->dlrq", self.coefficients, roots)
        near_zero = (scaled**2 * prior.spread[None, None, None]).sum()
        return elliptical.log_prior(self.covariance, self.structure, prior) - prior.weight / 2 * near_zero

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Autoregressive":
        return Autoregressive(self.intercept[order], self.coefficients[order], self.covariance[order], self.structure)

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


def _crossed(a: Float[Array, "d k p"], b: Float[Array, "d k p"]) -> Float[Array, "d p p"]:
    return jnp.einsum("dkp,dkq->dpq", a, b)


def _left_over(second: Float[Array, "d p p"], moved: Any, G: Any, H: Any) -> Float[Array, "d p p"]:
    """Sums of squares of what regressions leave over, after their coefficients moved."""
    return second - _crossed(moved, H) - _crossed(H, moved) + _crossed(moved, G @ moved)


def _solved(G: Float[Array, "d k k"], H: Float[Array, "d k p"]) -> Float[Array, "d k p"]:
    """The smallest solution of $GX=H$, with regressors in their own units."""
    size = jnp.sqrt(jnp.diagonal(G, axis1=-2, axis2=-1))
    units = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    inverse = jnp.linalg.pinv(G * units[:, :, None] * units[:, None], hermitian=True)
    return units[..., None] * (inverse @ (units[..., None] * H))
