r"""The distribution of the hidden states as it moves through depth.

$\partial_t\nu+\nabla\!\cdot(\zeta F\nu)=0$ for the distribution $\nu_t$ of *whole sequences* (of a single token only with the
averaged velocity $\mathbb E[F\mid x]$). In weak form $\frac{d}{dt}\mathbb E\varphi(X)=\mathbb E\langle\nabla\varphi(X),\zeta F\rangle$,
and a network satisfies it to $O(\varepsilon)$ [HuanYuan2026].
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ...maths.wasserstein import directions, sliced_wasserstein


@eqx.filter_jit
def continuity_residual(
    X: Float[Array, "S B n D"], test_function: Callable[[Float[Array, "n D"]], Float[Array, ""]]
) -> Float[Array, " S-1"]:
    r"""Weak residual of the continuity equation, layer by layer.

    $r_l=\big(\mathbb E\varphi(X_{l+1})-\mathbb E\varphi(X_l)\big)/\varepsilon-\mathbb E\langle\nabla\varphi(X_l),\zeta_lF_l\rangle$,
    with $\zeta_lF_l=(X_{l+1}-X_l)/\varepsilon$: $O(\varepsilon)$ by Taylor, and exactly $\frac\varepsilon2\mathbb E|\zeta F|^2$
    for $\varphi=\frac12|x|^2$. A check of theorems on toys; a trained network's layers are far from small steps.
    """
    L = X.shape[0] - 1
    value, slope = jax.vmap(jax.vmap(jax.value_and_grad(test_function)))(X)
    moved = (slope[:-1] * jnp.diff(X, axis=0)).sum((-1, -2))
    return L * (jnp.diff(value, axis=0) - moved).mean(1)


def kinetic_energy(X: Float[Array, "S N D"]) -> Float[Array, " S-1"]:
    r"""$\mathbb E|\delta_m|^2$, $\delta_m=X_{m+1}-X_m$, per step and token."""
    return (jnp.diff(X, axis=0) ** 2).sum(-1).mean(1)


def mean_shift_share(X: Float[Array, "S N D"]) -> Float[Array, " S-1"]:
    r"""$|\mathbb E\delta|^2/\mathbb E|\delta|^2$ in [0, 1]: the part of the motion that is the same for every token."""
    step = jnp.diff(X, axis=0)
    return (step.mean(1) ** 2).sum(-1) / (step**2).sum(-1).mean(1)


def radial_share(X: Float[Array, "S N D"]) -> Float[Array, " S-1"]:
    r"""$\mathbb E\langle\delta,x/|x|\rangle^2/\mathbb E|\delta|^2$ in [0, 1]: the part that only changes a token's length."""
    step, x = jnp.diff(X, axis=0), X[:-1]
    along = (step * x).sum(-1) ** 2 / (x**2).sum(-1)
    return along.mean(1) / (step**2).sum(-1).mean(1)


def sliced_path(
    X: Float[Array, "S N D"], key: PRNGKeyArray, number: int = 64
) -> tuple[Float[np.ndarray, " S-1"], Float[np.ndarray, " S"]]:
    r"""How far each step moves the distribution of tokens: $D\cdot SW_2^2$ between the distributions before and after, and its noise floor.

    The tokens are split at random in two halves, once; the distance compares one half before with the other half after
    a step, and the floor compares the two halves of the same state. Pairing a token with itself would return the
    kinetic energy instead. A step whose distance is not above its floor has not measurably moved the distribution.
    """
    N, D = X.shape[1:]
    order_key, direction_key = jax.random.split(key)
    theta = directions(direction_key, number, D, X.dtype)
    order = jax.random.permutation(order_key, N)
    first, second = X[:, order[: N // 2]], X[:, order[N // 2 : 2 * (N // 2)]]
    floor = np.asarray([_distance(a, b, theta) for a, b in zip(first, second, strict=True)])
    path = np.asarray([_distance(a, b, theta) for a, b in zip(first[:-1], second[1:], strict=True)])
    return path, floor


_distance = jax.jit(lambda a, b, theta: sliced_wasserstein(a, b, theta)[0])
