r"""Layers that double the window: a scheme that only gets better, exact after $\lceil\log_2T\rceil$ layers.

With the operator $N_t$ of the token $z_{t-1}$ ($\mathrm{diag}(C_z)A$ of a chain, $T^z$ of a process of operators, $A$ for a missing
one), products of the last $2^l$ of them and the belief that only these tokens are known,

$$P^{(0)}_t=N_t,\qquad P^{(l+1)}_t=P^{(l)}_{t-2^l}P^{(l)}_t,\qquad b^{(l)}_t\propto\mu A^{\max(0,t-2^l)}P^{(l)}_t .$$

$b^{(l)}_t$ is the exact belief given the last $\min(t,2^l)$ tokens, so the mean divergence of its prediction from the filter's is
$I(Z_t;Z_{<t-2^l}\mid Z_{t-2^l\dots t-1})$ and never grows with $l$. $O(d^3T)$ a layer. It is the associative scan of
[HillisSteele1986].
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._errors import ConfigurationError
from .._results import RESULTS, is_traced
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


def dual_filtered_by_doubling(
    filtered: AbstractFilteredTokens,
    prior: Float[Array, "T1 d"],
    operators: Float[Array, "T *batch d d"],
    w: Float[Array, " d"],
    layers: int | None,
    keep: bool,
) -> DualFiltered:
    """Beliefs after `layers` doublings of the window, or after as many as make it cover all tokens."""
    needed = math.ceil(math.log2(max(len(operators), 1)))
    layers = needed if layers is None else layers
    prior = jnp.broadcast_to(prior.reshape(len(prior), *(1,) * (operators.ndim - 3), len(w)), filtered.states.shape)
    beliefs, residuals = filtered.either(
        lambda: _doubled(prior, operators, w, layers),
        lambda _: _doubled_scaled(prior, operators, w, layers),
    )
    residuals = residuals if is_traced(residuals) else np.asarray(residuals)
    history = None
    if keep:
        history = jnp.moveaxis(beliefs, 2, 1) if beliefs.ndim > 3 else beliefs
    result = RESULTS.successful if layers >= needed else RESULTS.max_steps_reached
    return DualFiltered(batch_first(beliefs[-1]), residuals, layers, result, history)


def _windows(prior, P, step, belief, layers: int):
    """`(beliefs [layers+1 T+1 … d], residuals [layers])` from the products of one operator each."""
    times = jnp.arange(len(jax.tree.leaves(P)[0]))

    def after(P, width):
        return jnp.concatenate([prior[:1], belief(prior[jnp.maximum(times + 1 - width, 0)], P)])

    def double(P, width):
        P = step(P, jnp.maximum(times - width, 0), times >= width)
        return P, after(P, 2 * width)

    first = after(P, 1)
    _, rest = lax.scan(double, P, 2 ** jnp.arange(layers))
    beliefs = jnp.concatenate([first[None], rest])
    return beliefs, jnp.abs(beliefs[1:] - beliefs[:-1]).sum(-1).max(tuple(range(1, beliefs.ndim - 1)))


@functools.partial(jax.jit, static_argnames="layers")
def _doubled(prior, operators, w, layers: int):
    def belief(p, P):
        b = jnp.einsum("...i,...ij->...j", p, P)
        return b / (b @ w)[..., None]

    def step(P, earlier, longer):
        product = P[earlier] @ P
        product = product / jnp.abs(product).max((-1, -2), keepdims=True)
        return jnp.where(longer.reshape(-1, *(1,) * (P.ndim - 1)), product, P)

    return _windows(prior, operators, step, belief, layers)


@functools.partial(jax.jit, static_argnames="layers")
def _doubled_scaled(prior, operators, w, layers: int):
    """The same for operators without negative entries, in numbers of which none underflows; one time after the other."""

    def belief(p, P):
        b = (Scaled.of(p).reshape(*p.shape, 1) * P).sum(-2)
        return (b / (b * Scaled.of(jnp.broadcast_to(w, b.m.shape))).sum(-1, keepdims=True)).linear

    def product(pair):
        (a, b), shape = pair, pair[0].m.shape
        return (a.reshape(*shape, 1) * b.reshape(*shape[:-2], 1, *shape[-2:])).sum(-2)

    def step(P, earlier, longer):
        longer = longer.reshape(-1, *(1,) * (P.m.ndim - 1))
        return jax.tree.map(lambda a, b: jnp.where(longer, a, b), lax.map(product, (P[earlier], P)), P)

    return _windows(prior, Scaled.of(operators), step, belief, layers)
