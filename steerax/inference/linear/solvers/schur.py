"""All predictions of a time-invariant process at once, by the generalised Schur algorithm.

The covariance `C` of the observations is not Toeplitz (the process starts at `X_0 ~ N(m_0, Σ_0)`), but subtracting
from it a copy shifted by one block leaves a matrix of low rank, whatever the order of the process:

    C - S C Sᵀ = Φ Σ_0 Φᵀ + (SΦ)(Q - Σ_0)(SΦ)ᵀ + E_0 R E_0ᵀ,      Φ = (φ_0; φ_1; …),  φ_t = H G_t.

One step of elimination keeps that form, with the leading block column of the generators replaced by its shift. So
all columns of the Cholesky factor of `C` — the innovations, predictions, their variances, the likelihood — take
`O((2d+p) p T²)` operations and `O((2d+p) p T)` memory. States ride along as extra rows `G_t` under the same column
transformations. There is no place for missing values, and an unstable process makes `Φ` ill-conditioned.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...._errors import ConfigurationError
from ....models.linear_gaussian import LinearGaussianModel
from .open_loop import adjoint_response
from .problem import AbstractSolver, Controls, DualProblem

SEGMENTS = 4  # generators shrink as rows are done; that many compiled sizes waste 1/SEGMENTS of the work


class Predictions(NamedTuple):
    r"""`observations` `[T p]`, the mean of $Z_t$ given the past, and `S` `[T p p]`, its covariance; `states`
    `[T+1 d]` and `P` `[T+1 d d]` likewise for $X_t$; `log_likelihood`."""

    observations: Float[Array, "T p"]
    S: Float[Array, "T p p"]
    states: Float[Array, "T1 d"]
    P: Float[Array, "T1 d d"]
    log_likelihood: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Schur(AbstractSolver):
    """All predictions, their covariances and the likelihood at once: time-invariant models and complete data."""

    answers = ("all",)

    def check(self, model, mask) -> None:
        if not (isinstance(model, LinearGaussianModel) and bool(mask.all())):
            raise ConfigurationError(
                "Schur needs a time-invariant model and complete data; use ClosedLoop for gaps and operators."
            )

    def solve(self, problem: DualProblem) -> Controls:
        raise ConfigurationError("Schur computes all predictions and no controls; pass queries='all'.")


def schur_predictions(model: LinearGaussianModel, z: Float[Array, "T p"]) -> Predictions:
    """One-step predictions of observations and states from complete data `z` (offset removed).

    The state covariance is `cov X_t` minus what the past explains; a loss of digits beyond that subtraction shows
    as a negative diagonal, which the caller checks.
    """
    D = np.asarray(model.process_noise - model.initial_covariance, float)
    w, V = np.linalg.eigh(D)
    real = np.abs(w) > np.finfo(model.observation.dtype).eps * max(1e-300, np.abs(w).max())
    signed = jnp.asarray((V * np.sqrt(np.abs(w)))[:, real], model.observation.dtype)
    positive = tuple(bool(s) for s in w[real] > 0)
    response = jax.block_until_ready(_impulse_response(model.transition, len(z) + 1))
    return _sweep(model, response, z, signed, positive)


@jax.jit
def _covariance_of_states(G, S_0, Q):
    """`G_t Σ_0 G_tᵀ + Σ_{1≤k≤t} G_{t-k} Q G_{t-k}ᵀ`, `[T+1 d d]`."""
    noise = jnp.cumsum(jnp.einsum("tab,bc,tdc->tad", G, Q, G), axis=0)
    return jnp.einsum("tab,bc,tdc->tad", G, S_0, G).at[1:].add(noise[:-1])


def _impulse(taps, length):
    return adjoint_response(taps, jnp.eye(taps.shape[1], dtype=taps.dtype), length)


_impulse_response = jax.jit(_impulse, static_argnums=1)


def _root(S):
    w, V = jnp.linalg.eigh(S)
    return V * jnp.sqrt(jnp.maximum(w, 0.0))[None]


def _generators(model, G, signed, positive):
    """Positive and negative generators `[r T+1 w]`: rows of a block are the channels, then (perhaps) the states."""
    T1, _d, p = len(G), model.n_states, model.n_channels
    rows = jnp.einsum("pd,tde->tpe", model.observation, G)
    rows = jnp.concatenate([rows, G], axis=1)
    shifted = jnp.concatenate([jnp.zeros_like(rows[:1]), rows[:-1]])
    start = jnp.einsum("twd,de->etw", rows, _root(model.initial_covariance))
    later = jnp.einsum("twd,de->etw", shifted, signed)
    noise = jnp.zeros((p, T1, rows.shape[1]), G.dtype).at[:, 0, :p].set(_root(model.observation_noise).T)
    keep = np.asarray(positive, bool)
    return jnp.concatenate([start, noise, later[keep]]), later[~keep]


def _reflect(M, column, live):
    """A Householder reflection of the rows of `M` from `live` on that makes `column` zero below row `live`."""
    column = jnp.where(jnp.arange(len(column)) < live, 0.0, column)
    size = jnp.linalg.norm(column)
    v = column.at[live].add(jnp.copysign(size, column[live]))
    vv = v @ v
    factor = jnp.where(vv > 0, 2 / jnp.where(vv > 0, vv, 1.0), 0.0)
    return M - factor * jnp.einsum("r,tw->rtw", v, jnp.einsum("r,rtw->tw", v, M))


def _eliminate(pos, neg, here, p):
    """J-unitary column transformations that leave block `here` as a triangle in the first `p` positive columns."""
    for i in range(p):
        pos = _reflect(pos, pos[:, here, i], i)
        if len(neg):
            neg = _reflect(neg, neg[:, here, i], 0)
            ratio = neg[0, here, i] / pos[i, here, i]
            c = 1 / jnp.sqrt((1 - ratio) * (1 + ratio))
            row = c * (pos[i] - ratio * neg[0])
            neg = neg.at[0].set(neg[0] / c - ratio * row)  # mixed downdating: the stable order
            pos = pos.at[i].set(row)
    return pos, neg


def _sweep_once(model, response, z, signed, positive):
    G = jnp.moveaxis(response, -1, 0).swapaxes(1, 2)  # the response is that of the transposed taps
    T, p = z.shape
    pos, neg = _generators(model, G, signed, positive)
    mean = jnp.einsum("tde,e->td", G, model.initial_mean)
    e_z = z - mean[:T] @ model.observation.T
    width = pos.shape[2]
    predicted = jnp.zeros((T + 1, width), z.dtype)
    explained = jnp.zeros((T + 1, width - p, width - p), z.dtype)

    def step(carry, inputs):
        pos, neg, predicted, explained = carry
        here, target = inputs
        pos, neg = _eliminate(pos, neg, here, p)
        L = pos[:p, here, :p].T
        forecast = predicted[here]
        white = jax.scipy.linalg.solve_triangular(L, target - forecast[:p], lower=True)
        predicted = predicted + jnp.einsum("i,itw->tw", white, pos[:p])
        share = explained[here]
        explained = explained + jnp.einsum("ita,itb->tab", pos[:p, :, p:], pos[:p, :, p:])
        moved = jnp.pad(pos[:p, :-1], ((0, 0), (1, 0), (0, 0)))
        return (pos.at[:p].set(moved), neg, predicted, explained), (forecast, L, share, white)

    parts, done = [], 0
    bounds = [round(T * i / SEGMENTS) for i in range(1, SEGMENTS + 1)]
    carry = (pos, neg, predicted, explained)
    for end in bounds:
        n = end - done
        carry, part = jax.lax.scan(step, carry, (jnp.arange(n), e_z[done:end]))
        parts.append(part)
        carry = tuple(a[:, n:] if i < 2 else a[n:] for i, a in enumerate(carry))
        done = end
    forecast, L, share, white = (jnp.concatenate(a) for a in zip(*parts, strict=True))
    last, last_share = carry[2], carry[3]
    log_det = jnp.log(jnp.abs(jnp.diagonal(L, axis1=1, axis2=2))).sum()
    log_likelihood = -0.5 * (jnp.sum(white**2) + T * p * np.log(2 * np.pi)) - log_det
    S = jnp.einsum("tij,tkj->tik", L, L)
    X = jnp.concatenate([forecast[:, p:], last[:, p:]]) + mean
    P = _covariance_of_states(G, model.initial_covariance, model.process_noise)
    P = P - jnp.concatenate([share, last_share])
    return Predictions(forecast[:, :p] + mean[:T] @ model.observation.T, S, X, P, log_likelihood)


_sweep = jax.jit(_sweep_once, static_argnums=4)
