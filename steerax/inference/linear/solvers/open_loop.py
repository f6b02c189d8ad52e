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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from scipy.fft import next_fast_len

from ....maths.covariance import solve
from ....maths.krylov import Krylov, conjugate_gradients
from ....models.linear_gaussian import LinearGaussianModel
from ..kernels.passes import cost
from .closed_loop import stable_residual, uncontrolled
from .problem import AbstractControlSolver, Controls, DualProblem, relative

MOST_GROWTH = 100.0  # impulse response above which the open loop loses too many digits


@dataclasses.dataclass(frozen=True)
class OpenLoop(AbstractControlSolver):
    """Conjugate gradients on the controls themselves, with Fourier passes: time-invariant models and complete data.

    Where the impulse response leaves the range of the transforms, the answer is the estimate with no control, with its
    own covariance and residual. A large response has the residual verified in the closed loop.

    **Arguments:** `tolerance`, relative to the posterior standard deviation, 64 units of rounding by default; `max_steps`.
    """

    tolerance: float | None = None
    max_steps: int = 200

    serves_all_data = False

    def controls(self, problem: DualProblem, response: Float[Array, "d c q"] | None = None) -> Controls:
        """The controls for a source at one time, the last that is not zero, whose `impulse_response` may be known."""
        model = problem.model
        assert isinstance(model, LinearGaussianModel)
        if response is None:
            end, F = _last_source(problem.source)
            response = impulse_response(model, F, int(end))
        growth, lags = float(jnp.abs(response).max()), self.lags_of(problem)
        if not np.isfinite(growth):
            return uncontrolled(problem, lags)
        tolerance = self.tolerance_of(response.dtype)
        controls = _solve(model, len(problem.mask), response, tolerance, self.max_steps)
        if growth > MOST_GROWTH:
            checked = stable_residual(problem, controls.u, lags)
            controls = controls._replace(residual=jnp.maximum(controls.residual, checked))
        return controls


@jax.jit
def _last_source(source: Float[Array, "T1 d k"]) -> tuple[Int[Array, ""], Float[Array, "d k"]]:
    """The last time at which the source is not zero, and the source then."""
    end = len(source) - 1 - jnp.argmax(jnp.any(source != 0, axis=(1, 2))[::-1])
    return end, source[end]


def _fast(n: int) -> int:
    """The smallest length of at least `n` at which real Fourier transforms are fast."""
    return int(next_fast_len(n, real=True) or n)


def adjoint_response(taps: Float[Array, "m d d"], C: Float[Array, "d c"], length: int) -> Float[Array, "d c {length}"]:
    r"""The first `length` coefficients of $(I-\sum_jA_j^\top z^{j+1})^{-1}C$, that is $G_t^\top C$.

    The inverse series is evaluated on a circle of radius $r<1$ at $N\ge4\,\mathrm{length}$ points with $r^N$ a few hundred
    units of rounding: coefficients beyond $N$ alias with weight $r^N$, and undoing the scaling costs at most
    $r^{-N/4}$. On the unit circle itself the series of a process with a unit root would not even exist.

    A process with a root inside even that circle grows too fast for the method, which would return the coefficients
    of another Laurent series. Their first two then differ from $C$ and $A_0^\top C$, and the answer is infinite.
    """
    m, d, _ = taps.shape
    m = min(m, length - 1)
    N = _fast(4 * length)
    log_r = jnp.log(jnp.asarray(450 * jnp.finfo(taps.dtype).eps, taps.dtype)) / N
    scaled = taps[:m].T * jnp.exp(log_r * jnp.arange(1, m + 1))[None, None]  # [d d m], already transposed
    spectrum = jnp.fft.rfft(jnp.pad(scaled, ((0, 0), (0, 0), (1, N - 1 - m))), axis=-1)
    system = jnp.eye(d)[None] - jnp.moveaxis(spectrum, -1, 0)
    values = solve(system, jnp.broadcast_to(C.astype(system.dtype)[None], (len(system), *C.shape)))
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
    r"""The preconditioner for $\mathrm{cov}(Z_0\dots Z_{T-1})$."""
    m, d = min(model.order, T - 1), model.n_states
    taps = jnp.pad(model.transition[:m].T, ((0, 0), (0, 0), (1, 2 * T - 1 - m)))
    adjoint = jnp.eye(d)[None] - jnp.moveaxis(jnp.fft.rfft(taps, axis=-1)[..., 1::2], -1, 0)
    Ht = jnp.broadcast_to(model.observation.T.astype(adjoint.dtype)[None], (len(adjoint), d, model.n_channels))
    phi = jnp.swapaxes(solve(adjoint, Ht), 1, 2)
    symbol = jnp.einsum("fpd,de,fqe->fpq", phi, model.process_noise, phi.conj()) + model.observation_noise[None]
    identity = jnp.broadcast_to(jnp.eye(model.n_channels, dtype=symbol.dtype), symbol.shape)
    return _Skew(jnp.moveaxis(solve(symbol, identity), 0, -1))


