r"""The optimal control of a conditionally Markov model by enumerating all token strings: costates on $d$ states, whatever the memory.

With $T_t^z(x,x')=C_t(x,z)K_t^z(x,x')$ along each string, and letters as in `hmm/exact_control.py`,

$$Y_T=F,\qquad Y_t(x)=\sum_zC_t(x,z)(K_t^zY_{t+1}(\cdot;z))(x)+c_t(x)^\top U_t,$$

and for every control that is a function of the past tokens

$$\mathbb E|F(X_T)-S_T|^2=\mathrm{var}_\mu(Y_0)+\mathbb E\sum_t\big[(\Gamma_tY_{t+1})(X_t)+(U_t+V_t(X_t))^\top R_t(X_t)(U_t+V_t(X_t))\big],$$

with $V_t(x)$ the slope of $z\mapsto(K_t^zY_{t+1}(\cdot;z))(x)$. The left side is that of any process with these kernels and emissions,
however its states and tokens depend on their past: at each time its states and tokens are distributed as those of this chain. The
case $K_t=A$ is Prop. 6 of [KudreChangMehta2026].
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jax import lax
from jaxtyping import Float

from ...maths.encoding import mean_and_slope, token_vectors
from ...models.conditional import AbstractConditionalHMM

_TOGETHER = 1024  # strings whose kernels are computed at once


def solved(
    model: AbstractConditionalHMM, length: int, F: Float[np.ndarray, " d"], controls: Sequence[Any] | None, steepest
):
    """The fields of a `ControlTree`, in order; `steepest(v, admissible)` is the optimal control of each string."""
    d, V, mu = model.n_states, model.n_tokens, np.asarray(model.initial, np.float64)
    C, K = zip(*(_level(model, t) for t in range(length)), strict=True) if length else ((), ())
    filters, probabilities, admissible = _filters(mu, C, K)
    E = token_vectors(V)

    Y = [np.broadcast_to(F, (V**length, d))]
    U, slopes, running = [], [], 0.0
    for t in reversed(range(length)):
        after = Y[0].reshape(V**t, V, d)
        KY = np.einsum("nzxy,nzy->nxz", K[t], after)
        mean, slope = mean_and_slope(KY)
        c = C[t] @ E  # [string, x, m]
        R = np.einsum("nxz,zi,zj->nxij", C[t], E, E) - np.einsum("nxi,nxj->nxij", c, c)
        v = np.sum(filters[t + 1] * Y[0], axis=1).reshape(V**t, V)
        u = steepest(v, admissible[t]) if controls is None else np.asarray(controls[t], np.float64)
        total = u[:, None] + slope
        noise = np.einsum("nxi,nxij,nxj->nx", total, R, total)
        gamma = np.einsum("nzxy,nxzy->nxz", K[t], (after[:, None] - KY[..., None]) ** 2)
        joint = probabilities[t][:, None] * filters[t]
        running += np.sum(joint * noise) + np.einsum("nx,nxz,nxz->", joint, C[t], gamma)
        costate = mean + np.einsum("nxi,nxi->nx", c, slope) + np.einsum("nxi,ni->nx", c, u)
        Y, U, slopes = [costate, *Y], [u, *U], [slope, *slopes]

    estimates = [mu @ Y[0].T]
    for u in U:
        estimates.append((estimates[-1][:, None] - u @ E.T).ravel())
    error = np.sum(filters[-1] * (F - estimates[-1][:, None]) ** 2, axis=1)
    cost = running + mu @ (Y[0][0] - mu @ Y[0][0]) ** 2
    return U, Y, slopes, estimates, filters, probabilities, float(cost), float(probabilities[-1] @ error)


def _level(model: AbstractConditionalHMM, t: int) -> tuple[Float[np.ndarray, "n d V"], Float[np.ndarray, "n V d d"]]:
    """$C_t$ after each string of length `t`, and $K_t^z$ after it and each token."""
    V, d = model.n_tokens, model.n_states
    strings = np.stack(np.unravel_index(np.arange(V ** (t + 1)), (V,) * (t + 1)), -1).astype(np.int32)
    C, K = _steps(model, strings[::V], strings, t)
    return np.asarray(C, np.float64), np.asarray(K, np.float64).reshape(V**t, V, d, d)


@eqx.filter_jit
def _steps(model: AbstractConditionalHMM, before, strings, t: int):
    C = lax.map(lambda z: model.emission_at(z, t), before, batch_size=min(_TOGETHER, len(before)))
    K = lax.map(lambda z: model.kernel_at(z, t), strings, batch_size=min(_TOGETHER, len(strings)))
    return C, K


def _filters(mu, C, K):
    r"""$\pi_t$, the probabilities of all strings, and which tokens each admits, by way of logarithms, so that no factor underflows;
    an impossible continuation moves the state as if nothing were seen."""
    filters, log_probability, probabilities, admissible = [mu[None]], np.zeros(1), [np.ones(1)], []
    with np.errstate(divide="ignore"):
        log_belief = np.log(mu)[None]
        for C_t, K_t in zip(C, K, strict=True):
            joint = log_belief[:, None] + np.log(C_t).transpose(0, 2, 1)  # [string, z, x]
            log_q = np.logaddexp.reduce(joint, axis=2)
            admissible.append(log_q > -np.inf)
            seen = np.where(admissible[-1][..., None], joint, log_belief[:, None])
            log_belief = np.logaddexp.reduce(seen[..., None] + np.log(K_t), axis=2).reshape(-1, len(mu))
            log_belief = log_belief - np.logaddexp.reduce(log_belief, axis=1, keepdims=True)
            filters.append(np.exp(log_belief))
            log_probability = (log_probability[:, None] + log_q).ravel()
            probabilities.append(np.exp(log_probability))
    return filters, probabilities, admissible
