r"""Chains whose next state is a mixture over lags of hidden states, as conditionally Markov chains, on arrays.

$$P(X_{t+1}=x'\mid X_{\le t},Z_{\le t})=\sum_{j<m}\lambda_{t,j}A_j(X_{t-j},x')$$

has the kernels $K_t=\sum_j\lambda_{t,j}R_{t,j}A_j$ with $R_{t,j}(x,s)=P(X_{t-j}=s\mid X_t=x,Z_{\le t})$. To move $R$ on exactly takes the
distribution of $m$ states. The *window closure* keeps that of the last $w$, `p` `[n]` with $n=d^w$ (oldest first), and
$R_a$ `[n d]` for the lags $a=w\dots m-1$, taken as independent of each other given the window:
$O((m-w)d^{w+2})$ a token, exact for $w\ge m-1$. For a smaller $w$ the closure is a model of its own, whose rows sum to one and under
which everything stays possible that was.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Window(NamedTuple):
    """What is known of the states up to $X_t$ before its token: `p` of the window, and `R` of the lags beyond it."""

    p: Float[Array, " n"]
    R: Float[Array, "k n d"]


def window_of(m: int, w: int) -> int:
    """The window that is used: more than `m - 1` states say nothing more."""
    return max(1, min(w, m - 1))


def started(mu: Float[Array, " d"], m: int, w: int) -> Window:
    r"""States up to $X_0$ independent with distribution $\mu$."""
    p = mu
    for _ in range(w - 1):
        p = (p[:, None] * mu[None]).reshape(-1)
    return Window(p, jnp.broadcast_to(mu, (max(m - w, 0), len(p), len(mu))))


def advanced(
    state: Window, weights: Float[Array, " m"], c: Float[Array, " d"], A: Float[Array, "m d d"]
) -> tuple[Window, Float[Array, "d d"]]:
    """The window after a token of probabilities `c`, and the kernel from $X_t$ to $X_{t+1}$, which does not read that token."""
    (p, R), (m, d, _) = state, A.shape
    n, k = len(p), R.shape[0]
    w = m - k
    index = jnp.arange(n)
    inside = [weights[j] * A[j][index // d**j % d] for j in range(w)]
    beyond = [weights[w + i] * R[i] @ A[w + i] for i in range(k)]
    rows = jnp.stack(inside + beyond).sum(0)  # [n d], the next state given the window
    kernel = _averaged(p, rows, d)

    joint = p * c[index % d]
    q = joint.sum()
    p = jnp.where(q > 0, joint / jnp.where(q > 0, q, 1), p)
    pairs = p[:, None] * rows
    new = pairs.reshape(d, -1).sum(0)  # the oldest state leaves the window
    moved = [pairs.reshape(d, n).T]
    for i in range(k - 1):
        given = p[:, None] * R[i]
        other = given[:, :, None] * jnp.maximum(rows - beyond[i], 0)[:, None, :]
        own = weights[w + i] * given[:, :, None] * A[w + i][None]
        moved.append((other + own).reshape(d, n // d, d, d).sum(0).transpose(0, 2, 1).reshape(n, d))
    # a window that is impossible has no distribution of what was before it, and needs none
    share = lambda part: jnp.where((new > 0)[:, None], part / jnp.where(new > 0, new, 1)[:, None], 1 / d)
    return Window(new, jnp.stack([share(part) for part in moved[:k]]) if k else R), kernel


def _averaged(p: Float[Array, " n"], rows: Float[Array, "n d"], d: int) -> Float[Array, "d d"]:
    """Rows of windows as rows of their newest state; the plain mean for one that is impossible."""
    p, rows = p.reshape(-1, d), rows.reshape(-1, d, d)
    mass = p.sum(0, keepdims=True)
    share = jnp.where(mass > 0, p / jnp.where(mass > 0, mass, 1), 1 / len(p))
    return jnp.sum(share[..., None] * rows, 0)


def kernels_of(
    mu: Float[Array, " d"], A: Float[Array, "m d d"], weights: Float[Array, "T m"], c: Float[Array, "T d"], w: int
) -> Float[Array, "T d d"]:
    r"""$K_0\dots K_{T-1}$ along tokens with weights $\lambda_t$ and probabilities $c_t(x)$, ones where they are missing."""
    start = started(mu, len(A), window_of(len(A), w))
    return lax.scan(lambda state, x: advanced(state, *x, A), start, (weights, c))[1]
