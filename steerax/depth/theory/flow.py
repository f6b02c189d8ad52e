r"""A residual network as the Euler scheme of a controlled flow, and how far apart the two are.

$X_{l+1}=X_l+\varepsilon\,\zeta(t_l)F(X_l;\theta(t_l))$, $\varepsilon=1/L$, $t_l=l/L$, against
$\dot X=\zeta(t)F(X;\theta(t))$ on $[0,1]$ [HuanYuan2026].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError
from .field import Field


class Flow(eqx.Module):
    r"""A field, a control in depth and a profile.

    **Attributes:** `field` $F(X;\theta)$; `control` $t\mapsto\theta(t)\in\mathbb R^p$; `profile` $t\mapsto\zeta(t)$,
    a positive number, 1 by default.
    """

    field: Field
    control: Callable[[Array], Array]
    profile: Callable[[Array], Array] = jnp.ones_like

    def velocity(self, t: Float[Array, ""], X: Float[Array, "n D"]) -> Float[Array, "n D"]:
        r"""$\zeta(t)F(X;\theta(t))$."""
        return self.profile(t) * self.field(X, self.control(t))


class CosineControl(eqx.Module):
    r"""A smooth control $\theta(t)=\sum_j c_j\cos(j\pi t)$ with coefficients `[J p]`: any square-integrable one as J → ∞."""

    coefficients: Float[Array, "J p"]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " p"]:
        j = jnp.arange(self.coefficients.shape[0], dtype=self.coefficients.dtype)
        return jnp.cos(j * jnp.pi * t) @ self.coefficients


@eqx.filter_jit
def euler(flow: Flow, X: Float[Array, "n D"], layers: int) -> Float[Array, "{layers}+1 n D"]:
    """The states $X_0..X_L$ of the network with `layers` layers. Raises `ConfigurationError` for fewer than one."""
    if layers < 1:
        raise ConfigurationError(f"A network with {layers} layers has no states; ask for at least one.")
    step = 1 / layers

    def layer(X, t):
        X = X + step * flow.velocity(t, X)
        return X, X

    return jnp.concatenate([X[None], jax.lax.scan(layer, X, jnp.arange(layers) * jnp.asarray(step, X.dtype))[1]])


@eqx.filter_jit
def exact(
    flow: Flow, X: Float[Array, "n D"], times: Float[Array, " k"], tolerance: float = 1e-10
) -> Float[Array, "k n D"]:
    """The continuous flow at increasing `times` in [0, 1], by an adaptive method of order 5.

    Local errors are held at `tolerance` (relative and absolute); needs a control that is smooth in depth. In
    single precision ask for no less than 1e-6.
    """
    import diffrax

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, X, args: flow.velocity(jnp.asarray(t), X)),
        diffrax.Tsit5(),
        t0=0.0,
        t1=1.0,
        dt0=None,
        y0=X,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=100_000,
    )
    return jnp.asarray(solution.ys)


class Convergence(NamedTuple):
    """How the pathwise error falls with depth.

    `layers`, the depths; `errors`, one per depth; `order`, the slope of log error against log ε, with its standard
    error `order_se`; `constant`, the limit of error / ε estimated at the deepest network.
    """

    layers: np.ndarray
    errors: np.ndarray
    order: float
    order_se: float
    constant: float


def fitted_order(layers: Sequence[int] | np.ndarray, errors: Sequence[float] | np.ndarray) -> Convergence:
    r"""Least-squares slope of $\log e$ against $\log\varepsilon$. Needs three depths and positive errors."""
    eps, e = 1 / np.asarray(layers, float), np.asarray(errors, float)
    if len(e) < 3 or not (e > 0).all():
        raise ConfigurationError("An order is fitted to at least three depths with positive errors.")
    x, y = np.log(eps) - np.log(eps).mean(), np.log(e)
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    se = float(np.sqrt(residual @ residual / (len(e) - 2) / (x @ x)))
    return Convergence(np.asarray(layers), e, slope, se, float(e[-1] / eps[-1]))


def pathwise_error(flow: Flow, X: Float[Array, "B n D"], layers: Sequence[int] = (32, 64, 128, 256)) -> Convergence:
    r"""$e_L=\sup_{b,l}|X_l-X(t_l)|$ over an ensemble and over depth (Frobenius norm per sequence), for several $L$.

    For a smooth field and control the order is 1: the theorem of [HuanYuan2026] that a finite-depth trajectory stays
    within $O(\varepsilon)$ of the flow.
    """
    times = jnp.linspace(0.0, 1.0, max(layers) + 1, dtype=X.dtype)
    reference = jax.jit(jax.vmap(lambda X: exact(flow, X, times), out_axes=1))(X)
    errors = []
    for L in layers:
        if max(layers) % L:
            raise ConfigurationError(f"The deepest network, {max(layers)} layers, is no multiple of {L}.")
        states = jax.jit(jax.vmap(lambda X, L=L: euler(flow, X, L), out_axes=1))(X)
        gap = states - reference[:: max(layers) // L]
        errors.append(float(jnp.sqrt((gap**2).sum((-1, -2))).max()))
    return fitted_order(layers, errors)


def gronwall_log10(flow: Flow, X: Float[Array, "B n D"], layers: int = 64) -> float:
    r"""$\log_{10}$ of the constant $C$ in $e_L\le C\varepsilon$ that Grönwall's inequality gives.

    $C=\frac12\sup_t|\ddot X|\cdot\int_0^1\exp\big(\int_s^1\Lambda\big)ds$ with $\Lambda(t)=\sup_b\|\partial_X(\zeta F)\|_2$,
    both measured along the trajectories of the ensemble (an estimate, not a certificate: the supremum over a
    neighbourhood of the trajectories would be needed). Reported as a logarithm because for a trained network it is
    astronomically large.
    """
    times = jnp.arange(layers, dtype=X.dtype) / layers
    states = jax.vmap(lambda X: euler(flow, X, layers)[:-1])(X)

    def local(t, X):
        f = lambda X: flow.velocity(t, X)
        jacobian = jax.jacfwd(f)(X).reshape(X.size, X.size)
        # Ẍ = ∂_t(ζF) + ∂_X(ζF) ζF, one directional derivative along (1, velocity).
        acceleration = jax.jvp(flow.velocity, (t, X), (jnp.ones_like(t), f(X)))[1]
        return jnp.linalg.norm(jacobian, 2), jnp.linalg.norm(acceleration)

    growth, acceleration = jax.jit(jax.vmap(jax.vmap(local), in_axes=(None, 0)))(times, states)
    exponent = np.asarray(growth).max(0) / layers
    to_end = np.cumsum(exponent[::-1])[::-1]
    log_integral = np.logaddexp.reduce(to_end) - np.log(layers)
    return float((log_integral + np.log(0.5 * np.asarray(acceleration).max())) / np.log(10))
