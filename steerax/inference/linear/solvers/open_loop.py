r"""Time-invariant, complete data: passes by fast Fourier transform and a skew-circulant preconditioner.

With the impulse responses $G(z)=(I-\sum_jA_jz^{j+1})^{-1}=\sum_tG_tz^t$ and $\varphi_t=HG_t$, the costate and momentum
passes are one correlation and one convolution with $\varphi$,

$$y_t=G_{q-t}^\top f+\sum_{s\ge t}\varphi_{s-t}^\top u_s,\qquad Hp_t=\sum_{s\le t}\varphi_{t-s}D_sy_s,\qquad D_0=\Sigma_0,\ D_s=Q,$$

$O(dT\log T)$ each, whatever the order. The covariance of the observations is close to Toeplitz with symbol
$S(\omega)=\hat\varphi Q\hat\varphi^*+R$; it is preconditioned by the skew-circulant matrix with that symbol, whose
frequencies $(2k+1)\pi/T$ avoid $\omega=0$, where a unit root makes the plain circulant singular.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ...._errors import ConfigurationError
from ....maths.krylov import conjugate_gradients
from ....models.linear_gaussian import LinearGaussianModel
from ..kernels.passes import cost
from .closed_loop import ClosedLoop, check_iteration, stable_residual, uncontrolled
from .problem import AbstractSolver, Controls, DualProblem, relative

MOST_GROWTH = 100.0  # impulse response above which the open loop loses too many digits


@dataclasses.dataclass(frozen=True)
class OpenLoop(AbstractSolver):
    """Conjugate gradients on the controls themselves, with Fourier passes: time-invariant models and complete data.

    Where the impulse response leaves the range of the transforms, the answer is the estimate with no control, with its
    own covariance and residual. A large response has the residual verified in the closed loop.

    **Arguments:** `tolerance`, relative to the posterior standard deviation, 64 units of rounding by default; `max_steps`.
    """

    tolerance: float | None = None
    max_steps: int = 200

    def check(self, model, mask) -> None:
        check_iteration(self.tolerance, self.max_steps)
        if not (isinstance(model, LinearGaussianModel) and bool(mask.all())):
            raise ConfigurationError(
                "OpenLoop needs a time-invariant model and complete data; use ClosedLoop for gaps and operators."
            )

    def solve(self, problem: DualProblem) -> Controls:
        """The controls for a source at one time, the last that is not zero."""
        end = int(np.flatnonzero(np.asarray(problem.source).any((1, 2))).max(initial=0))
        model: Any = problem.model
        F = problem.source[end]
        response = impulse_response(model, F, end)
        growth = float(jnp.abs(response).max())
        lags = ClosedLoop().lags_of(problem)
        if not np.isfinite(growth):
            return uncontrolled(problem, lags)
        controls = _solve(model, len(problem.mask), response, self.tolerance_of(F.dtype), self.max_steps)
        if growth > MOST_GROWTH:
            checked = stable_residual(problem, controls.u, lags)
            controls = controls._replace(residual=jnp.maximum(controls.residual, checked))
        return controls


def _next_fast_length(n: int) -> int:
    """The smallest `2^a 3^b 5^c ≥ n`, a length at which Fourier transforms are fast."""
    best = 1 << (n - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = threes * (1 << max(0, (-(-n // threes) - 1).bit_length()))
            if n <= twos < best:
                best = twos
            threes *= 3
        fives *= 5
    return best


def adjoint_response(taps: Float[Array, "m d d"], C: Float[Array, "d c"], length: int) -> Float[Array, "d c {length}"]:
    """The first `length` coefficients of `(I - Σ_j A_jᵀ z^{j+1})⁻¹ C`, that is `G_tᵀ C`.

    The inverse series is evaluated on a circle of radius `r < 1` at `N ≥ 4 length` points with `r^N` a few hundred
    units of rounding: coefficients beyond `N` alias with weight `r^N`, and undoing the scaling costs at most
    `r^{-N/4}`. On the unit circle itself the series of a process with a unit root would not even exist.

    A process with a root inside even that circle grows too fast for the method, which would return the coefficients
    of another Laurent series. Their first two then differ from `C` and `A_0ᵀC`, and the answer is infinite.
    """
    m, d, _ = taps.shape
    m = min(m, length - 1)
    N = _next_fast_length(4 * length)
    log_r = jnp.log(jnp.asarray(450 * jnp.finfo(taps.dtype).eps, taps.dtype)) / N
    scaled = taps[:m].T * jnp.exp(log_r * jnp.arange(1, m + 1))[None, None]  # [d d m], already transposed
    spectrum = jnp.fft.rfft(jnp.pad(scaled, ((0, 0), (0, 0), (1, N - 1 - m))), axis=-1)
    system = jnp.eye(d)[None] - jnp.moveaxis(spectrum, -1, 0)
    values = jnp.linalg.solve(system, jnp.broadcast_to(C.astype(system.dtype)[None], (len(system), *C.shape)))
    series = jnp.fft.irfft(jnp.moveaxis(values, 0, -1), N, axis=-1)[..., :length]
    series = series * jnp.exp(-log_r * jnp.arange(length))[None, None]
    known = jnp.stack([C, taps[0].T @ C], axis=-1)[..., :length]
    defect = jnp.max(jnp.abs(series[..., :2] - known)) / jnp.max(jnp.abs(known))
    return jnp.where(defect < jnp.finfo(taps.dtype).eps ** 0.5, series, jnp.inf)


class _Skew(NamedTuple):
    """The inverse symbol of the skew-circulant preconditioner at its odd frequencies, `[p p F]`."""

    inverse: Complex[Array, "p p F"]

    def __call__(self, r: Float[Array, "p k T"]) -> Float[Array, "p k T"]:
        # the odd bins of a transform of twice the length are the skew-circulant frequencies
        T = r.shape[-1]
        odd = jnp.fft.rfft(r, 2 * T, axis=-1)[..., 1::2]
        answer = jnp.einsum("pqf,qkf->pkf", self.inverse, odd)
        spectrum = jnp.zeros((*r.shape[:-1], T + 1), answer.dtype).at[..., 1::2].set(2 * answer)
        return jnp.fft.irfft(spectrum, 2 * T, axis=-1)[..., :T]

    def norm(self) -> Float[Array, ""]:
        """A bound on the largest eigenvalue: the largest row sum of a block."""
        return jnp.max(jnp.sum(jnp.abs(self.inverse), axis=1))


def _skew_circulant(model: LinearGaussianModel, T: int) -> _Skew:
    """The preconditioner for `cov(Z_0 … Z_{T-1})`."""
    m, d = min(model.order, T - 1), model.n_states
    taps = jnp.pad(model.transition[:m].T, ((0, 0), (0, 0), (1, 2 * T - 1 - m)))
    adjoint = jnp.eye(d)[None] - jnp.moveaxis(jnp.fft.rfft(taps, axis=-1)[..., 1::2], -1, 0)
    Ht = jnp.broadcast_to(model.observation.T.astype(adjoint.dtype)[None], (len(adjoint), d, model.n_channels))
    phi = jnp.swapaxes(jnp.linalg.solve(adjoint, Ht), 1, 2)
    symbol = jnp.einsum("fpd,de,fqe->fpq", phi, model.process_noise, phi.conj()) + model.observation_noise[None]
    return _Skew(jnp.moveaxis(jnp.linalg.inv(symbol), 0, -1))


class _FourierPasses(NamedTuple):
    """The spectrum of `φ` at a length that leaves no wrap-around, and the covariances of the disturbances."""

    phi: Complex[Array, "p d F"]
    S_0: Float[Array, "d d"]
    Q: Float[Array, "d d"]
    R: Float[Array, "p p"]

    def costates(self, u: Float[Array, "p k T"]) -> Float[Array, "d k T"]:
        """`Σ_{s≥t} φ_{s-t}ᵀ u_s`."""
        T, N = u.shape[-1], _next_fast_length(2 * u.shape[-1])
        return jnp.fft.irfft(jnp.einsum("pdf,pkf->dkf", self.phi.conj(), jnp.fft.rfft(u, N)), N)[..., :T]

    def momenta(self, y: Float[Array, "d k T"]) -> Float[Array, "p k T"]:
        """`H p_t`."""
        T, N = y.shape[-1], _next_fast_length(2 * y.shape[-1])
        drive = jnp.einsum("de,ekt->dkt", self.Q, y).at[..., 0].set(self.S_0 @ y[..., 0])
        return jnp.fft.irfft(jnp.einsum("pdf,dkf->pkf", self.phi, jnp.fft.rfft(drive, N)), N)[..., :T]

    def __call__(self, u: Float[Array, "p k T"]) -> Float[Array, "p k T"]:
        return self.momenta(self.costates(u)) + jnp.einsum("pq,qkt->pkt", self.R, u)


def impulse_response(model: LinearGaussianModel, f: Float[Array, "d k"], q: int) -> Float[Array, "d c n"]:
    """`G_tᵀ (Hᵀ, f)` for `t = 0 … q`: all that the Fourier passes need to know of the dynamics."""
    return jax.block_until_ready(_response(model.transition, jnp.concatenate([model.observation.T, f], axis=1), q + 1))


def _solve(
    model: LinearGaussianModel, T: int, response: Float[Array, "d c q"], tolerance: float, max_steps: int
) -> Controls:
    """The optimal controls for `fᵀX_q`, `q ≥ T`, from complete data `Z_0 … Z_{T-1}` and the `impulse_response`.

    Not one jitted function but four, one after the other: two Fourier transforms that XLA may run side by side on
    the CPU can block each other's threads for ever (each occupies a worker of the pool it waits for), so no compiled
    function here holds two transforms that do not depend on each other.
    """
    skew = jax.block_until_ready(_skew(model, T))
    solution, scale = jax.block_until_ready(_iterate(model, response, skew, tolerance, T, max_steps))
    u, y_0, J = _finish(model, response, solution.x)
    return Controls(u, y_0, J, solution.iterations, solution.residual * relative(scale, jnp.diagonal(J)))


_response = jax.jit(adjoint_response, static_argnums=2)
_skew = jax.jit(_skew_circulant, static_argnums=1)


def _passes(model, response, T) -> tuple[_FourierPasses, Array]:
    """The passes, and the costates `G_{q-t}ᵀ f` of the uncontrolled system, `[d k q+1]`."""
    p = model.n_channels
    phi = jnp.swapaxes(response[:, :p, :T], 0, 1)
    S_0, Q, R = model.initial_covariance, model.process_noise, model.observation_noise
    return _FourierPasses(jnp.fft.rfft(phi, _next_fast_length(2 * T)), S_0, Q, R), response[:, p:, ::-1]


@partial(jax.jit, static_argnums=(3, 4, 5))
def _iterate(model, response, skew, tolerance, T, max_steps):
    passes, free = _passes(model, response, T)
    b = -passes.momenta(free[..., :T])
    # J ≥ fᵀQf because X_q has noise of its own, and a residual below the rounding error of one application is noise
    f = free[..., -1]
    noise = (jnp.finfo(f.dtype).eps / tolerance) ** 2 * jnp.sum(b**2, axis=(0, 2)) * skew.norm()
    scale = jnp.maximum(jnp.einsum("dk,de,ek->k", f, model.process_noise, f), noise)
    columns_last = lambda a: jnp.swapaxes(a, 1, 2)
    solution = conjugate_gradients(
        lambda u: columns_last(passes(columns_last(u))),
        columns_last(b),
        lambda r: columns_last(skew(columns_last(r))),
        tolerance,
        max_steps,
        scale,
    )
    return solution, scale


@jax.jit
def _finish(model, response, x):
    T = x.shape[1]
    passes, free = _passes(model, response, T)
    y = free.at[..., :T].add(passes.costates(jnp.swapaxes(x, 1, 2)))
    u, y = jnp.moveaxis(x, 1, 0), jnp.moveaxis(y, -1, 0)
    return u, y[0], cost(y, u, model.initial_covariance, model.process_noise, model.observation_noise)
