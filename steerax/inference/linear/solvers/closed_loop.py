"""The prestabilised solver: conjugate gradients around the feedback of a truncated dual Riccati equation.

Plain conjugate gradients on the controls fail like `r^{2T}` on a process with spectral radius `r > 1`, and can even
report a convergence they do not have. Around the optimal feedback of a nearby process, the same process with its
taps cut after `n` lags, the passes are stable and the operator is close to the known covariance of the innovations,
so a handful of iterations suffices; with all taps kept one is enough.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ....maths.krylov import conjugate_gradients
from ....models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel, TimeVaryingLinearGaussianModel
from ..filter import covariance_roots
from ..kernels.passes import AbstractPasses, TapPasses, cost, operator_passes
from ..kernels.riccati import observer_form, riccati


class Controls(NamedTuple):
    """An optimal control and what it costs; independent of the observed values.

    `u` `[T p k]`; `y_0` `[d k]`, the costate at the start; `J` `[k k]`, the error covariance as a sum of squares;
    `iterations`; `residual` `[k]`, the size of the gradient in a stable norm, such that its square is the relative
    excess `J(u)/J* - 1`: the estimates are off by this fraction of their posterior standard deviation.
    """

    u: Float[Array, "T p k"]
    y_0: Float[Array, "d k"]
    J: Float[Array, "k k"]
    iterations: Int[Array, ""]
    residual: Float[Array, " k"]


def feedback_gains(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], lags: int
) -> tuple[Float[Array, "T n p d"], Float[Array, "T p p"]]:
    """`(K, S⁻¹)`: gain blocks `K_{t,j}` and inverse innovation covariances of the process cut after `lags` taps.

    Taps beyond are dropped, never lumped into the last one, which would move the poles of the feedback.
    """
    T, p = mask.shape
    d = model.n_states
    roots = covariance_roots(model)
    if isinstance(model, LinearGaussianModel):
        n = min(lags, model.order, T)
        run = riccati(observer_form(model, model.transition[:n], roots), mask, 0)
    else:
        n = min(lags, T)
        F = _operator_in_observer_form(model.transition[:T, :T], n)
        template = observer_form(model, jnp.zeros((n, d, d), F.dtype), roots)
        run = riccati(template, mask, 0, F)
    inverse_root = jax.scipy.linalg.solve_triangular(
        run.U, jnp.broadcast_to(jnp.eye(p, dtype=run.U.dtype), run.U.shape)
    )
    seen = mask.astype(run.U.dtype)
    S_inverse = seen[:, :, None] * seen[:, None, :] * jnp.einsum("tpi,tqi->tpq", inverse_root, inverse_root)
    return run.K.reshape(T, n, d, p).transpose(0, 1, 3, 2), S_inverse


def _operator_in_observer_form(A: Float[Array, "T T d d"], n: int) -> Float[Array, "T a a"]:
    """Step matrices `F_t` whose first block column is `A_{t,t}, A_{t+1,t}, …, A_{t+n-1,t}`."""
    T, _, d, _ = A.shape
    t = jnp.arange(T)[:, None]
    rows = t + jnp.arange(n)[None, :]
    column = jnp.where((rows < T)[:, :, None, None], A[jnp.minimum(rows, T - 1), t], 0.0)
    shift = jnp.eye(n * d, k=d, dtype=A.dtype)
    return jnp.broadcast_to(shift[None], (T, n * d, n * d)).at[:, :, :d].add(column.reshape(T, n * d, d))


def make_passes(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], K: Float[Array, "T n p d"]
) -> AbstractPasses:
    """The passes of a model around given gain blocks (`n = 0` for the open loop)."""
    H, R, Q, S_0 = model.observation, model.observation_noise, model.process_noise, model.initial_covariance
    if isinstance(model, TimeVaryingLinearGaussianModel):
        T = len(mask)
        return operator_passes(model.transition[:T, :T], K, H, R, Q, S_0, mask)
    return TapPasses(model.transition, H, R, Q, S_0, mask.astype(H.dtype)[..., None], K)


def solve_closed_loop(
    model: AbstractLinearGaussianModel,
    mask: Bool[Array, "T p"],
    source: Float[Array, "T1 d k"],
    lags: int,
    tolerance: float,
    max_steps: int,
    window: Float[Array, "T one k"] | None = None,
) -> Controls:
    """The optimal controls for `Σ_t source_tᵀ X_t`, by conjugate gradients in the closed loop of `lags` taps.

    `window` (0 or 1) restricts each functional to some of the observations; it must allow all of them up to the
    last time at which the functional's source is not zero, or be absent.
    """
    gains, S_inverse = feedback_gains(model, mask, lags)
    passes = make_passes(model, mask, gains)
    allowed = mask.astype(source.dtype)[..., None] if window is None else mask.astype(source.dtype)[..., None] * window

    def restricted(v):
        return allowed * passes(allowed * v)

    def precondition(g):
        return allowed * jnp.einsum("tpq,tqk->tpk", S_inverse, g)

    T, p = mask.shape
    rest = jnp.zeros((T, p, source.shape[2]), source.dtype)
    y, u = passes.backward(rest, source)
    b = -allowed * passes.forward(y, u)
    scale = jnp.diagonal(cost(y, u, *noises(model)))
    solution = conjugate_gradients(restricted, b, precondition, tolerance, max_steps, scale)
    y, u = passes.backward(solution.x, source)
    J = cost(y, u, *noises(model))
    return Controls(u, y[0], J, solution.iterations, solution.residual * relative(scale, jnp.diagonal(J)))


def relative(scale: Float[Array, " k"], J: Float[Array, " k"]) -> Float[Array, " k"]:
    """`√(scale/J)`, turning a residual relative to `scale` into one relative to the error variance (1 where J = 0)."""
    return jnp.where(J > 0, jnp.sqrt(scale / jnp.where(J > 0, J, 1.0)), 1.0)


def noises(model: AbstractLinearGaussianModel) -> tuple[Array, Array, Array]:
    """`Σ_0, Q, R`."""
    return model.initial_covariance, model.process_noise, model.observation_noise


def stable_residual(
    model: AbstractLinearGaussianModel,
    mask: Bool[Array, "T p"],
    source: Float[Array, "T1 d k"],
    u: Float[Array, "T p k"],
    lags: int,
) -> Float[Array, " k"]:
    """The residual of controls found by any means, as in `Controls`, measured in the closed loop.

    The costates of `u` are those of the open loop, so whatever an unstable process makes of the errors in `u` shows.
    """
    gains, S_inverse = feedback_gains(model, mask, lags)
    y, u = make_passes(model, mask, gains[:, :0]).backward(u, source)
    g = make_passes(model, mask, gains).forward(y, u)
    J = jnp.diagonal(cost(y, u, *noises(model)))
    return relative(jnp.einsum("tpk,tpq,tqk->k", g, S_inverse, g), J)


def uncontrolled(
    model: AbstractLinearGaussianModel, mask: Bool[Array, "T p"], source: Float[Array, "T1 d k"], lags: int
) -> Controls:
    """No control at all: the estimate that ignores the data, with its own error covariance."""
    u = jnp.zeros((*mask.shape, source.shape[2]), source.dtype)
    y, _ = make_passes(model, mask, jnp.zeros((len(mask), 0, *model.observation.shape), source.dtype)).backward(
        u, source
    )
    residual = stable_residual(model, mask, source, u, lags)
    return Controls(u, y[0], cost(y, u, *noises(model)), jnp.asarray(0), residual)
