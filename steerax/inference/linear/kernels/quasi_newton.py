"""Maximum likelihood by quasi-Newton steps along the exact gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ...._results import RESULTS
from ....models.linear_gaussian import LinearGaussianModel
from .coordinates import Coordinates, Parameters
from .em import Data, Statistics, expect

MOST_PAIRS = 20  # curvature pairs that the quasi-Newton method keeps
ROUND = 60  # steps in one metric

# goes_on(log_likelihood, model_and_D) is called after each step; model and weights of inputs are made when asked for
GoesOn = Callable[[float, Callable[[], tuple[LinearGaussianModel, Array]]], bool]


def _expected_log_likelihood(model: LinearGaussianModel, D: Float[Array, "p q"], s: Statistics) -> Float[Array, ""]:
    r"""$\mathbb E\log p(X,Z)$ under given expected moments, up to a constant; `D` beyond the weights the moments were made
    with."""
    m, d = model.order, model.n_states
    A = jnp.moveaxis(model.transition, 0, 1).reshape(d, m * d)
    B = jnp.concatenate([model.observation, model.observation_offset[:, None], D], axis=1)
    mean = model.initial_mean[:, None]

    def term(S, count, S_rr, S_ra, S_aa, C):
        spread = S_rr - C @ S_ra.T - S_ra @ C.T + C @ S_aa @ C.T
        return -0.5 * (count * jnp.linalg.slogdet(S)[1] + jnp.trace(jnp.linalg.solve(S, spread)))

    first, one = s.first[:, None], s.sequences[None, None]
    return (
        term(model.process_noise, s.steps, s.S_xx, s.S_xξ, s.S_ξξ, A)
        + term(model.observation_noise, s.seen, s.S_zz, s.S_za, s.S_aa, B)
        + term(model.initial_covariance, s.sequences, s.first2, first, one, mean)
    )


@partial(jax.jit, static_argnums=3)
def _complete_score(
    theta: Parameters, D: Float[Array, "p q"], statistics: Statistics, coordinates: Coordinates
) -> Parameters:
    """The gradient of the expected log-likelihood under given moments, which were made with the weights `D`."""

    def complete(theta):
        model, new = coordinates.to_model(theta)
        return _expected_log_likelihood(model, new - D, statistics)

    return jax.grad(complete)(theta)


# the model and weights of inputs of coordinates
to_model = jax.jit(lambda theta, coordinates: coordinates.to_model(theta), static_argnums=1)


def likelihood_and_score(
    theta: Parameters, data: Data, coordinates: Coordinates
) -> tuple[float, Parameters, Callable[[Parameters], Parameters]]:
    r"""The log-likelihood, its gradient in the coordinates, and the gradient of the expected log-likelihood under the same
    moments as a function of the coordinates.

    By Fisher's identity $\nabla\log p(Z)=\mathbb E[\nabla\log p(X,Z)\mid Z]$, one pass of the smoother gives the exact
    gradient; nothing is differentiated through time.
    """
    model, D = to_model(theta, coordinates)
    statistics, value = expect(model, data, D)
    complete = lambda theta: _complete_score(theta, D, statistics, coordinates)
    return float(value), complete(theta), complete


def maximise_likelihood(
    model: LinearGaussianModel,
    D: Float[Array, "p q"],
    data: Data,
    max_iterations: int,
    tolerance: float,
    coordinates: Coordinates,
    goes_on: GoesOn,
) -> tuple[LinearGaussianModel, Float[Array, "p q"], RESULTS]:
    """`(model, D, result)` by limited-memory BFGS from a given model of standardised data (see `Units`).

    The steps are taken in rounds, each in a metric of its own: the information of the complete data, in which the
    directions that a nearly noise-free combination of channels makes stiff are as long as the others. It stops when a
    round gains less than `tolerance` nats per observed number, or `goes_on` says so. A free initial covariance is
    estimated only from more sequences than states.
    """
    climb = _Climb(coordinates, data, tolerance, *ravel_pytree(coordinates.from_model(model, D)), goes_on)
    left, value, result, stopped = max_iterations, np.inf, RESULTS.max_steps_reached, False
    while left > 0 and not stopped and result != RESULTS.successful:
        before = value
        value, steps, stopped = climb.one_round(min(left, ROUND))
        left -= max(steps, 1)
        if not stopped and before - value < tolerance:
            result = RESULTS.successful
    return *climb.model(climb.x), result


class _Climb:
    """The free coordinates `x` on their way up; the values that are minimised are minus log-likelihoods per number."""

    def __init__(
        self, coordinates: Coordinates, data: Data, tolerance: float, vector: Any, unravel: Any, goes_on: GoesOn
    ):
        self.coordinates, self.data, self.tolerance, self.goes_on = coordinates, data, tolerance, goes_on
        self.count, self.vector, self.unravel = int(data.mask.sum()), np.asarray(vector), unravel
        kept = jax.tree.map(jnp.zeros_like, unravel(vector))
        if coordinates.start != "free" or int(data.inside.any(1).sum()) <= len(kept.mean):
            kept = kept._replace(start=kept.start + 1)
        if coordinates.start != "free":
            kept = kept._replace(mean=kept.mean + 1)
        self.free = np.asarray(ravel_pytree(kept)[0]) == 0
        self.x = self.vector[self.free].astype(float)

    def theta(self, x: np.ndarray) -> Parameters:
        """The coordinates, free ones and others."""
        vector = self.vector.copy()
        vector[self.free] = x
        return self.unravel(jnp.asarray(vector))

    def model(self, x: np.ndarray) -> tuple[LinearGaussianModel, Array]:
        """The model, and the weights of inputs."""
        return to_model(self.theta(x), self.coordinates)

    def slope(self, score: Parameters) -> np.ndarray:
        """The gradient of the value, of the score of the log-likelihood."""
        return -np.asarray(ravel_pytree(score)[0], float)[self.free] / self.count

    def one_round(self, steps: int) -> tuple[float, int, bool]:
        """At most so many steps from `x` in its metric: the value, how many there were, and whether the caller ended them."""
        from scipy.optimize import minimize

        _, _, complete = likelihood_and_score(self.theta(self.x), self.data, self.coordinates)
        W, start, stopped = _metric(lambda x: self.slope(complete(self.theta(x))), self.x), self.x, False

        def objective(v):
            value, score, _ = likelihood_and_score(self.theta(start + W @ v), self.data, self.coordinates)
            gradient = self.slope(score)
            if not (np.isfinite(value) and np.isfinite(gradient).all()):
                return 1e10, np.zeros_like(v)  # a trial step too far: the line search turns back
            return -value / self.count, W.T @ gradient

        def after_step(intermediate_result):
            nonlocal stopped
            model = lambda: self.model(start + W @ intermediate_result.x)
            stopped = not self.goes_on(-intermediate_result.fun * self.count, model)
            if stopped:
                raise StopIteration

        options = {"maxiter": steps, "ftol": self.tolerance / 10, "gtol": 0.0, "maxcor": MOST_PAIRS}
        zero = np.zeros_like(start)
        optimum = minimize(objective, zero, jac=True, method="L-BFGS-B", callback=after_step, options=options)
        self.x = start + W @ optimum.x
        return float(optimum.fun), int(optimum.nit), stopped


def _metric(gradient: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """$W$ with $WW^\top\approx$ the inverse of the Hessian whose gradient is given, by central differences; directions of
    small or negative curvature get a moderate one."""
    steps = 1e-5 * np.eye(len(x))
    hessian = np.stack([(gradient(x + h) - gradient(x - h)) / 2e-5 for h in steps])
    if not np.isfinite(hessian).all():
        return np.eye(len(x))
    w, V = np.linalg.eigh((hessian + hessian.T) / 2)
    return (V / np.sqrt(np.maximum(w, 1e-2))[None]) @ V.T
