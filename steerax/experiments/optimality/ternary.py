"""Class R1 as a differentiable network: what gradient training can make of the class that the exact search solves."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float

from ...lifted.problem.problem import Problem
from ...lifted.problem.r1 import QUARTERS, Layer, Readout, Weights
from ...training.optimizer import adamw
from ...transformer.quantized import embed, registers_after

SHARPNESS = 4.0  # of the logistic loss in the read-out, whose steps are integers


class Free(NamedTuple):
    """Real parameters behind a network: `Q`, `K`, `V` `[L 2 2]`, the read-out `w` `[2]` and `threshold` `[]`."""

    Q: Float[Array, "L 2 2"]
    K: Float[Array, "L 2 2"]
    V: Float[Array, "L 2 2"]
    w: Float[Array, "2"]
    threshold: Float[Array, ""]

    @classmethod
    def random(cls, key, depth: int) -> "Free":
        """Independent normal parameters."""
        keys = jax.random.split(key, 3)
        Q, K, V = jax.random.normal(keys[0], (3, depth, 2, 2))
        return cls(Q, K, V, jax.random.normal(keys[1], (2,)), jax.random.normal(keys[2], ()))

    def quantised(self) -> "Free":
        """Every weight rounded to -1, 0 or 1 after division by the mean size of its matrix; the threshold to an integer."""
        w = _ternary(self.w, jnp.abs(self.w).mean())
        return Free(_per_matrix(self.Q), _per_matrix(self.K), _per_matrix(self.V), w, _round(self.threshold))

    def weights(self) -> Weights:
        """The network of class R1 with the same labels; the parameters must be quantised."""
        Q, K, V, w, threshold = (np.asarray(a).round().astype(int) for a in self)
        rows = lambda m: ((int(m[0, 0]), int(m[0, 1])), (int(m[1, 0]), int(m[1, 1])))
        layers = tuple(Layer(rows(q.T @ k), rows(v)) for q, k, v in zip(Q, K, V, strict=True))
        direction, limit, flipped = (int(w[0]), int(w[1])), int(threshold), False
        if direction == (0, 0):  # a constant: put the threshold out of reach
            direction, limit, flipped = (1, 0), 100, limit <= 0
        elif direction < (0, 0):  # w·x >= t is not (-w·x >= 1 - t)
            direction, limit, flipped = (-direction[0], -direction[1]), 1 - limit, True
        return Weights(layers, Readout(direction, limit, flipped))


def _through(exact: Array, smooth: Array) -> Array:
    """`exact` in the forward pass, the derivative of `smooth` in the backward pass: the straight-through estimator."""
    return jax.lax.stop_gradient(exact) + (smooth - jax.lax.stop_gradient(smooth))  # adds an exact zero


def _round(x: Array) -> Array:
    return _through(jnp.floor(x + 0.5), x)


def _ternary(x: Array, size: Array) -> Array:
    scaled = x / (size + 1e-6)
    return _through(jnp.clip(jnp.round(scaled), -1, 1), scaled)


def _per_matrix(a: Array) -> Array:
    return _ternary(a, jnp.abs(a).mean((-2, -1), keepdims=True))


def scores(free: Free, x: Float[ArrayLike, "N n 2"], levels: int, exact: bool) -> Float[Array, " N"]:
    """`w·x_0 - threshold` after the layers.

    With `exact` the arithmetic of class R1 in the forward pass (hard attention, means rounded to quarters, rounded
    moves, clipping) and straight-through derivatives, attention's being those of softmax; otherwise softmax attention
    and no rounding.
    """
    x = jnp.asarray(x)
    for Q, K, V in zip(free.Q, free.K, free.V, strict=True):
        s = jnp.einsum("nia,ab,njb->nij", x, Q.T @ K, x)
        attention = jax.nn.softmax(s)
        if exact:
            largest = (s >= s.max(-1, keepdims=True)).astype(x.dtype)
            attention = _through(largest / largest.sum(-1, keepdims=True), attention)
        z = attention @ x
        z = _round(QUARTERS * z) / QUARTERS if exact else z
        move = z @ V.T
        moved = x + (_round(move) if exact else move)
        x = _through(jnp.clip(moved, -levels, levels), moved) if exact else jnp.clip(moved, -levels, levels)
    return x[:, 0] @ free.w - free.threshold


def labels(free: Free, x: Float[ArrayLike, "N n 2"], levels: int) -> Array:
    """Labels of the network with quantised parameters, as class R1 gives them."""
    return scores(free, x, levels, exact=True) >= 0


class Data(NamedTuple):
    """A problem as arrays: embedded sequences `x [N n 2]`, labels `y [N]`, weights `[N]`."""

    x: Float[ArrayLike, "N n 2"]
    y: Bool[ArrayLike, " N"]
    weights: Float[ArrayLike, " N"]

    @classmethod
    def of(cls, problem: Problem) -> "Data":
        """The arrays of a problem, in single precision."""
        x = problem.model.embedding[np.arange(problem.model.length), problem.tokens]
        return cls(x.astype(np.float32), problem.labels == 1, problem.weights.astype(np.float32))


def loss(free: Free, data: Data, levels: int, exact: bool) -> Array:
    """Mean logistic loss of the quantised (`exact`) or of the real network; a score of 0 counts as label 1."""
    used = free.quantised() if exact else free
    logit = SHARPNESS * (scores(used, data.x, levels, exact) + 0.5 * exact)
    each = optax.sigmoid_binary_cross_entropy(logit, jnp.asarray(data.y, logit.dtype))
    return (data.weights * each).sum() / jnp.sum(data.weights)


def errors(quantised: Free, data: Data, levels: int) -> Array:
    """Weight of the sequences that a network of class R1 mislabels."""
    wrong = labels(quantised, data.x, levels) != data.y
    return jnp.round((data.weights * wrong).sum()).astype(jnp.int32)


class Trained(NamedTuple):
    """`best` errors that each start has reached by each step `[starts steps+1]`, and the parameters at the end."""

    best: np.ndarray
    free: Free


def train(problem: Problem, depth: int, steps: int, rate: float, exact: bool, key, starts: int) -> Trained:
    """AdamW on the logistic loss from independent starts, all at once.

    **Arguments:** `exact`: train through the rounding (straight-through); otherwise train the real network, of which
    `quantised()` is taken at the end.
    """
    keys = jax.random.split(key, starts)
    found, free = _train(keys, Data.of(problem), depth, steps, rate, exact, problem.model.levels)
    return Trained(np.minimum.accumulate(np.asarray(found), axis=1), free)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _train(keys, data: Data, depth: int, steps: int, rate: float, exact: bool, levels: int):
    optimizer = adamw(steps, rate)

    def step(state, _):
        free, memory = state
        found = errors(free.quantised(), data, levels)
        update, memory = optimizer.update(jax.grad(loss)(free, data, levels, exact), memory, free)
        return (Free(*jax.tree.leaves(optax.apply_updates(free, update))), memory), found

    def one(key):
        free = Free(*(a.astype(jnp.float32) for a in Free.random(key, depth)))
        (free, _), found = jax.lax.scan(step, (free, optimizer.init(free)), None, steps)
        return jnp.append(found, errors(free.quantised(), data, levels)), free

    return jax.vmap(one)(keys)


def random_search(problem: Problem, depth: int, tries: int, starts: int, key) -> np.ndarray:
    """Best errors `[starts tries]` among networks with uniformly drawn ternary weights and thresholds in reach."""
    found = _search(jax.random.split(key, starts), Data.of(problem), depth, tries, problem.model.levels)
    return np.minimum.accumulate(np.asarray(found), axis=1)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _search(keys, data: Data, depth: int, tries: int, levels: int):
    def draw(key) -> Free:
        keys = jax.random.split(key, 3)
        uniform = lambda k, shape, size: jax.random.randint(k, shape, -size, size + 1).astype(jnp.float32)
        Q, K, V = uniform(keys[0], (3, depth, 2, 2), 1)
        return Free(Q, K, V, uniform(keys[1], (2,), 1), uniform(keys[2], (), 2 * levels))

    one = lambda key: jax.vmap(lambda k: errors(draw(k), data, levels))(jax.random.split(key, tries))
    return jax.lax.map(one, keys)


def best_readout(problem: Problem, free: Free) -> int:
    """Fewest errors of a network when its read-out is replaced by the best one of the class."""
    p = problem
    network = p.model.network(free.weights())
    codes = registers_after(embed(network.embedding, p.tokens), network.steps)[0][:, 0]
    cells = p.model.cells[codes]
    best = p.total
    for w in p.model.directions:
        value = cells @ w
        for threshold in range(value.min(), value.max() + 2):
            wrong = int(p.weights[(value >= threshold) != (p.labels == 1)].sum())
            best = min(best, wrong, p.total - wrong)
    return best
