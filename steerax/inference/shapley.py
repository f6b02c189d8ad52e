r"""Shapley values of observations: what each adds to a prediction, averaged over all orders in which they could have been seen.

With $v(S)$ the prediction from the observations in $S$, the others missing, and $n$ of them [Shapley1953],

$$\phi_s=\sum_{S\not\ni s}\frac{|S|!\,(n-|S|-1)!}{n!}\big(v(S\cup s)-v(S)\big)=\mathbb E_{\text{orders}}\big[v(\text{before }s\text{ and }s)-v(\text{before }s)\big],$$

which add up to $v(\text{all})-v(\varnothing)$; so do the differences along any one order, by telescoping.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .._bounds import Range
from ..maths.keys import as_key

ORDERS_GIVEN = Range(1, 100_000, whole=True)
MOST_EXACT = 12  # observations up to which all subsets are evaluated
ORDERS = 256

# the predictions from subsets of the observations; a `jax.tree_util.Partial`, so that it is compiled once
Values = Callable[[Bool[Array, "n T"]], Float[Array, "n q k"]]


def shapley(
    values: Values, players: Int[np.ndarray, " n"], T: int, orders: int | None, key
) -> tuple[Float[Array, "q T k"], Float[Array, "q T k"] | None]:
    """`(terms, their standard errors or None where they are exact)`; observations that are no players have term zero.

    All $2^n$ subsets of at most 12 players unless `orders` is given; otherwise random orders in antithetic pairs (an order and its
    reverse), 256 of them by default, each of `n + 1` predictions. An odd number of orders is made even, and fewer than four are
    made four, since standard errors need two pairs.
    """
    if orders is None and len(players) <= MOST_EXACT:
        return _exact(values(jnp.asarray(_subsets(players, T))), players, T), None
    pairs = -(-(ORDERS if orders is None else orders) // 2)
    keys = jax.random.split(as_key(0 if key is None else key), max(pairs, 2))
    return _sampled(values, keys, jnp.asarray(players), T)


def _subsets(players: Int[np.ndarray, " n"], T: int) -> Bool[np.ndarray, "m T"]:
    """All subsets of the players; subset `j` holds the players of the bits of `j`."""
    masks = np.zeros((2 ** len(players), T), bool)
    masks[:, players] = np.arange(len(masks))[:, None] >> np.arange(len(players)) & 1
    return masks


def _exact(found: Float[Array, "m q k"], players: Int[np.ndarray, " n"], T: int) -> Float[Array, "q T k"]:
    n, place = len(players), np.arange(len(found))
    size = np.array([int(j).bit_count() for j in place])
    share = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])
    terms = jnp.zeros((*found.shape[1:], T), found.dtype)
    for i, player in enumerate(players):
        without = place[place >> i & 1 == 0]
        gain = found[without + (1 << i)] - found[without]
        terms = terms.at[..., int(player)].set(jnp.tensordot(jnp.asarray(share[size[without]], found.dtype), gain, 1))
    return jnp.moveaxis(terms, -1, 1)


@functools.partial(jax.jit, static_argnames=("T",))
def _sampled(
    values: Values, keys: Key[Array, " m"], players: Int[Array, " n"], T: int
) -> tuple[Float[Array, "q T k"], Float[Array, "q T k"]]:
    """Means over pairs of orders, one for each key, and their standard errors."""
    n = len(players)

    def along(order):
        arrival = jnp.full(T, n).at[order].set(jnp.arange(n))
        steps = jnp.diff(values(arrival[None] < jnp.arange(n + 1)[:, None]), axis=0)  # [n q k]
        return jnp.zeros((T, *steps.shape[1:]), steps.dtype).at[order].set(steps)

    def add(carry, x):
        mean, spread = carry
        i, order = x[0], jax.random.permutation(x[1], players)
        pair = (along(order) + along(order[::-1])) / 2
        change = pair - mean
        mean = mean + change / (i + 1)
        return (mean, spread + change * (pair - mean)), None

    shape = jax.eval_shape(along, players)
    start = jnp.zeros(shape.shape, shape.dtype)
    (mean, spread), _ = lax.scan(add, (start, start), (jnp.arange(len(keys)), keys))
    error = jnp.sqrt(spread / (len(keys) - 1) / len(keys))
    return jnp.moveaxis(mean, 0, 1), jnp.moveaxis(error, 0, 1)
