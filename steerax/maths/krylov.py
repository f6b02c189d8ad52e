"""Preconditioned conjugate gradients for several right-hand sides at once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Krylov(NamedTuple):
    r"""`x`, the solution; `iterations` spent (the slowest column's); `residual` per column, $\|b-Cx\|_M$ recomputed
    from $x$ and divided by the square root of the scale."""

    x: Float[Array, "*n k"]
    iterations: Int[Array, ""]
    residual: Float[Array, " k"]


def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Float[Array, "*n k"],
    precondition: Callable[[Array], Array],
    tolerance: float,
    max_steps: int,
    scale: Float[Array, " k"] | None = None,
) -> Krylov:
    r"""Solve $Cx=b$ for a symmetric positive definite $C$, column by column of the last axis.

    One application of $C$ and of the preconditioner $M\approx C^{-1}$ per iteration serves all columns. A column stops
    when $r^\top Mr\le\mathrm{tolerance}^2\,\mathrm{scale}$, with the scale $b^\top Mb$ by default, or when rounding has
    made $p^\top Cp$ non-positive. The
    recursive residual that stops the loop can drift from the true one, so the true one is computed once more at the
    end, at the price of one application.
    """
    along = tuple(range(b.ndim - 1))
    dot = lambda a, c: jnp.sum(a * c, axis=along, keepdims=True)
    # a column that is done has direction zero and must stay as it is
    divide = lambda a, c: jnp.where(c > 0, a / jnp.where(c > 0, c, 1.0), 0.0)
    z = precondition(b)
    bMb = dot(b, z)
    size = bMb if scale is None else scale.reshape(bMb.shape)
    goal = tolerance**2 * size

    def unfinished(state):
        k, _, _, _, rz, alive = state
        return (k < max_steps) & jnp.any(alive & (rz > goal))

    def step(state):
        k, x, r, direction, rz, alive = state
        alive = alive & (rz > goal)
        direction = jnp.where(alive, direction, 0.0)
        image = apply(direction)
        curvature = dot(direction, image)
        alive = alive & (curvature > 0)
        alpha = jnp.where(alive, divide(rz, curvature), 0.0)
        x, r = x + alpha * direction, r - alpha * image
        z = precondition(r)
        rz_next = jnp.where(alive, dot(r, z), rz)
        direction = z + divide(rz_next, rz) * direction
        return k + 1, x, r, direction, rz_next, alive

    start = (jnp.asarray(0), jnp.zeros_like(b), b, z, bMb, bMb > 0)
    k, x, *_ = jax.lax.while_loop(unfinished, step, start)
    r = b - apply(x)
    residual = jnp.sqrt(jnp.maximum(dot(r, precondition(r)), 0.0) / jnp.where(size > 0, size, 1.0))
    return Krylov(x, k, residual.reshape(b.shape[-1]))
