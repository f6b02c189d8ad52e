"""Maximum likelihood by quasi-Newton steps along the exact gradient, stable models if asked."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ...._results import RESULTS
from ....models.linear_gaussian import LinearGaussianModel
from .detectability import companion_matrix
from .em import Data, Statistics, expectation

SMALLEST_ROOT = -11.5  # logarithm of the smallest diagonal entry of a root of a covariance of standardised data
MOST_PAIRS = 20  # curvature pairs that the quasi-Newton method keeps


class Parameters(NamedTuple):
    """Unconstrained coordinates of a model: covariances by Cholesky factors with logarithms on the diagonal, taps as
    they are or, for stable models, by their partial autocorrelations (see `stable_taps`)."""

    mean: Float[Array, " d"]
    start: Float[Array, "d d"]
    taps: Float[Array, "m d d"]
    observation: Float[Array, "p d"]
    offset: Float[Array, " p"]
    process: Float[Array, "d d"]
    noise: Float[Array, "p p"]
    inputs: Float[Array, "p q"]


@dataclasses.dataclass(frozen=True)
class Free:
    """Coordinates of all models: taps as they are."""

    def taps(self, free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]) -> Float[Array, "m d d"]:
        return free

    def free(self, taps: Float[np.ndarray, "m d d"], L_Q: Float[np.ndarray, "d d"]) -> Any:
        return taps

    def to_model(self, theta: Parameters) -> LinearGaussianModel:
        """The model of given coordinates."""
        L_0, L_Q, L_R = (_triangle(a) for a in (theta.start, theta.process, theta.noise))
        taps = self.taps(theta.taps, L_Q)
        return LinearGaussianModel(
            theta.mean, L_0 @ L_0.T, taps, theta.observation, L_Q @ L_Q.T, L_R @ L_R.T, theta.offset
        )

    def from_model(self, model: LinearGaussianModel, D: Float[Array, "p q"]) -> Parameters:
        """Coordinates of a model and the weights of inputs; singular covariances become regular."""
        covariances = (np.asarray(S) for S in (model.initial_covariance, model.process_noise, model.observation_noise))
        L_0, L_Q, L_R = (np.linalg.cholesky(S + np.exp(2 * SMALLEST_ROOT) * np.eye(len(S))) for S in covariances)
        roots = [jnp.asarray(np.tril(L, -1) + np.diag(np.log(np.diag(L)))) for L in (L_0, L_Q, L_R)]
        taps = jnp.asarray(self.free(np.asarray(model.transition), L_Q))
        observed = model.observation, model.observation_offset
        return Parameters(model.initial_mean, roots[0], taps, *observed, roots[1], roots[2], D)


@dataclasses.dataclass(frozen=True)
class Stable(Free):
    """Coordinates of all stable models and no others: taps by their partial autocorrelations (see `stable_taps`)."""

    def taps(self, free, L_Q):
        return stable_taps(free, L_Q)

    def free(self, taps, L_Q):
        return _partial_autocorrelations(taps, L_Q)


def _triangle(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return jnp.tril(a, -1) + jnp.diag(jnp.exp(jnp.diag(a)))


def stable_taps(free: Float[Array, "m d d"], L_Q: Float[Array, "d d"]) -> Float[Array, "m d d"]:
    """All stable taps, from any matrices `A_1 … A_m` ([AnsleyKohn1986]).

    `P_s = B⁻¹A_s` with `BBᵀ = I + A_sA_sᵀ` has norm below one and is taken as the partial autocorrelation of lag `s` of a
    process with unit variance; Whittle's recursion

        φ_{s,s} = V½ P_s V*-½,  φ_{s,i} = φ_{s-1,i} - φ_{s,s} φ*_{s-1,s-i},  V ← V½(I - P_sP_sᵀ)V½ᵀ  (and backward, *)

    turns them into the coefficients `φ_m` of a stable autoregression with innovation covariance `V`, and the change of
    basis `T = L_Q V-½` into taps `TφT⁻¹` whose innovations have covariance `L_Q L_Qᵀ`.
    """
    m, d, _ = free.shape
    identity = jnp.eye(d, dtype=free.dtype)
    ahead = back = jnp.zeros((0, d, d), free.dtype)
    V = V_back = identity  # Cholesky factors of the two error covariances
    for s in range(m):
        root = jnp.linalg.cholesky(identity + free[s] @ free[s].T)
        P = jnp.linalg.solve(root, free[s])
        last = V @ P @ jnp.linalg.inv(V_back)
        last_back = V_back @ P.T @ jnp.linalg.inv(V)
        ahead, back = (
            jnp.concatenate([ahead - last @ back[::-1], last[None]]),
            jnp.concatenate([back - last_back @ ahead[::-1], last_back[None]]),
        )
        V, V_back = V @ jnp.linalg.inv(root), V_back @ jnp.linalg.cholesky(identity - P.T @ P)
    basis = L_Q @ jnp.linalg.inv(V)
    return basis @ ahead @ jnp.linalg.inv(basis)


def _partial_autocorrelations(taps: Float[np.ndarray, "m d d"], L_Q: Float[np.ndarray, "d d"]) -> np.ndarray:
    """The matrices `A_1 … A_m` that `stable_taps` turns into these taps, which must be stable."""
    m, d, _ = taps.shape
    F, S = companion_matrix(taps), np.zeros((m * d, m * d))
    S[:d, :d] = L_Q @ L_Q.T
    for _ in range(60):  # Σ_k F^k S F^kᵀ, the stationary covariance, by doubling
        S, F = S + F @ S @ F.T, F @ F
    variance = S[:d, :d]
    white = np.linalg.inv(L_Q)
    basis = L_Q @ np.linalg.cholesky(white @ variance @ white.T)
    unit = np.linalg.inv(basis)
    moments = [unit @ S[:d, j * d : (j + 1) * d] @ unit.T for j in range(m)]  # E X_t X_{t-j}ᵀ of unit variance
    coefficients = [unit @ A @ basis for A in taps]
    moments.append(sum((A @ moments[m - 1 - j] for j, A in enumerate(coefficients)), np.zeros((d, d))))
    ahead, back, V, V_back, free = [], [], np.eye(d), np.eye(d), []
    for s in range(m):
        left = moments[s + 1] - sum((ahead[i] @ moments[s - i] for i in range(s)), np.zeros((d, d)))
        P = np.linalg.solve(V, left) @ np.linalg.inv(V_back).T
        rest = np.linalg.cholesky(np.eye(d) - P @ P.T)
        free.append(np.linalg.solve(rest, P))
        last, last_back = V @ P @ np.linalg.inv(V_back), V_back @ P.T @ np.linalg.inv(V)
        ahead, back = (
            [ahead[i] - last @ back[s - 1 - i] for i in range(s)] + [last],
            [back[i] - last_back @ ahead[s - 1 - i] for i in range(s)] + [last_back],
        )
        V, V_back = V @ rest, V_back @ np.linalg.cholesky(np.eye(d) - P.T @ P)
    return np.stack(free)


def _expected_log_likelihood(model: LinearGaussianModel, D: Float[Array, "p q"], s: Statistics) -> Float[Array, ""]:
    """`E log p(X, Z)` under given expected moments, up to a constant; `D` beyond the weights the moments were made with."""
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
    """The log-likelihood and its gradient in the coordinates.

    By Fisher's identity `∇ log p(Z) = E[∇ log p(X, Z) | Z]`, one pass of the smoother gives the exact gradient; nothing
    is differentiated through time. The initial covariance stays unless `free_start`.
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
) -> tuple[LinearGaussianModel, Float[Array, "p q"], list[float], RESULTS]:
    """`(model, D, log-likelihoods, result)` by limited-memory BFGS from a given model.

    Data and inputs are standardised per channel meanwhile, and variances kept above `1e-10` of the data's. It stops
    when a step gains less than `tolerance` nats per observed number.
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

    floor = lambda a: jnp.where(jnp.eye(len(a), dtype=bool), SMALLEST_ROOT, -jnp.inf)
    low = jax.tree.map(lambda a: jnp.full_like(a, -jnp.inf), theta)
    low = np.asarray(ravel_pytree(low._replace(process=floor(theta.process), noise=floor(theta.noise)))[0])
    history = []
    optimum = minimize(
        objective,
        np.maximum(np.asarray(start), low),
        jac=True,
        method="L-BFGS-B",
        bounds=[(a, None) for a in low],
        callback=lambda intermediate_result: history.append(-intermediate_result.fun * count - shift),
        options={"maxiter": max_iterations, "ftol": tolerance / 10, "gtol": 0.0, "maxcor": MOST_PAIRS},
    )
    exhausted = optimum.nit >= max_iterations
    result = RESULTS.max_steps_reached if exhausted else RESULTS.successful if optimum.success else RESULTS.breakdown
    theta = unravel(jnp.asarray(optimum.x))
    return _rescaled(coordinates.to_model(theta), scale), theta.inputs * scale[:, None] / scale_w[None], history, result


def _spread(values, seen) -> np.ndarray:
    """The standard deviation of each channel over what is seen, 1 where it is zero."""
    spread = np.nanstd(np.where(seen, np.asarray(values), np.nan), axis=(0, 1))
    return np.where(spread > 0, spread, 1.0)


def _rescaled(model: LinearGaussianModel, scale: Float[np.ndarray, " p"]) -> LinearGaussianModel:
    """The model of observations multiplied by `scale`, channel by channel."""
    return eqx.tree_at(
        lambda m: (m.observation, m.observation_offset, m.observation_noise),
        model,
        (
            scale[:, None] * model.observation,
            scale * model.observation_offset,
            scale[:, None] * model.observation_noise * scale[None],
        ),
    )
