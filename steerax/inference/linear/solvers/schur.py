r"""All predictions of a time-invariant process at once, by the generalised Schur algorithm.

The covariance $C$ of the observations is not Toeplitz (the process starts at $X_0\sim N(m_0,\Sigma_0)$), but subtracting
from it a copy shifted by one block leaves a matrix of low rank, whatever the order of the process:

$$C-SCS^\top=\Phi\Sigma_0\Phi^\top+(S\Phi)(Q-\Sigma_0)(S\Phi)^\top+E_0RE_0^\top,\qquad
\Phi=(\varphi_0;\varphi_1;\dots),\quad\varphi_t=HG_t.$$

One step of elimination keeps that form, with the leading block column of the generators replaced by its shift. So
all columns of the Cholesky factor of $C$ — the innovations, predictions, their variances, the likelihood — take
$O((2d+p)pT^2)$ operations and $O((2d+p)pT)$ memory. States ride along as extra rows $G_t$ under the same column
transformations. There is no place for missing values, and an unstable process makes $\Phi$ ill-conditioned.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...._results import RESULTS
from ....maths.covariance import solve_upper, square_root
from ....models.linear_gaussian import AbstractLinearGaussianModel, LinearGaussianModel
from .open_loop import adjoint_response
from .problem import AbstractSolver

_SEGMENTS = 4  # generators shrink as rows are done; that many compiled sizes waste 1 / _SEGMENTS of the work


class Predictions(NamedTuple):
    r"""Means `x` `[T+1 d]` and covariances `P` `[T+1 d d]` of $X_t$ given $Z_{<t}$, and the `log_likelihood`.

    A covariance is $\mathrm{cov}\,X_t$ minus what the past explains; a loss of digits beyond that subtraction shows as a
    negative variance. The `residual` is infinite and the `result` a breakdown then.
    """

    x: Float[Array, "T1 d"]
    P: Float[Array, "T1 d d"]
    log_likelihood: Float[Array, ""]

    iterations = 0

    @property
    def residual(self) -> Float[np.ndarray, ""]:
        return np.where((np.diagonal(self.P, axis1=1, axis2=2) >= 0).all(), 0.0, np.inf)

    @property
    def result(self) -> RESULTS:
        sound = np.isfinite(self.x).all() and self.residual == 0
        return RESULTS.successful if sound else RESULTS.breakdown


@dataclasses.dataclass(frozen=True)
class Schur(AbstractSolver):
    """All predictions, their covariances and the likelihood at once: time-invariant models and complete data."""

    answers = ("all",)
    serves_all_data = False

    def predictions(self, model: AbstractLinearGaussianModel, z: Float[Array, "T p"]) -> Predictions:
        """The predictions from complete data `z` (offset removed)."""
        assert isinstance(model, LinearGaussianModel)
        D = np.asarray(model.process_noise - model.initial_covariance, float)
        w, V = np.linalg.eigh(D)
        real = np.abs(w) > np.finfo(model.observation.dtype).eps * max(1e-300, np.abs(w).max())
        signed = jnp.asarray((V * np.sqrt(np.abs(w)))[:, real], model.observation.dtype)
        positive = tuple(bool(s) for s in w[real] > 0)
        response = jax.block_until_ready(_impulse_response(model.transition, len(z) + 1))
        return _sweep(model, response, z, signed, positive)


@functools.partial(jax.jit, static_argnums=1)
def _impulse_response(taps: Float[Array, "m d d"], length: int) -> Float[Array, "d d n"]:
    return adjoint_response(taps, jnp.eye(taps.shape[1], dtype=taps.dtype), length)


def _covariance_of_states(
    G: Float[Array, "T1 d d"], S_0: Float[Array, "d d"], Q: Float[Array, "d d"]
) -> Float[Array, "T1 d d"]:
    r"""$G_t\Sigma_0G_t^\top+\sum_{1\le k\le t}G_{t-k}QG_{t-k}^\top$."""
    noise = jnp.cumsum(jnp.einsum("tab,bc,tdc->tad", G, Q, G), axis=0)
    return jnp.einsum("tab,bc,tdc->tad", G, S_0, G).at[1:].add(noise[:-1])


def _generators(
    model: LinearGaussianModel, G: Float[Array, "T1 d d"], signed: Float[Array, "d s"], positive: tuple[bool, ...]
) -> tuple[Float[Array, "r T1 w"], Float[Array, "n T1 w"]]:
    """Positive and negative generators: rows of a block are the channels, then the states."""
    p = model.n_channels
    rows = jnp.concatenate([jnp.einsum("pd,tde->tpe", model.observation, G), G], axis=1)
    shifted = jnp.concatenate([jnp.zeros_like(rows[:1]), rows[:-1]])
    start = jnp.einsum("twd,de->etw", rows, square_root(model.initial_covariance))
    later = jnp.einsum("twd,de->etw", shifted, signed)
    noise = jnp.zeros((p, *rows.shape[:2]), G.dtype).at[:, 0, :p].set(square_root(model.observation_noise))
    keep = np.asarray(positive, bool)
    return jnp.concatenate([start, noise, later[keep]]), later[~keep]


def _reflect(M: Float[Array, "r T w"], column: Float[Array, " r"], live: int) -> Float[Array, "r T w"]:
    """A Householder reflection of the rows of `M` from `live` on that makes `column` zero below row `live`."""
    column = jnp.where(jnp.arange(len(column)) < live, 0.0, column)
    size = jnp.linalg.norm(column)
    v = column.at[live].add(jnp.copysign(size, column[live]))
    vv = v @ v
    factor = jnp.where(vv > 0, 2 / jnp.where(vv > 0, vv, 1.0), 0.0)
    return M - factor * jnp.einsum("r,tw->rtw", v, jnp.einsum("r,rtw->tw", v, M))


def _eliminate(
    pos: Float[Array, "r T w"], neg: Float[Array, "n T w"], here: Int[Array, ""], p: int
) -> tuple[Float[Array, "r T w"], Float[Array, "n T w"]]:
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


@functools.partial(jax.jit, static_argnums=4)
def _sweep(
    model: LinearGaussianModel,
    response: Float[Array, "d d T1"],
    z: Float[Array, "T p"],
    signed: Float[Array, "d s"],
    positive: tuple[bool, ...],
) -> Predictions:
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
        U = pos[:p, here, :p]
        forecast = predicted[here]
        white = solve_upper(U, (target - forecast[:p])[:, None], transposed=True)[:, 0]
        log_likelihood = -0.5 * (white @ white + p * np.log(2 * np.pi)) - jnp.log(jnp.abs(jnp.diagonal(U))).sum()
        predicted = predicted + jnp.einsum("i,itw->tw", white, pos[:p])
        share = explained[here]
        explained = explained + jnp.einsum("ita,itb->tab", pos[:p, :, p:], pos[:p, :, p:])
        moved = jnp.pad(pos[:p, :-1], ((0, 0), (1, 0), (0, 0)))
        return (pos.at[:p].set(moved), neg, predicted, explained), (forecast[p:], share, log_likelihood)

    parts, done, carry = [], 0, (pos, neg, predicted, explained)
    for end in (round(T * i / _SEGMENTS) for i in range(1, _SEGMENTS + 1)):
        n = end - done
        carry, part = jax.lax.scan(step, carry, (jnp.arange(n), e_z[done:end]))
        parts.append(part)
        carry = tuple(a[:, n:] if i < 2 else a[n:] for i, a in enumerate(carry))
        done = end
    states, share, log_likelihoods = (jnp.concatenate(a) for a in zip(*parts, strict=True))
    covariance = _covariance_of_states(G, model.initial_covariance, model.process_noise)
    x = jnp.concatenate([states, carry[2][:, p:]]) + mean
    return Predictions(x, covariance - jnp.concatenate([share, carry[3]]), log_likelihoods.sum())
