"""Maximum likelihood by quasi-Newton steps along the exact gradient."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ...._results import RESULTS
from ....models.linear_gaussian import LinearGaussianModel
from .coordinates import SMALLEST_ROOT, Free, Parameters
from .em import Data, Statistics, expectation

MOST_PAIRS = 20  # curvature pairs that the quasi-Newton method keeps

# goes_on(log_likelihood, model) is called after each step; the model is made when asked for
GoesOn = Callable[[float, Callable[[], LinearGaussianModel]], bool]


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


@partial(jax.jit, static_argnums=(2, 3))
def likelihood_and_score(
    theta: Parameters, data: Data, coordinates: Free, free_start: bool
) -> tuple[Float[Array, ""], Parameters]:
    r"""The log-likelihood and its gradient in the coordinates.

    By Fisher's identity $\nabla\log p(Z)=\mathbb E[\nabla\log p(X,Z)\mid Z]$, one pass of the smoother gives the exact
    gradient; nothing is differentiated through time. The initial covariance stays unless `free_start`.
    """
    statistics, value = expectation(coordinates.to_model(theta), data, theta.inputs)
    complete = lambda t: _expected_log_likelihood(coordinates.to_model(t), t.inputs - theta.inputs, statistics)
    score = jax.grad(complete)(theta)
    return value, score if free_start else score._replace(start=jnp.zeros_like(score.start))


def maximise_likelihood(
    model: LinearGaussianModel,
    D: Float[Array, "p q"],
    data: Data,
    max_iterations: int,
    tolerance: float,
    coordinates: Free,
    goes_on: GoesOn,
) -> tuple[LinearGaussianModel, Float[Array, "p q"], RESULTS]:
    """`(model, D, result)` by limited-memory BFGS from a given model.

    Data and inputs are standardised per channel meanwhile, and variances kept above `1e-10` of the data's. It stops
    when a step gains less than `tolerance` nats per observed number, or `goes_on` says so.
    """
    from scipy.optimize import minimize

    seen = np.asarray(data.mask)
    scale, scale_w = _spread(data.z, seen), _spread(data.w, np.asarray(data.inside)[..., None])
    count, shift = int(seen.sum()), float((seen.sum((0, 1)) * np.log(scale)).sum())
    data = data._replace(z=data.z / scale[None, None], w=data.w / scale_w[None, None])
    theta = coordinates.from_model(_rescaled(model, 1 / scale), D / scale[:, None] * scale_w[None])
    start, unravel = ravel_pytree(theta)
    free_start = len(seen) > model.n_states

    def objective(vector):
        value, score = likelihood_and_score(unravel(jnp.asarray(vector)), data, coordinates, free_start)
        gradient = -np.asarray(ravel_pytree(score)[0]) / count
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e10, np.zeros_like(vector)  # a trial step too far: the line search turns back
        return -float(value) / count, gradient

    def back(vector):
        return _rescaled(coordinates.to_model(unravel(jnp.asarray(vector))), scale)

    stopped = False

    def after_step(intermediate_result):
        nonlocal stopped
        stopped = not goes_on(-intermediate_result.fun * count - shift, lambda: back(intermediate_result.x))
        if stopped:
            raise StopIteration

    floor = lambda a: jnp.where(jnp.eye(len(a), dtype=bool), SMALLEST_ROOT, -jnp.inf)
    low = jax.tree.map(lambda a: jnp.full_like(a, -jnp.inf), theta)
    low = np.asarray(ravel_pytree(low._replace(process=floor(theta.process), noise=floor(theta.noise)))[0])
    optimum = minimize(
        objective,
        np.maximum(np.asarray(start), low),
        jac=True,
        method="L-BFGS-B",
        bounds=[(a, None) for a in low],
        callback=after_step,
        options={"maxiter": max_iterations, "ftol": tolerance / 10, "gtol": 0.0, "maxcor": MOST_PAIRS},
    )
    stopped = stopped or optimum.nit >= max_iterations
    result = RESULTS.max_steps_reached if stopped else RESULTS.successful if optimum.success else RESULTS.breakdown
    D = unravel(jnp.asarray(optimum.x)).inputs * scale[:, None] / scale_w[None]
    return back(optimum.x), D, result


def _spread(values: Float[Array, "B T c"], seen: np.ndarray) -> Float[np.ndarray, " c"]:
    """The standard deviation of each channel over what is seen, 1 where it is zero."""
    spread = np.nanstd(np.where(seen, np.asarray(values), np.nan), axis=(0, 1))
    return np.where(spread > 0, spread, 1.0)


def _rescaled(model: LinearGaussianModel, scale: Float[np.ndarray, " p"]) -> LinearGaussianModel:
    """The model of observations multiplied by `scale`, channel by channel."""
    H, c, R = model.observation, model.observation_offset, model.observation_noise
    scaled = scale[:, None] * H, scale * c, scale[:, None] * R * scale[None]
    return eqx.tree_at(lambda m: (m.observation, m.observation_offset, m.observation_noise), model, scaled)
