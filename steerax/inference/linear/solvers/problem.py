r"""The control problem behind an estimate, and what every solver gives back; see `kernels/passes.py` for the mathematics."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...._bounds import COUNT, POSITIVE
from ...._errors import ConfigurationError
from ...._results import RESULTS, is_traced, result_where, successful_if
from ....maths.covariance import solve_upper
from ....models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from ..kernels.passes import AbstractPasses, cost, make_passes
from ..kernels.riccati import observer_form, riccati

_LARGEST_FEEDBACK = 128  # lags times states: the size of the Riccati equation


class Controls(NamedTuple):
    r"""Optimal controls and what they cost; independent of the observed values. Perhaps with a leading axis of queries.

    `u` `[T p k]`; `y_0` `[d k]`, the costate at the start; `J` `[k k]`, the error covariance as a sum of squares;
    `iterations`; `residual` `[k]`, the size of the gradient in a stable norm, such that its square is the relative
    excess $J(u)/J^*-1$: the estimates are off by this fraction of their posterior standard deviation;
    `spectral_radius` of the plain layer, from `Picard` only; `result`.
    """

    u: Float[Array, "*n T p k"]
    y_0: Float[Array, "*n d k"]
    J: Float[Array, "*n k k"]
    iterations: Int[Array | np.ndarray, ""]
    residual: Float[Array, "*n k"]
    spectral_radius: Float[Array, ""] | None = None
    result: RESULTS = RESULTS.successful


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

    def passes(self, K: Float[Array, "T n p d"] | None = None) -> AbstractPasses:
        """The passes around given gain blocks; `None` is the open loop."""
        return make_passes(self.model, self.mask, K)

    def cost(self, y: Float[Array, "T1 d k"], u: Float[Array, "T p k"]) -> Float[Array, "k k"]:
        """$J$, bilinear: the error covariance of the estimates."""
        return cost(self.model, y, u)

    def feedback(self, lags: int) -> tuple[Float[Array, "T n p d"], Float[Array, "T p p"]]:
        r"""$(K,S^{-1})$: gain blocks $K_{t,j}$ and inverse innovation covariances of the process cut after `lags` taps.

        Taps beyond are dropped, never lumped into the last one, which would move the poles of the feedback.
        """
        model, (T, p), d = self.model, self.mask.shape, self.model.n_states
        if isinstance(model, LinearGaussianModel):
            n = min(lags, model.order, T)
            run = riccati(observer_form(model, model.transition[:n]), self.mask, 0)
        else:
            n = min(lags, T)
            F = _operator_in_observer_form(model.transition[:T, :T], n)
            run = riccati(observer_form(model, jnp.zeros((n, d, d), F.dtype)), self.mask, 0, F)
        identity = jnp.broadcast_to(jnp.eye(p, dtype=run.U.dtype), run.U.shape)
        inverse_root = solve_upper(run.U, identity)
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


class AbstractSolver:
    """A way to predict; its options are its fields, and these are the values of those it does not have."""

    lags: int = 16
    tolerance: float | None = None
    max_steps: int = 200

    answers: tuple[str, ...] = ("last",)  # which `queries` it can serve
    serves_all_data = True  # also gaps and models that vary in time

    def check(self, model: AbstractLinearGaussianModel, mask: Bool[Array, "*batch T p"], queries: str) -> None:
        """Raises `ConfigurationError` if it cannot serve this model and these data, or if an option makes no sense."""
        name = type(self).__name__
        COUNT.check(f"max_steps of {name}", self.max_steps)
        COUNT.check(f"lags of {name}", self.lags)
        if self.tolerance is not None:
            POSITIVE.check(f"tolerance of {name}", self.tolerance)
        if not self.serves_all_data and is_traced(mask):
            raise ConfigurationError(
                f"{name} must know that nothing is missing, and inside jit it cannot; use ClosedLoop."
            )
        if not self.serves_all_data and not (isinstance(model, LinearGaussianModel) and bool(mask.all())):
            raise ConfigurationError(
                f"{name} needs a time-invariant model and complete data; use ClosedLoop for gaps and operators."
            )
        if queries not in self.answers:
            other = "Schur or ClosedLoop" if queries == "all" else "another solver"
            raise ConfigurationError(f"{name} answers queries={self.answers[0]!r}; for {queries!r} use {other}.")


class AbstractControlSolver(AbstractSolver, abc.ABC):
    """A way to solve a `DualProblem`."""

    @abc.abstractmethod
    def controls(self, problem: DualProblem) -> Controls:
        """The controls, not yet judged."""

    def solve(self, problem: DualProblem) -> Controls:
        """The optimal controls and the `result`."""
        return self.judged(self.controls(problem))

    def judged(self, controls: Controls) -> Controls:
        """The controls with their `result`: successful if the verified residual is at most the tolerance or the square
        root of the precision, whichever is larger."""
        J, eps = controls.J, float(jnp.finfo(controls.J.dtype).eps)
        xp = jnp if is_traced(controls) else np
        finite, exhausted = xp.isfinite(J).all(), xp.max(controls.iterations) >= self.max_steps
        good = finite & (xp.max(controls.residual) <= max(self.tolerance_of(J.dtype), eps**0.5))
        failure = result_where(finite & exhausted, RESULTS.max_steps_reached, RESULTS.breakdown)
        return controls._replace(result=successful_if(good, failure))

    def tolerance_of(self, dtype: np.dtype) -> float:
        """The tolerance asked for, or 64 units of rounding."""
        return float(64 * jnp.finfo(dtype).eps) if self.tolerance is None else self.tolerance

    def lags_of(self, problem: DualProblem) -> int:
        """The taps that the feedback keeps: fewer than `lags` where lags times states would exceed 128."""
        return max(1, min(self.lags, _LARGEST_FEEDBACK // problem.model.n_states))
