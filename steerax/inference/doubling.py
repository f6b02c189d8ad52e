r"""Layers that double the window: a scheme that only gets better, exact after $\lceil\log_2T\rceil$ layers.

With the operator $N_t$ of the token $z_{t-1}$ ($\mathrm{diag}(C_z)A$ of a chain, $T^z$ of a process of operators, $A$ for a missing
one), products of the last $2^l$ of them and the belief that only these tokens are known,

$$P^{(0)}_t=N_t,\qquad P^{(l+1)}_t=P^{(l)}_{t-2^l}P^{(l)}_t,\qquad b^{(l)}_t\propto\mu A^{\max(0,t-2^l)}P^{(l)}_t .$$

$b^{(l)}_t$ is the exact belief given the last $\min(t,2^l)$ tokens, so the mean divergence of its prediction from the filter's is
$I(Z_t;Z_{<t-2^l}\mid Z_{t-2^l\dots t-1})$ and never grows with $l$. $O(d^3T)$ a layer. It is the associative scan of
[HillisSteele1986].
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._errors import ConfigurationError
from .._results import RESULTS, is_traced
from .hmm.kernels.recursions import Limits
from .hmm.kernels.scaled import Scaled
from .results import DualFiltered
from .tokens import AbstractFilteredTokens, batch_first, check_choice

SCHEMES = ("dual", "doubling")


def check_scheme(scheme: str, **others: Any) -> None:
    """Raises `ConfigurationError` for an unknown scheme, or options that doubling does not have."""
    check_choice("scheme", scheme, SCHEMES)
    if scheme == "doubling" and (given := [name for name, value in others.items() if value is not None]):
        raise ConfigurationError(
            f'scheme="doubling" has no {given[0]}: it starts from the last token alone and is exact after log2(T) layers.'
        )


class Windows(NamedTuple):
    """What doubling needs of a model along its tokens: the `operators` $N_t$; `support`, 1 where they are not zero before rounding;
    `w`, whose product with a belief is its mass; and `exact()`, the beliefs before any token and the operators as numbers of which
    none underflows."""

    operators: Float[Array, "T *batch d d"]
    support: Float[Array, "T *batch d d"]
    w: Float[Array, " d"]
    exact: Callable[[], tuple[Scaled, Scaled]]


def dual_filtered_by_doubling(
    filtered: AbstractFilteredTokens,
    prior: Float[Array, "T1 *priors d"],
    windows: Windows,
    layers: int | None,
    keep: bool,
) -> DualFiltered:
    """Beliefs after `layers` doublings of the window, or after as many as make it cover all tokens.

    A window is read from every state, also from those that the filter has ruled out, so its products can lose mass where the
    filter does not: then all is computed again in scaled numbers.
    """
    operators, support, w, exact = windows
    length = len(operators)
    needed = math.ceil(math.log2(max(length, 1)))
    layers = needed if layers is None else layers
    widths = jnp.asarray([min(2**n, length) for n in range(layers)], jnp.int32)
    shape = (len(prior), *(1,) * (operators.ndim - 1 - prior.ndim), *prior.shape[1:])
    first, spread = filtered.states[:1], lambda p: p.reshape(shape)
    like = lambda p: jnp.broadcast_to(spread(p), filtered.states.shape)
    found, lost = _doubled(first, like(prior), operators, support, w, widths)

    def again():
        prior, operators = exact()
        return _doubled_scaled(first, jax.tree.map(like, prior), operators, w, widths)

    if is_traced(lost):
        beliefs, residuals = lax.cond(lost, again, lambda: found)
    else:
        beliefs, residuals = again() if lost else found
    residuals = residuals if is_traced(residuals) else np.asarray(residuals)
    history = None
    if keep:
        history = jnp.moveaxis(beliefs, 2, 1) if beliefs.ndim > 3 else beliefs
    result = RESULTS.successful if layers >= needed else RESULTS.max_steps_reached
    return DualFiltered(batch_first(beliefs[-1]), residuals, layers, result, history)


def _windows(first, prior, P, step, belief, widths):
    """`(beliefs [layers+1 T+1 … d], residuals [layers])` and the last products, from those of one operator each."""
    times = jnp.arange(len(jax.tree.leaves(P)[0]))

    def after(P, width):
        return jnp.concatenate([first, belief(prior[jnp.maximum(times + 1 - width, 0)], P)])

    def double(P, width):
        P = step(P, jnp.maximum(times - width, 0), times >= width)
        return P, after(P, 2 * width)

    start = after(P, 1)
    P, rest = lax.scan(double, P, widths)
    beliefs = jnp.concatenate([start[None], rest])
    return (beliefs, jnp.abs(beliefs[1:] - beliefs[:-1]).sum(-1).max(tuple(range(1, beliefs.ndim - 1)))), P


@jax.jit
def _doubled(first, prior, operators, support, w, widths):
    """The beliefs with their residuals, and whether mass may have been lost, which processes with negative entries cannot."""
    small = Limits.of(operators.dtype).small

    def belief(p, carry):
        b = jnp.einsum("...i,...ij->...j", p, carry[0])
        return b / (b @ w)[..., None]

    def step(carry, earlier, longer):
        P, possible, lost = carry
        longer = longer.reshape(-1, *(1,) * (P.ndim - 1))
        product = P[earlier] @ P
        product = product / jnp.abs(product).max((-1, -2), keepdims=True)
        P = jnp.where(longer, product, P)
        possible = jnp.where(longer, (possible[earlier] @ possible > 0).astype(P.dtype), possible)
        return P, possible, lost | ((small > P) & (possible > 0)).any() | jnp.isnan(P).any()

    starved = ((prior > 0) & (prior < small)).any() | ((support > 0) & (operators < small)).any()
    carry = operators, support, starved
    found, (_, _, lost) = _windows(first, prior, carry, step, belief, widths)
    return found, lost & (operators >= 0).all() & (prior >= 0).all()


@jax.jit
def _doubled_scaled(first, prior: Scaled, operators: Scaled, w, widths):
    """The same for operators without negative entries, in numbers of which none underflows; one time after the other."""

    def belief(p, P):
        b = (p.reshape(*p.m.shape, 1) * P).sum(-2)
        return (b / (b * Scaled.of(jnp.broadcast_to(w, b.m.shape))).sum(-1, keepdims=True)).linear

    def product(pair):
        (a, b), shape = pair, pair[0].m.shape
        return (a.reshape(*shape, 1) * b.reshape(*shape[:-2], 1, *shape[-2:])).sum(-2)

    def step(P, earlier, longer):
        longer = longer.reshape(-1, *(1,) * (P.m.ndim - 1))
        return jax.tree.map(lambda a, b: jnp.where(longer, a, b), lax.map(product, (P[earlier], P)), P)

    return _windows(first, prior, operators, step, belief, widths)[0]
