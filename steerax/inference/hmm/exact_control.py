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

from ..._bounds import COUNT_OR_ZERO, bounded
from ..._errors import ConfigurationError, DataError
from ...maths.encoding import mean_and_slope, token_vectors
from ...models.conditional import AbstractConditionalHMM
from ..conditional.exact_control import solved
from ..tokens import check_hidden

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


@bounded(length=COUNT_OR_ZERO)
def optimal_control(hmm: Any, length: int, target: Any, controls: Sequence[Any] | None = None) -> ControlTree:
    r"""Solve the control problem for $F=$ `target` on all $V^T$ strings: for small instances and for checks.

    The optimal control is, on the tokens that are admissible after the string,

    $$U_t^\top e(z)=-\Big(v(z)-\frac1n\sum_{z'}v(z')\Big),\qquad v(z)=\pi_{t+1}(Y_{t+1}(\cdot;z)),$$

    with $n$ of them, and zero for the others: what the paper's formula
    $U_t=-(\pi(R)+\mathrm{cov}_\pi(c))^\dagger(\mathrm{cov}_\pi(c,w)+\pi(RV_t))$ gives, without its pseudo-inverse, which
    loses tokens of probability $10^{-14}$ and below.

    For a conditionally Markov model $A\to K_t$ (`conditional/exact_control.py`). With `controls` ($U_t$ `[V^t m]` for each $t$) that control is evaluated instead.

    **Arguments:** `hmm`; `length`, `T`; `target`, `F` `[d]`; `controls`, or `None` for the optimal one.

    **Raises:** `ConfigurationError` if the tree is too large; `DataError` for a target or controls of another shape.
    """
    general = isinstance(hmm, AbstractConditionalHMM)
    if not general:
        check_hidden("optimal_control", hmm)
    d, V = hmm.n_states, hmm.n_tokens
    if length < 0 or V**length > MAX_STRINGS:
        raise ConfigurationError(f"A tree of {V}^{length} strings is outside 1 … {MAX_STRINGS}; use a shorter length.")
    F = np.asarray(target, np.float64)
    if F.shape != (d,):
        raise DataError(f"The target has shape {F.shape}; a function of the state is [{d}].")
    wanted = [(V**t, V - 1) for t in range(length)]
    if controls is not None and [np.shape(u) for u in controls] != wanted:
        raise DataError(f"Controls are one array per time, of shapes {wanted}.")
    if general:
        return ControlTree(*solved(hmm, length, F, controls, _steepest))
    mu, A, C = (np.asarray(a, np.float64) for a in (hmm.initial, hmm.dense_transition, hmm.emission))
    filters, probabilities, admissible = _filters(mu, A, C, length)
    E = token_vectors(V)
    c = C @ E
    R = np.einsum("xz,zi,zj->xij", C, E, E) - np.einsum("xi,xj->xij", c, c)

    Y = [np.broadcast_to(F, (V**length, d))]
    U, slopes, running = [], [], 0.0
    for t in reversed(range(length)):
        AY = (Y[0] @ A.T).reshape(V**t, V, d).transpose(0, 2, 1)  # [string, x, z]
        mean, slope = mean_and_slope(AY)
        w = mean + np.einsum("xi,nxi->nx", c, slope)
        v = np.sum(filters[t + 1] * Y[0], axis=1).reshape(V**t, V)
        u = _steepest(v, admissible[t]) if controls is None else np.asarray(controls[t], np.float64)
        total = u[:, None] + slope
        noise = np.einsum("nxi,xij,nxj->nx", total, R, total)
        gamma = np.stack([(Y[0] - (Y[0] @ row)[:, None]) ** 2 @ row for row in A], axis=1).reshape(V**t, V, d)
        joint = probabilities[t][:, None] * filters[t]
        running += np.sum(joint * noise) + np.einsum("nx,xz,nzx->", joint, C, gamma)
        Y, U, slopes = [w + u @ c.T, *Y], [u, *U], [slope, *slopes]

    estimates = [mu @ Y[0].T]
    for u in U:
        estimates.append((estimates[-1][:, None] - u @ E.T).ravel())
    error = np.sum(filters[-1] * (F - estimates[-1][:, None]) ** 2, axis=1)
    cost = running + mu @ (Y[0][0] - mu @ Y[0][0]) ** 2
    return ControlTree(
        U, Y, slopes, estimates, filters, probabilities, float(cost), float(probabilities[-1] @ error)
    )  # fmt: skip


def _filters(mu, A, C, length):
    r"""$\pi_t$, the probabilities of all strings, and which tokens each string admits, by way of logarithms, so that no
    factor underflows; an impossible continuation moves the state as if nothing were seen."""
    with np.errstate(divide="ignore"):
        log_belief, log_A, log_C = np.log(mu)[None], np.log(A), np.log(C)
    filters, log_probability, probabilities, admissible = [mu[None]], np.zeros(1), [np.ones(1)], []
    for _ in range(length):
        joint = log_belief[:, None] + log_C.T  # [string, z, x]
        log_q = np.logaddexp.reduce(joint, axis=2)
        admissible.append(log_q > -np.inf)
        seen = np.where(admissible[-1][..., None], joint, log_belief[:, None]).reshape(-1, len(mu))
        terms = [seen[:, x, None] + log_A[x] for x in range(len(mu))]
        log_belief = np.logaddexp.reduce(np.stack(terms), axis=0)
        log_belief = log_belief - np.logaddexp.reduce(log_belief, axis=1, keepdims=True)
        filters.append(np.exp(log_belief))
        log_probability = (log_probability[:, None] + log_q).ravel()
        probabilities.append(np.exp(log_probability))
    return filters, probabilities, admissible


def _steepest(v, admissible):
    """The optimal control of each string: minus the slope of `v` on its admissible tokens."""
    mean = np.sum(np.where(admissible, v, 0.0), axis=1, keepdims=True) / admissible.sum(axis=1, keepdims=True)
    return -mean_and_slope(np.where(admissible, v - mean, 0.0))[1]