class _FourierPasses(NamedTuple):
    r"""The model, and the spectrum of $\varphi$ at a length that leaves no wrap-around."""

    model: LinearGaussianModel
    phi: Complex[Array, "p d F"]

    def costates(self, u: Float[Array, "p k T"]) -> Float[Array, "d k T"]:
        r"""$\sum_{s\ge t}\varphi_{s-t}^\top u_s$."""
        T, N = u.shape[-1], _fast(2 * u.shape[-1])
        return jnp.fft.irfft(jnp.einsum("pdf,pkf->dkf", self.phi.conj(), jnp.fft.rfft(u, N)), N)[..., :T]

    def momenta(self, y: Float[Array, "d k T"]) -> Float[Array, "p k T"]:
        """$Hp_t$."""
        T, N = y.shape[-1], _fast(2 * y.shape[-1])
        drive = jnp.einsum("de,ekt->dkt", self.model.process_noise, y)
        drive = drive.at[..., 0].set(self.model.initial_covariance @ y[..., 0])
        return jnp.fft.irfft(jnp.einsum("pdf,dkf->pkf", self.phi, jnp.fft.rfft(drive, N)), N)[..., :T]

    def __call__(self, u: Float[Array, "p k T"]) -> Float[Array, "p k T"]:
        return self.momenta(self.costates(u)) + jnp.einsum("pq,qkt->pkt", self.model.observation_noise, u)


def impulse_response(model: LinearGaussianModel, f: Float[Array, "d k"], q: int) -> Float[Array, "d c n"]:
    r"""$G_t^\top(H^\top,f)$ for $t=0\dots q$: all that the Fourier passes need to know of the dynamics."""
    return jax.block_until_ready(_response(model.transition, jnp.concatenate([model.observation.T, f], axis=1), q + 1))


def _solve(
    model: LinearGaussianModel, T: int, response: Float[Array, "d c q"], tolerance: float, max_steps: int
) -> Controls:
    r"""The optimal controls for $f^\top X_q$, $q\ge T$, from complete data $Z_0\dots Z_{T-1}$ and the `impulse_response`.

    Not one jitted function but several, one after the other: two Fourier transforms that XLA may run side by side on
    the CPU can block each other's threads for ever (each occupies a worker of the pool it waits for), so no compiled
    function here holds two transforms that do not depend on each other.
    """
    skew = jax.block_until_ready(_skew(model, T))
    passes, free = jax.block_until_ready(_passes(model, response, T))
    solution, scale = jax.block_until_ready(_iterate(passes, free, skew, tolerance, T, max_steps))
    u, y_0, J = _finish(passes, free, solution.x)
    return Controls(u, y_0, J, solution.iterations, solution.residual * relative(scale, jnp.diagonal(J)))


_response = jax.jit(adjoint_response, static_argnums=2)
_skew = jax.jit(_skew_circulant, static_argnums=1)


@partial(jax.jit, static_argnums=2)
def _passes(
    model: LinearGaussianModel, response: Float[Array, "d c q"], T: int
) -> tuple[_FourierPasses, Float[Array, "d k q"]]:
    r"""The passes, and the costates $G_{q-t}^\top f$ of the uncontrolled system, `[d k q+1]`."""
    p = model.n_channels
    phi = jnp.swapaxes(response[:, :p, :T], 0, 1)
    return _FourierPasses(model, jnp.fft.rfft(phi, _fast(2 * T))), response[:, p:, ::-1]


@partial(jax.jit, static_argnums=(3, 4, 5))
def _iterate(
    passes: _FourierPasses, free: Float[Array, "d k q"], skew: _Skew, tolerance: float, T: int, max_steps: int
) -> tuple[Krylov, Float[Array, " k"]]:
    b = -passes.momenta(free[..., :T])
    # J ≥ fᵀQf because X_q has noise of its own, and a residual below the rounding error of one application is noise
    f = free[..., -1]
    noise = (jnp.finfo(f.dtype).eps / tolerance) ** 2 * jnp.sum(b**2, axis=(0, 2)) * skew.norm()
    scale = jnp.maximum(jnp.einsum("dk,de,ek->k", f, passes.model.process_noise, f), noise)
    columns_last = lambda a: jnp.swapaxes(a, 1, 2)
    apply, precondition = (lambda a, map=map: columns_last(map(columns_last(a))) for map in (passes, skew))
    return conjugate_gradients(apply, columns_last(b), precondition, tolerance, max_steps, scale), scale


@jax.jit
def _finish(
    passes: _FourierPasses, free: Float[Array, "d k q"], x: Float[Array, "p T k"]
) -> tuple[Float[Array, "T p k"], Float[Array, "d k"], Float[Array, "k k"]]:
    """`(u, y_0, J)` of the solution."""
    y = free.at[..., : x.shape[1]].add(passes.costates(jnp.swapaxes(x, 1, 2)))
    u, y = jnp.moveaxis(x, 1, 0), jnp.moveaxis(y, -1, 0)
    return u, y[0], cost(passes.model, y, u)
