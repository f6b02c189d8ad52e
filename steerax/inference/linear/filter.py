"""The Kalman filter of any order: the baseline, and the tool of choice when order times dimension is small."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import DataError
from ..._results import RESULTS
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..results import Filtered, Gaussian
from .kernels.filter_pass import Pass, filter_pass


class FilteredSeries(Filtered):
    r"""`Filtered` for series.

    **Attributes:** those of `Filtered`, with `Gaussian` records; `innovations` `[T p]`, $Z_t$ minus its prediction, 0 where
    missing; `mask` `[T p]`, what was observed; `run`, the arrays of the pass.
    """

    model: LinearGaussianModel
    run: Pass
    mask: Bool[Array, "*batch T p"]
    lengths: Int[np.ndarray, " batch"] | None = None

    @property
    def predicted(self) -> Gaussian:
        return Gaussian(self.run.x[..., : self.model.n_states], self.run.P)

    @property
    def filtered(self) -> Gaussian:
        before = self.predicted
        x, P = before.mean[..., :-1, :], before.covariance[..., :-1, :, :]
        return _updated(self.model, x, P, self.innovations, self.mask)

    @property
    def innovations(self) -> Float[Array, "*batch T p"]:
        return self.run.e

    @property
    def log_likelihoods(self) -> Float[Array, "*batch T"]:
        return self.run.log_likelihoods

    @property
    def log_likelihood(self) -> Float[Array, "*batch"]:
        return self.run.log_likelihoods.sum(-1)

    @property
    def result(self) -> RESULTS:
        return RESULTS.successful if _finite(self.run.log_likelihoods, self.run.P) else RESULTS.breakdown

    def next_all(self) -> Gaussian:
        r"""The distribution of $Z_t$ given $Z_{<t}$ for every $t=0\dots T$, its noise included."""
        return observed(self.model, self.predicted)


def observed(model: AbstractLinearGaussianModel, states: Gaussian) -> Gaussian:
    """The distributions of the observations that states emit, the noise of the observation included."""
    H, c, R = model.observation, model.observation_offset, model.observation_noise
    mean = states.mean @ H.T + jnp.broadcast_to(c, (*states.mean.shape[:-1], len(c)))
    spread = jnp.einsum("pd,...de,qe->...pq", H, states.covariance, H)
    return Gaussian(mean, spread + jnp.broadcast_to(R, spread.shape))


@jax.jit
def _updated(
    model: LinearGaussianModel,
    x: Float[Array, "*batch T d"],
    P: Float[Array, "*batch T d d"],
    e: Float[Array, "*batch T p"],
    mask: Bool[Array, "*batch T p"],
) -> Gaussian:
    r"""The distribution of $X_t$ given $Z_t$ too, by the gain $K=PH^\top S^{-1}$ and the form
    $(I-KH)P(I-KH)^\top+KRK^\top$ of the covariance, whose error is quadratic in that of $K$."""
    H, R, d = model.observation, model.observation_noise, model.n_states

    def one(x, P, e, seen):
        H_seen = H * seen.astype(P.dtype)[:, None]
        S = H_seen @ P @ H_seen.T + R * jnp.outer(seen, seen) + jnp.diag(1 - seen.astype(P.dtype))
        K = jnp.linalg.solve(S, H_seen @ P).T
        rest = jnp.eye(d, dtype=P.dtype) - K @ H_seen
        return x + K @ e, rest @ P @ rest.T + K @ R @ K.T

    for _ in range(x.ndim - 1):
        one = jax.vmap(one)
    return Gaussian(*one(x, P, e, mask))


def filter_series(model: AbstractLinearGaussianModel, data: Any) -> FilteredSeries:
    r"""The distribution of $X_t$ given $Z_{<t}$ for every $t=0\dots T$, by the square-root Kalman filter

    $$P_{t+1}=FP_tF^\top+Q-K_tS_tK_t^\top,\qquad S_t=HP_tH^\top+R,\qquad x_{t+1}=Fx_t+K_t(Z_t-c-Hx_t)$$

    on the history $(X_t,\dots,X_{t-m+1})$, $O((md)^3)$ a step until the covariance settles and $O((md)^2)$ after. For orders
    $m$ in the tens and beyond `dual_filter` gives the same for less.

    **Arguments:** `data`, `[T p]` (or `[T]` if `p = 1`), NaN where missing; or a `Sequences`. The `result` is
    `RESULTS.breakdown` if an innovation has variance zero ($R$ and the predicted covariance are both singular) or the
    covariance overflows.

    **Raises:** `DataError` for observations whose shape does not fit, infinite ones, or a model that varies in time.
    """
    if not isinstance(model, LinearGaussianModel):
        raise DataError("filter takes a time-invariant LinearGaussianModel; for a time-varying one use dual_filter.")
    several = isinstance(data, Sequences)
    z, mask = as_batch(model, data) if several else as_observations(model, data)
    run = (_filter_batch if several else _filter_one)(model, z, mask)
    return FilteredSeries(model=model, run=run, mask=mask, lengths=np.asarray(data.lengths) if several else None)


def score_series(model: AbstractLinearGaussianModel, data: Sequences) -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every time of a data set; `scored` counts the observed channels, so that the mean is
    nats per observed number. **Raises:** as `filter_series`."""
    filtered = filter_series(model, data)
    return TokenScores(np.asarray(filtered.log_likelihoods, np.float64), np.asarray(filtered.mask).sum(-1))


@jax.jit
def _finite(*arrays: Array) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in arrays]))


@jax.jit
def _filter_one(model, z, mask):
    return filter_pass(model, z, mask, model.n_states)


@jax.jit
def _filter_batch(model, z, mask):
    return jax.lax.map(lambda one: filter_pass(model, one[0], one[1], model.n_states), (z, mask))


def as_observations(model: AbstractLinearGaussianModel, observations: Any) -> tuple[Array, Array]:
    """`(z, mask)`, `[T p]` each: the observations in the model's dtype with 0 where they are missing (NaN)."""
    z = np.asarray(observations)
    p = model.n_channels
    if z.ndim == 1 and p == 1:
        z = z[:, None]
    if z.ndim != 2 or z.shape[1] != p or len(z) == 0 or not np.issubdtype(z.dtype, np.number):
        raise DataError(f"The observations have shape {z.shape}; the model needs [T {p}] with T at least 1.")
    z = z.astype(model.observation.dtype)
    if np.isinf(z).any():
        raise DataError(f"The observation at position {int(np.argwhere(np.isinf(z))[0, 0])} is infinite.")
    mask = ~np.isnan(z)
    return jnp.asarray(np.where(mask, z, 0.0)), jnp.asarray(mask)


def as_batch(model: AbstractLinearGaussianModel, data: Sequences) -> tuple[Array, Array]:
    """`(z, mask)`, `[B T p]` each: padding counts as missing."""
    if data.is_tokens or data.values.shape[2] != model.n_channels:
        raise DataError(f"The data must be observations with {model.n_channels} channels, as the model has.")
    mask = np.isfinite(data.values)
    z = np.where(mask, data.values, 0.0).astype(model.observation.dtype)
    return jnp.asarray(z), jnp.asarray(mask)
