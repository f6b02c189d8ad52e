"""Emissions that are linear regressions with coefficients that switch with the state: on known inputs, or on what is given else."""

import abc
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

_BATCH = 4096  # observations with gaps worked through at once
_ROUNDS = 10  # of a mixture of regressions, before the states of a start follow each other


class Regressions(NamedTuple):
    r"""Sums over observations with weights $w$, of the regressors $u$ (one, and what is given) and the errors $e$ of the current
    parameters: `count` $\sum w$, `squares` $\sum w\,uu^\top$, `first` $\sum w\,ue^\top$ and `second` $\sum w\,ee^\top$. Of a missing
    channel $e$ is its mean given the others, and its covariance is part of `second`."""

    count: Float[Array, " d"]
    squares: Float[Array, "d k k"]
    first: Float[Array, "d k p"]
    second: Float[Array, "d p p"]


class AbstractRegression(AbstractEmission):
    r"""$Z_t\mid x,g_t\sim\mathcal N(c_x+B_xg_t,S_x)$, where $g_t$, the numbers behind $z_t$ in a row, is given."""

    intercept: Float[Array, "d p"]
    coefficients: Float[Array, "d *k"]
    covariance: Float[Array, "d p p"]
    structure: Structure = eqx.field(static=True)

    @abc.abstractmethod
    def _stacked(self) -> Float[Array, "d k p"]:
        """The coefficients, a row for each number that is given."""

    @abc.abstractmethod
    def _unstacked(self, rows: Float[Array, "d k p"]) -> Float[Array, "d *k"]:
        """The coefficients of these rows."""

    @abc.abstractmethod
    def _spread_of_given(self, prior: Prior) -> Float[Array, " k"]:
        """The variance of what is given, as the prior has it."""

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
        """**Raises:** `ConfigurationError`: there are none without what is given."""
        raise ConfigurationError(f"The mean of {self.reads}; use means_given.")

    def means_given(self, given: Float[Array, "N k"]) -> Float[Array, "N d p"]:
        """$c_x+B_xg_t$; NaN where some of $g_t$ is missing."""
        return self.intercept[None] + jnp.einsum("nk,dkp->ndp", given, self._stacked())

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        """Those given $g_t$."""
        return self.covariance

    def log_densities(self, z: Float[Array, "N w"]) -> Float[Array, "N d"]:
        r"""$-\frac12(\delta+\log|S_{oo}|+p_o\log2\pi)$ of the channels seen; zero where nothing is seen or some of $g_t$ is missing."""
        e, known = self._errors(z)
        seen = ~jnp.isnan(e[:, 0])

        def complete():
            L = jax.vmap(cholesky)(self.covariance)
            y = jnp.einsum("ndp,dpq->ndq", jnp.nan_to_num(e), elliptical.inverse_roots(L))
            log_det = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
            return (y**2).sum(-1) + log_det[None]

        def with_gaps():
            one = lambda x: jax.vmap(elliptical.seen_part, (0, 0, None))(self.covariance, x[0], x[1])[:2]
            return sum(lax.map(one, (jnp.nan_to_num(e), seen), batch_size=_BATCH))

        found = lax.cond(elliptical.has_gaps(seen), with_gaps, complete) if self.takes_gaps else complete()
        number = seen.sum(-1, keepdims=True)
        usable = known[:, None] & (number > 0)
        return jnp.where(usable, -(found + number * math.log(2 * math.pi)) / 2, 0)

    @property
    def takes_gaps(self) -> bool:
        """Whether some channels of an observation may be missing."""
        return True

    def _errors(self, z: Float[Array, "N w"]) -> tuple[Float[Array, "N d p"], Any]:
        """What the regressions leave over, NaN where a channel is missing, and where all of $g_t$ is known."""
        given = z[:, self.n_channels :]
        known = ~jnp.isnan(given).any(-1)
        means = self.means_given(jnp.where(known[:, None], given, 0))
        return z[:, None, : self.n_channels] - means, known

    def below(self, z: Float[Array, "N w"]) -> Float[Array, "N d p"]:
        """NaN where some of $g_t$ is missing."""
        e = z[:, None, : self.n_channels] - self.means_given(z[:, self.n_channels :])
        return ndtr(e / deviations(self.covariance)[None])

    def sample_given(self, key: Any, states: Int[Array, "*n"], given: Float[Array, "*n k"]) -> Float[Array, "*n p"]:
        """One observation for each state, given $g_t$ each."""
        L = jax.vmap(cholesky)(self.covariance)
        noise = jax.random.normal(key, (*states.shape, self.n_channels), self.intercept.dtype)
        moved = jnp.einsum("...k,...kp->...p", given, self._stacked()[states])
        return self.intercept[states] + moved + jnp.einsum("...p,...pq->...q", noise, L[states])

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N w"]) -> Regressions:
        partly = elliptical.has_gaps(~jnp.isnan(z[:, : self.n_channels])) if self.takes_gaps else False
        complete = lambda: self._sums(weights, z, filled=False)

        def with_gaps():
            size = min(_BATCH, len(z))
            end = (0, -len(z) % size), (0, 0)
            padded = jnp.pad(weights, end), jnp.pad(z, end, constant_values=jnp.nan)
            blocks = tuple(a.reshape(-1, size, a.shape[-1]) for a in padded)
            one = lambda total, block: (jax.tree.map(jnp.add, total, self._sums(*block, filled=True)), None)
            start = jax.tree.map(jnp.zeros_like, jax.eval_shape(complete))
            return lax.scan(one, start, blocks)[0]

        return lax.cond(partly, with_gaps, complete) if self.takes_gaps else complete()

    def _sums(self, weights: Float[Array, "N d"], z: Float[Array, "N w"], filled: bool) -> Regressions:
        """`statistics` of a block of observations; of missing channels unless they are not `filled` in."""
        p, (e, known) = self.n_channels, self._errors(z)
        seen = ~jnp.isnan(z[:, :p])
        w = jnp.where((known & seen.any(-1))[:, None], weights, 0)
        g = jnp.where(known[:, None], z[:, p:], 0)
        u = jnp.concatenate([jnp.ones_like(g[:, :1]), g], -1)
        e, unknown = jnp.nan_to_num(e), 0.0
        if filled:
            _, _, e, C = jax.vmap(jax.vmap(elliptical.seen_part, (0, 0, None)), (None, 0, 0))(self.covariance, e, seen)
            unknown = jnp.einsum("nd,ndpq->dpq", w, C)
        squares = jnp.einsum("ndk,nj->dkj", w[..., None] * u[:, None], u)
        first = jnp.einsum("nk,ndp->dkp", u, w[..., None] * e)
        second = jnp.einsum("ndp,ndq->dpq", w[..., None] * e, e)
        return Regressions(w.sum(0), squares, first, second + unknown)

    def maximised(self, statistics: Regressions, prior: Prior) -> Any:
        r"""Weighted least squares, and the matrices $(\sum w\,ee^\top+w_0(\Lambda+B\Lambda_gB^\top))/(\sum w+w_0)$ of what they leave
        over; the least move where they have no unique solution."""
        d, p = self.intercept.shape
        count, G, H, second = statistics
        spread = self._spread_of_given(prior)
        penalty = prior.weight * jnp.concatenate([jnp.zeros_like(spread[:1]), spread])
        before = self._regression()
        moved = _solved(G + jnp.diag(penalty)[None], H - penalty[None, :, None] * before)
        rest = _left_over(second, moved, G, H)
        after = before + moved
        rest = rest + _crossed(after, penalty[None, :, None] * after)
        number = jnp.broadcast_to(count[:, None], (d, p))
        found = Moments(number, number, jnp.zeros_like(self.intercept), rest)
        own = prior.channels(0, p)
        _, S = elliptical.maximised(found, self.intercept, self.covariance, self.structure, own)
        return self._replaced(after[:, 0], self._unstacked(after[:, 1:]), S)

    def translated(self, statistics: Regressions, before: Any) -> Regressions:
        count, G, H, second = statistics
        moved = self._regression() - before._regression()
        return Regressions(count, G, H - G @ moved, _left_over(second, moved, G, H))

    @property
    def free(self) -> tuple[Array, Array, Array]:
        return self.intercept, self.coefficients, elliptical.free_roots(self.covariance, self.structure)

    def with_free(self, free: Any) -> Any:
        intercept, coefficients, roots = free
        S = elliptical.matrices_of(roots, intercept.shape, self.structure)
        return self._replaced(intercept, coefficients, S)

    def _replaced(self, intercept: Array, coefficients: Array, covariance: Array) -> Any:
        where = lambda a: (a.intercept, a.coefficients, a.covariance)
        return eqx.tree_at(where, self, (intercept, coefficients, covariance))

    def _regression(self) -> Float[Array, "d k p"]:
        """Intercept and coefficients as those of regressors, of which the first is one."""
        return jnp.concatenate([self.intercept[:, None], self._stacked()], 1)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        r"""That of covariances, and $-\frac{w_0}2\sum_x\mathrm{tr}\,B_x\Lambda_gB_x^\top S_x^{-1}$: coefficients of zero."""
        roots = elliptical.inverse_roots(jax.vmap(cholesky)(self.covariance))
        scaled = jnp.einsum("dkp,dpr->dkr", self._stacked(), roots)
        near_zero = (scaled**2 * self._spread_of_given(prior)[None, :, None]).sum()
        own = prior.channels(0, self.n_channels)
        return elliptical.log_prior(self.covariance, self.structure, own) - prior.weight / 2 * near_zero

    def permuted(self, order: Int[np.ndarray, " n"]) -> Any:
        build: Any = type(self)
        return build(self.intercept[order], self.coefficients[order], self.covariance[order], self.structure)


