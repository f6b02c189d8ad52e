"""Expectation–maximisation for linear-Gaussian models of any order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ....maths.covariance import eigh, pseudo_inverse, solve, symmetric
from ....models.linear_gaussian import LinearGaussianModel
from ...devices import AXIS, here, mesh_of, over_devices, summed
from .coordinates import SMALLEST_VARIANCE
from .kalman import SmootherPass, smoother_pass


class Statistics(NamedTuple):
    r"""Expected second moments given the data, summed over time and sequences.

    With the history $\xi_t=(X_t,\dots,X_{t-m+1})$: $S_{\xi\xi}$, $S_{x\xi}=\sum\mathbb E\,X_{t+1}\xi_t^\top$,
    $S_{xx}=\sum\mathbb E\,X_{t+1}X_{t+1}^\top$ over `steps` transitions; with $a=(X_t,1,w_t)$, $w$ the inputs: $S_{aa}$,
    $S_{za}$, $S_{zz}$ over `seen` times at which something is observed; the first state's moments `first` and `first2`
    over `sequences`.
    """

    S_ξξ: Float[Array, "n n"]
    S_xξ: Float[Array, "d n"]
    S_xx: Float[Array, "d d"]
    steps: Float[Array, ""]
    S_aa: Float[Array, "a a"]
    S_za: Float[Array, "p a"]
    S_zz: Float[Array, "p p"]
    seen: Float[Array, ""]
    first: Float[Array, " d"]
    first2: Float[Array, "d d"]
    sequences: Float[Array, ""]


class Data(NamedTuple):
    """Sequences side by side: `z`, `mask` (1 where observed), `inside` (before the end), and inputs `w` (q may be 0)."""

    z: Float[Array | np.ndarray, "B T p"]
    mask: Bool[Array | np.ndarray, "B T p"]
    inside: Bool[Array | np.ndarray, "B T"]
    w: Float[Array | np.ndarray, "B T q"]


def expectation(
    model: LinearGaussianModel, data: Data, D: Float[Array, "p q"], axis: str | None = None
) -> tuple[Statistics, Float[Array, ""]]:
    """The E-step: expected moments of what the inputs leave, $Z_t-Dw_t$, under `model`, and its log-likelihood; sums over the
    devices that `axis` names."""

    def one(part):
        z, mask, inside, w = part
        z = z - w @ D.T
        run = smoother_pass(model, z, mask)
        return _moments(model, run, z, mask, inside, w), run.log_likelihood

    moments, likelihoods = jax.lax.map(one, data)
    return summed((jax.tree.map(lambda a: a.sum(0), moments), likelihoods.sum()), axis)


_expect = jax.jit(expectation)


def expect(model: LinearGaussianModel, data: Data, D: Float[Array, "p q"]) -> tuple[Statistics, Float[Array, ""]]:
    """`expectation`, compiled, on the devices on which the data lie."""
    if (mesh := mesh_of(data.z)) is None:
        return _expect(model, data, D)
    return here(over_devices(mesh, expectation, (None, 0, None), None, axis=AXIS)(model, data, D))


def _moments(
    model: LinearGaussianModel,
    run: SmootherPass,
    z: Float[Array, "T p"],
    mask: Bool[Array, "T p"],
    inside: Bool[Array, " T"],
    w: Float[Array, "T q"],
) -> Statistics:
    d, p, q, dtype = model.n_states, model.n_channels, w.shape[1], z.dtype
    step, there = inside[1:].astype(dtype), inside.any().astype(dtype)
    ξ, V = run.x[:-1], run.V[:-1]
    S_ξξ = jnp.einsum("t,ti,tj->ij", step, ξ[:-1], ξ[:-1]) + jnp.einsum("t,tij->ij", step, V[:-1])
    S_xξ = jnp.einsum("t,ti,tj->ij", step, ξ[1:, :d], ξ[:-1]) + jnp.einsum("t,tij->ij", step, run.cross[:-1, :d])
    S_xx = jnp.einsum("t,ti,tj->ij", step, ξ[1:, :d], ξ[1:, :d]) + jnp.einsum("t,tij->ij", step, V[1:, :d, :d])

    # a channel missing beside observed ones is predicted from them: Z = J (z - c) + (I - J) H X + c + noise of cov C
    M = mask.astype(dtype)
    H, R, c = model.observation, model.observation_noise, model.observation_offset
    R_seen = M[:, :, None] * R[None] * M[:, None, :] + jax.vmap(jnp.diag)(1 - M)
    J = jnp.einsum("pq,tq,tqr,tr->tpr", R, M, solve(R_seen, jnp.broadcast_to(jnp.eye(p, dtype=dtype), R_seen.shape)), M)
    J = jnp.where((mask[:, :, None] & mask[:, None, :]), jnp.eye(p, dtype=dtype)[None], J)
    B = H[None] - J @ H
    C = R[None] - jnp.einsum("tpq,tq,qr->tpr", J, M, R)
    X, P = ξ[:, :d], V[:, :d, :d]
    z_hat = jnp.einsum("tpq,tq->tp", J, M * (z - c[None])) + jnp.einsum("tpd,td->tp", B, X) + c[None]
    used = (mask.any(1) & inside).astype(dtype)
    a = jnp.concatenate([X, jnp.ones((len(X), 1), dtype), w], axis=1)
    P_a = jnp.pad(P, ((0, 0), (0, 1 + q), (0, 1 + q)))
    cross = jnp.pad(jnp.einsum("tpd,tde->tpe", B, P), ((0, 0), (0, 0), (0, 1 + q)))
    spread = jnp.einsum("tpd,tde,tqe->tpq", B, P, B) + C
    return Statistics(
        S_ξξ,
        S_xξ,
        S_xx,
        step.sum(),
        jnp.einsum("t,ti,tj->ij", used, a, a) + jnp.einsum("t,tij->ij", used, P_a),
        jnp.einsum("t,ti,tj->ij", used, z_hat, a) + jnp.einsum("t,tij->ij", used, cross),
        jnp.einsum("t,ti,tj->ij", used, z_hat, z_hat) + jnp.einsum("t,tij->ij", used, spread),
        used.sum(),
        X[0] * there,
        (P[0] + jnp.outer(X[0], X[0])) * there,
        there,
    )


def _least_squares(S_ra: Float[Array, "r c"], S_aa: Float[Array, "c c"]) -> Float[Array, "r c"]:
    return S_ra @ pseudo_inverse(S_aa)


def _residual_covariance(
    B: Float[Array, "r c"],
    S_ra: Float[Array, "r c"],
    S_aa: Float[Array, "c c"],
    S_rr: Float[Array, "r r"],
    count: Array,
) -> Float[Array, "r r"]:
    """What coefficients `B` leave of the moments."""
    return symmetric(S_rr - B @ S_ra.T - S_ra @ B.T + B @ S_aa @ B.T) / jnp.maximum(count, 1)


def _floored(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    w, V = eigh(S)
    return symmetric((V * jnp.maximum(w, SMALLEST_VARIANCE)[None]) @ V.T)


def maximisation(
    model: LinearGaussianModel, s: Statistics, share: float | Float[Array, ""]
) -> tuple[LinearGaussianModel, Float[Array, "p q"]]:
    """The M-step: the model, and what is to be added to the weights of the inputs.

    The taps move the fraction `share` of the way to their optimum (1 for plain EM): the expected log-likelihood is
    concave in them, so every fraction raises it, which serves the constraint of stability.

    The initial covariance is kept unless there are more sequences than states, because one start tells nothing about a
    spread. The eigenvalues of the noises stay above `SMALLEST_VARIANCE`, which
    is the maximum under that constraint.
    """
    m, d = model.order, model.n_states
    old = jnp.moveaxis(model.transition, 0, 1).reshape(d, m * d)
    taps = old + share * (_least_squares(s.S_xξ, s.S_ξξ) - old)
    B = _least_squares(s.S_za, s.S_aa)
    mean = s.first / s.sequences
    spread = symmetric(s.first2 / s.sequences - jnp.outer(mean, mean))
    covariance = jnp.where(s.sequences > d, spread, model.initial_covariance)
    Q = _floored(_residual_covariance(taps, s.S_xξ, s.S_ξξ, s.S_xx, s.steps))
    R = _floored(_residual_covariance(B, s.S_za, s.S_aa, s.S_zz, s.seen))
    transition = jnp.moveaxis(taps.reshape(d, m, d), 1, 0)
    return LinearGaussianModel(mean, covariance, transition, B[:, :d], Q, R, B[:, d]), B[:, d + 1 :]
