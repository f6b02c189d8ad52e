r"""The control problem behind an estimate, and what every solver gives back; see `kernels/passes.py` for the mathematics."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ....models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel, TimeVaryingLinearGaussianModel
from ..kernels.filter_pass import covariance_roots
from ..kernels.passes import AbstractPasses, TapPasses, cost, operator_passes
from ..kernels.riccati import observer_form, riccati

QUERIES = ("last", "all")


class Controls(NamedTuple):
    r"""Optimal controls and what they cost; independent of the observed values. Perhaps with a leading axis of queries.

    `u` `[T p k]`; `y_0` `[d k]`, the costate at the start; `J` `[k k]`, the error covariance as a sum of squares;
    `iterations`; `residual` `[k]`, the size of the gradient in a stable norm, such that its square is the relative
    excess $J(u)/J^*-1$: the estimates are off by this fraction of their posterior standard deviation;
    `spectral_radius` of the plain layer, from `Picard` only.
    """

    u: Float[Array, "*n T p k"]
    y_0: Float[Array, "*n d k"]
    J: Float[Array, "*n k k"]
    iterations: Int[Array, ""]
    residual: Float[Array, "*n k"]
    spectral_radius: Float[Array, ""] | None = None


class DualProblem(eqx.Module):
    r"""Estimate $\sum_tf_t^\top X_t$ from the observations that `mask` marks, by controls of the costate.

    **Attributes:** `model`; `mask` `[T p]`, what is observed; `source` `[T+1 d k]`, the functionals $f$, usually not zero
    at one time only; `window` `[T 1 k]` (0 or 1), which observations each functional may use: all of them up to the last
    time at which its source is not zero, or `None` for all.
    """

    model: AbstractLinearGaussianModel
    mask: Bool[Array, "T p"]
    source: Float[Array, "T1 d k"]
    window: Float[Array, "T one k"] | None = None

    @property
    def noises(self) -> tuple[Array, Array, Array]:
        r"""$\Sigma_0,Q,R$."""
        return self.model.initial_covariance, self.model.process_noise, self.model.observation_noise

    def rest(self, columns: int | None = None) -> Float[Array, "T p c"]:
        """Controls that are zero, for the functionals or for another number of them."""
        return jnp.zeros((*self.mask.shape, self.source.shape[2] if columns is None else columns), self.source.dtype)

    def passes(self, K: Float[Array, "T n p d"] | None = None) -> AbstractPasses:
        """The passes around given gain blocks; `None` is the open loop."""
        model, (T, p) = self.model, self.mask.shape
        H, (S_0, Q, R) = model.observation, self.noises
        K = jnp.zeros((T, 0, p, model.n_states), H.dtype) if K is None else K
        if isinstance(model, TimeVaryingLinearGaussianModel):
            return operator_passes(model.transition[:T, :T], K, H, R, Q, S_0, self.mask)
        return TapPasses(model.transition, H, R, Q, S_0, self.mask.astype(H.dtype)[..., None], K)

    def cost(self, y: Float[Array, "T1 d k"], u: Float[Array, "T p k"]) -> Float[Array, "k k"]:
        """$J$, bilinear: the error covariance of the estimates."""
        return cost(y, u, *self.noises)

    def feedback_gains(self, lags: int) -> tuple[Float[Array, "T n p d"], Float[Array, "T p p"]]:
        r"""$(K,S^{-1})$: gain blocks $K_{t,j}$ and inverse innovation covariances of the process cut after `lags` taps.

        Taps beyond are dropped, never lumped into the last one, which would move the poles of the feedback.
        """
        model, (T, p), d = self.model, self.mask.shape, self.model.n_states
        roots = covariance_roots(model)
        if isinstance(model, LinearGaussianModel):
            n = min(lags, model.order, T)
            run = riccati(observer_form(model, model.transition[:n], roots), self.mask, 0)
        else:
            n = min(lags, T)
            F = _operator_in_observer_form(model.transition[:T, :T], n)
            template = observer_form(model, jnp.zeros((n, d, d), F.dtype), roots)
            run = riccati(template, self.mask, 0, F)
        identity = jnp.broadcast_to(jnp.eye(p, dtype=run.U.dtype), run.U.shape)
        inverse_root = jax.scipy.linalg.solve_triangular(run.U, identity)
        seen = self.mask.astype(run.U.dtype)
        S_inverse = seen[:, :, None] * seen[:, None, :] * jnp.einsum("tpi,tqi->tpq", inverse_root, inverse_root)
        return run.K.reshape(T, n, d, p).transpose(0, 1, 3, 2), S_inverse


def _operator_in_observer_form(A: Float[Array, "T T d d"], n: int) -> Float[Array, "T a a"]:
    r"""Step matrices $F_t$ whose first block column is $A_{t,t},A_{t+1,t},\dots,A_{t+n-1,t}$."""
    T, _, d, _ = A.shape
    t = jnp.arange(T)[:, None]
    rows = t + jnp.arange(n)[None, :]
    column = jnp.where((rows < T)[:, :, None, None], A[jnp.minimum(rows, T - 1), t], 0.0)
    shift = jnp.eye(n * d, k=d, dtype=A.dtype)
    return jnp.broadcast_to(shift[None], (T, n * d, n * d)).at[:, :, :d].add(column.reshape(T, n * d, d))


def relative(scale: Float[Array, " k"], J: Float[Array, " k"]) -> Float[Array, " k"]:
    r"""$\sqrt{\mathrm{scale}/J}$, turning a residual relative to `scale` into one relative to the error variance (1 where
    $J=0$)."""
    return jnp.where(J > 0, jnp.sqrt(scale / jnp.where(J > 0, J, 1.0)), 1.0)


class AbstractSolver(abc.ABC):
    """A way to solve a `DualProblem`; its options are its fields."""

    answers: tuple[str, ...] = ("last",)  # which `queries` it can serve

    @abc.abstractmethod
    def check(self, model: AbstractLinearGaussianModel, mask: Bool[Array, "B T p"]) -> None:
        """Raises `ConfigurationError` if it cannot serve this model and these data, or if an option has no sense."""

    @abc.abstractmethod
    def solve(self, problem: DualProblem) -> Any:
        """`Controls`."""

    def small_enough(self, residual: Any, dtype: Any) -> bool:
        """Whether a verified residual is at most the tolerance or the square root of the precision."""
        return bool(jnp.max(residual) <= max(self.tolerance_of(dtype), float(jnp.finfo(dtype).eps) ** 0.5))

    def tolerance_of(self, dtype: Any) -> float:
        """The tolerance asked for, or 64 units of rounding."""
        tolerance = getattr(self, "tolerance", None)
        return float(64 * jnp.finfo(dtype).eps) if tolerance is None else tolerance

    def exhausted(self, iterations: int) -> bool:
        """Whether it stopped because its steps were spent."""
        return iterations >= getattr(self, "max_steps", iterations + 1)