class Regression(AbstractRegression):
    r"""A regression on known inputs $u_t$ in each state, a Markov-switching regression as of [GoldfeldQuandt1973]:

    $$Z_t\mid x,u_t\sim\mathcal N(c_x+B_xu_t,\;S_x).$$

    The inputs are the last `q` columns of the data, behind the `p` channels: a row is $(z_t,u_t)$. They are known at every time; a
    channel of $z_t$ that is NaN is integrated out.

    **Arguments:** `intercept` $c$ `[d p]`; `coefficients` $B$ `[d p q]`, rows are what is predicted; `covariance` $S$ `[d p p]`,
    positive definite; `structure` of the covariances, as of `Gaussian`.

    **Raises:** `DataError` as `Gaussian`, and for coefficients of another shape.
    """

    coefficients: Float[Array, "d p q"]

    def __init__(self, intercept: Any, coefficients: Any, covariance: Any, structure: Any = "full"):
        given = checked(intercept=(intercept, 2), coefficients=(coefficients, 3), covariance=(covariance, 3))
        self.intercept, self.coefficients, self.covariance = given
        self.structure = structure
        d, p = self.intercept.shape
        require(
            self.coefficients.shape[:2] == (d, p),
            f"`coefficients` has shape {self.coefficients.shape}; intercepts [{d} {p}] need [{d} {p} q] for q inputs.",
        )
        check_matrices("covariance", self.intercept, self.covariance, structure)

    @property
    def n_inputs(self) -> int:
        return self.coefficients.shape[2]

    @property
    def reads(self) -> str:
        return "a Regression depends on the inputs of its time"

    def _stacked(self) -> Float[Array, "d q p"]:
        return jnp.swapaxes(self.coefficients, -1, -2)

    def _unstacked(self, rows: Float[Array, "d q p"]) -> Float[Array, "d p q"]:
        return jnp.swapaxes(rows, -1, -2)

    def _spread_of_given(self, prior: Prior) -> Float[Array, " q"]:
        return prior.spread[self.n_channels :]

    def log_densities(self, z: Float[Array, "N w"]) -> Float[Array, "N d"]:
        """As of every regression; NaN for an observation whose inputs are missing, which data do not have."""
        seen = ~jnp.isnan(z[:, : self.n_channels]).all(-1)
        unknown = jnp.isnan(z[:, self.n_channels :]).any(-1)
        return jnp.where((seen & unknown)[:, None], jnp.nan, super().log_densities(z))

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        """**Raises:** `ConfigurationError`: `sample_given` takes the inputs."""
        raise ConfigurationError(f"An observation of {self.reads}; use sample_given(key, states, inputs).")

    @classmethod
    def kind(cls, *, inputs: int = 1, structure: Any = "full") -> Family:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The kind with this many inputs. **Raises:** `ConfigurationError` for fewer than one, or an unknown structure."""
        COUNT.check("inputs", inputs)
        check_option("structure", structure, STRUCTURES)
        return Family(cls, (("inputs", inputs), ("structure", structure)))

    @classmethod
    def started(
        cls, weights: Any, z: Any, prior: Prior, rng: Any, *, inputs: int = 1, structure: Structure = "full"
    ) -> "Regression":
        """Of the regressions on the observations that belong to each state and those on one stretch of time for each, both improved as a
        mixture of regressions, the likelier: groups of like observations know nothing of slopes."""
        N, d = weights.shape
        p = z.shape[1] - inputs
        mean, S = of_all_data(d, prior.channels(0, p), structure)
        first = cls(mean, jnp.zeros((d, p, inputs), S.dtype), S, structure)
        length = min(N, max(2 * (inputs + 2), N // (4 * d)))
        near = np.full((N, d), 0.1 / d, weights.dtype)
        for x in range(d):
            begin = rng.integers(0, N - length + 1)
            near[begin : begin + length, x] += 0.9
        tried = [_mixture(first, jnp.asarray(w), jnp.asarray(z), at_least_one(prior)) for w in (weights, near)]
        return max(tried, key=lambda found: float(found[1]))[0]


@jax.jit
def _mixture(
    first: AbstractRegression, weights: Float[Array, "N d"], z: Float[Array, "N w"], prior: Prior
) -> tuple[Any, Float[Array, ""]]:
    """Some rounds of EM for a mixture of regressions in equal shares, and its log-likelihood."""

    def improved(_, emission):
        shares = jax.nn.softmax(emission.log_densities(z), -1)
        return emission.maximised(emission.statistics(shares, z), prior)

    start = first.maximised(first.statistics(weights, z), prior)
    last = lax.fori_loop(0, _ROUNDS, improved, start)
    return last, jax.nn.logsumexp(last.log_densities(z), -1).sum()


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
