"""The Kalman filter of any order: the baseline, and the tool of choice when order times dimension is small."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import DataError
from ..._results import RESULTS, is_traced, successful_if
from ...data.convert import converted, one_frame
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..devices import mesh_of, on_host, over_devices
from ..results import Filtered, Gaussian
from .kernels.kalman import FilterPass, filter_pass, over_series, update


class FilteredSeries(Filtered):
    r"""`Filtered` for series.

    **Attributes:** those of `Filtered`, with `Gaussian` records; `innovations` `[T p]`, $Z_t$ minus its prediction, 0 where
    missing; `mask` `[T p]`, what was observed; `run`, the arrays of the pass.
    """

    model: LinearGaussianModel
    run: FilterPass
    mask: Bool[Array | np.ndarray, "*batch T p"]
    lengths: Int[np.ndarray, " batch"] | None = None

    @property
    def predicted(self) -> Gaussian:
        return Gaussian(self.run.x[..., : self.model.n_states], self.run.P)

    @property
    def filtered(self) -> Gaussian:
        x, P = self.predicted.mean[..., :-1, :], self.run.P[..., :-1, :, :]
        model, over = self.model, over_devices(mesh_of(x), _updates, (None, None, 0, 0, 0, 0, 0), (0, 0))
        return Gaussian(*over(model.observation, model.observation_noise, x, P, self.run.U, self.run.e, self.mask))

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
        return successful_if(_finite(self.run.log_likelihoods, self.run.P), RESULTS.breakdown)

    def next_all(self) -> Gaussian:
        r"""The distribution of $Z_t$ given $Z_{<t}$ for every $t=0\dots T$, its noise included."""
        return observed(self.model, self.predicted)


run_filter = over_series(lambda model, z, mask: filter_pass(model, z, mask, model.n_states))
_updates = jax.jit(jnp.vectorize(update, excluded=(0, 1), signature="(d),(d,d),(p,p),(p),(p)->(d),(d,d)"))


@jax.jit
def _finite(*arrays: Array) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(a).all() for a in arrays]))


def observed(model: AbstractLinearGaussianModel, states: Gaussian) -> Gaussian:
    """The distributions of the observations that states emit, the noise of the observation included."""
    H, c, R = model.observation, model.observation_offset, model.observation_noise
    mean = states.mean @ H.T + jnp.broadcast_to(c, (*states.mean.shape[:-1], len(c)))
    spread = jnp.einsum("pd,...de,qe->...pq", H, states.covariance, H)
    return Gaussian(mean, spread + jnp.broadcast_to(R, spread.shape))


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
    model = time_invariant(model, "filter")
    z, mask = series_to_spread(model, data)
    lengths = np.asarray(data.lengths) if isinstance(data, Sequences) else None
    run = over_devices(mesh_of(data), run_filter, (None, 0, 0), 0)(model, z, mask)
    return FilteredSeries(model=model, run=run, mask=mask, lengths=lengths)


def score_series(model: AbstractLinearGaussianModel, data: Sequences) -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every time of a data set; `scored` counts the observed channels, so that the mean is
    nats per observed number. **Raises:** as `filter_series`."""
    filtered = filter_series(model, data)
    return TokenScores(on_host(filtered.log_likelihoods).astype(np.float64), np.asarray(filtered.mask).sum(-1))


def time_invariant(model: AbstractLinearGaussianModel, verb: str) -> LinearGaussianModel:
    """The model. **Raises:** `DataError` if it varies in time."""
    if isinstance(model, LinearGaussianModel):
        return model
    raise DataError(f"{verb} takes a time-invariant LinearGaussianModel; for a time-varying one use dual_filter.")


def as_series(
    model: AbstractLinearGaussianModel, data: Any
) -> tuple[Float[Array, "*batch T p"], Bool[Array, "*batch T p"]]:
    """`(z, mask)`, `[T p]` or for a `Sequences` `[B T p]`: the observations in the model's dtype with 0 where they are
    missing, and which ones are there; padding counts as missing.

    **Raises:** `DataError` for another shape or infinite values.
    """
    z, mask = _checked(model, data)
    return jnp.asarray(z), jnp.asarray(mask)


def series_to_spread(model: AbstractLinearGaussianModel, data: Any) -> tuple[Any, Any]:
    """`as_series` for `over_devices`: what is to be spread stays on the host."""
    return (as_series if mesh_of(data) is None else _checked)(model, data)


def _checked(model: AbstractLinearGaussianModel, data: Any) -> tuple[Any, Any]:
    p = model.n_channels
    data = one_frame(converted(data, "observations"), data, model.check_channels)
    if isinstance(data, Sequences):
        if data.is_tokens or data.values.shape[2] != p:
            raise DataError(f"The data must be observations with {p} channels, as the model has.")
        model.check_channels(data.columns)
        z = data.values
    else:
        z = data if is_traced(data) else np.asarray(data)
        z = z[:, None] if z.ndim == 1 and p == 1 else z
        real = jnp.issubdtype(z.dtype, jnp.floating) or jnp.issubdtype(z.dtype, jnp.integer)
        if z.ndim != 2 or z.shape[1] != p or len(z) == 0 or not real:
            raise DataError(
                f"The observations are {z.dtype}{list(z.shape)}; the model needs numbers [T {p}], T at least 1."
            )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named below
        z = z.astype(model.observation.dtype)
    if is_traced(z):
        z = eqx.error_if(z, jnp.isinf(z), "An observation is infinite.")
        return jnp.where(jnp.isnan(z), 0.0, z), ~jnp.isnan(z)
    if np.isinf(z).any():
        raise DataError(
            f"The observation at position {int(np.argwhere(np.isinf(z))[0, -2])} is infinite, or too large for {z.dtype}."
        )
    mask = ~np.isnan(z)
    return np.where(mask, z, z.dtype.type(0)), mask
