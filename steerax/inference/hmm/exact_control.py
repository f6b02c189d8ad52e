r"""Solve the filter's optimal-control problem exactly by enumerating all token strings.

Letters: $e(z)$ token vectors (`maths/encoding.py`), $c(x)=\sum_zC(x,z)e(z)$,
$R(x)=\sum_zC(x,z)e(z)e(z)^\top-c(x)c(x)^\top$. For a control $U$ that is a function of the past tokens, the backward
stochastic difference equation is

$$Y_T=F,\qquad Y_t(x)=(AY_{t+1})(x)+c(x)^\top(U_t+V_t(x))-V_t(x)^\top e(Z_t),$$

where $V_t(x)$ is the slope of $z\mapsto(AY_{t+1}(\cdot;z))(x)$, which makes $Y_t$ a function of $Z_{<t}$. Its cost is

$$J(U)=\mathrm{var}_\mu(Y_0)+\mathbb E\sum_t\big[(\Gamma Y_{t+1})(X_t)+(U_t+V_t(X_t))^\top R(X_t)(U_t+V_t(X_t))\big],
\qquad\Gamma f=Af^2-(Af)^2,$$

and the *duality principle* says $J(U)=\mathbb E|F(X_T)-S_T|^2$ with $S_T=\mu(Y_0)-\sum_tU_t^\top e(Z_t)$, for every such $U$.
The optimal control makes $S_T=\pi_T(F)$. Secs. 3.1, 3.2 and appendix A of [KudreChangMehta2026]; [ChangMehta2025].
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..._errors import ConfigurationError, DataError
from ...maths.encoding import mean_and_slope, token_vectors
from ...models.hmm import HiddenMarkovModel

MAX_STRINGS = 2**20  # that a tree may hold


class ControlTree(eqx.Module):
    r"""What `optimal_control` returns. Strings of length $t$ are numbered row-major, `[V^t]`; `m = V - 1`.

    **Attributes:** `controls`, $U_t$ `[V^t m]` for $t=0\dots T-1$; `states`, $Y_t$ `[V^t d]` for $t=0\dots T$; `slopes`, $V_t$
    `[V^t d m]`; `estimates`, $S_t=\mu(Y_0)-\sum_{s<t}U_s^\top e(Z_s)$ `[V^t]`; `filters`, $\pi_t$ `[V^t d]`; `probabilities` of
    the strings `[V^t]`; `cost`, $J(U)$; `mse`, $\mathbb E|F(X_T)-S_T|^2$ by enumeration.
    """

    controls: list[Float[np.ndarray, "_ m"]]
    states: list[Float[np.ndarray, "_ d"]]
    slopes: list[Float[np.ndarray, "_ d m"]]
    estimates: list[Float[np.ndarray, " _"]]
    filters: list[Float[np.ndarray, "_ d"]]
    probabilities: list[Float[np.ndarray, " _"]]
    cost: float
    mse: float


def optimal_control(
    hmm: HiddenMarkovModel, length: int, target: Any, controls: Sequence[Any] | None = None
) -> ControlTree:
    r"""Solve the control problem for $F=$ `target` on all $V^T$ strings: for small instances and for checks.

    The optimal control is, at $\pi=\pi_t$ and with $w(x)=\sum_zC(x,z)(AY_{t+1}(\cdot;z))(x)$,

    $$U_t=-\big(\pi(R)+\mathrm{cov}_\pi(c)\big)^\dagger\big(\mathrm{cov}_\pi(c,w)+\pi(RV_t)\big).$$

    With `controls` ($U_t$ `[V^t m]` for each $t$) that control is evaluated instead.

    **Arguments:** `hmm`; `length`, `T`; `target`, `F` `[d]`; `controls`, or `None` for the optimal one.

    **Raises:** `ConfigurationError` if the tree is too large; `DataError` for a target or controls of another shape.
    """
    d, V = hmm.n_states, hmm.n_tokens
    if length < 0 or V**length > MAX_STRINGS:
        raise ConfigurationError(f"A tree of {V}^{length} strings is outside 1 … {MAX_STRINGS}; use a shorter length.")
    F = np.asarray(target, np.float64)
    if F.shape != (d,):
        raise DataError(f"The target has shape {F.shape}; a function of the state is [{d}].")
    wanted = [(V**t, V - 1) for t in range(length)]
    if controls is not None and [np.shape(u) for u in controls] != wanted:
        raise DataError(f"Controls are one array per time, of shapes {wanted}.")
    mu, A, C = (np.asarray(a, np.float64) for a in (hmm.initial, hmm.dense_transition, hmm.emission))
    filters, probabilities = _filters(mu, A, C, length)
    E = token_vectors(V)
    c = C @ E
    R = np.einsum("xz,zi,zj->xij", C, E, E) - np.einsum("xi,xj->xij", c, c)

    Y = [np.broadcast_to(F, (V**length, d))]
    U, slopes, running = [], [], 0.0
    for t in reversed(range(length)):
        AY = (Y[0] @ A.T).reshape(V**t, V, d).transpose(0, 2, 1)  # [string, x, z]
        mean, slope = mean_and_slope(AY)
        w = mean + np.einsum("xi,nxi->nx", c, slope)
        u = _stationary(filters[t], c, R, slope, w) if controls is None else np.asarray(controls[t], np.float64)
        total = u[:, None] + slope
        noise = np.einsum("nxi,xij,nxj->nx", total, R, total)
        gamma = (Y[0] ** 2 @ A.T - (Y[0] @ A.T) ** 2).reshape(V**t, V, d)
        joint = probabilities[t][:, None] * filters[t]
        running += np.sum(joint * noise) + np.einsum("nx,xz,nzx->", joint, C, gamma)
        Y, U, slopes = [w + u @ c.T, *Y], [u, *U], [slope, *slopes]

    estimates = [mu @ Y[0].T]
    for u in U:
        estimates.append((estimates[-1][:, None] - u @ E.T).ravel())
    error = filters[-1] @ F**2 - 2 * estimates[-1] * (filters[-1] @ F) + estimates[-1] ** 2
    cost = running + mu @ Y[0][0] ** 2 - (mu @ Y[0][0]) ** 2
    return ControlTree(
        U, Y, slopes, estimates, filters, probabilities, float(cost), float(probabilities[-1] @ error)
    )  # fmt: skip


def _filters(mu, A, C, length):
    r"""$\pi_t$ and probabilities of all strings; an impossible continuation moves the state as if nothing were seen."""
    filters, probabilities = [mu[None]], [np.ones(1)]
    for _ in range(length):
        q = filters[-1] @ C
        joint = np.where(q[:, :, None] > 0, filters[-1][:, None] * C.T, filters[-1][:, None])
        filters.append((joint / joint.sum(-1, keepdims=True)).reshape(-1, len(mu)) @ A)
        probabilities.append((probabilities[-1][:, None] * q).ravel())
    return filters, probabilities


def _stationary(rho, c, R, slope, w):
    """The optimal control at the distributions `rho` `[n d]`: the pseudo-inverse takes the smallest of several."""
    mean_c = rho @ c
    centred = c - mean_c[:, None]
    M = np.einsum("nx,xij->nij", rho, R) + np.einsum("nx,nxi,nxj->nij", rho, centred, centred)
    b = np.einsum("nx,nx,nxi->ni", rho, w, centred) + np.einsum("nx,xij,nxj->ni", rho, R, slope)
    return -np.einsum("nij,nj->ni", np.linalg.pinv(M, rcond=1e-11, hermitian=True), b)
