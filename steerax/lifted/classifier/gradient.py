r"""Gradient training of class CAT(L), to compare the search with: tests chosen by a softmax, straight through.

For each context γ a full tree of `depth` layers has logits $\theta_v\in\mathbb R^{|\Theta_\gamma|}$ at every node $v$ and answers
$b\in\mathbb R^{2^L\times K}$. Forward, node $v$ runs the test $\arg\max\theta_v$; backward, the mean of all tests under
$\mathrm{softmax}(\theta_v)$, as if that were the bit. The loss is the cross-entropy to the cheapest answer of each row, weighted
by what the dearest would cost more; Adam, a few starts side by side. The tests that were chosen are then pruned as they pay for
themselves under the same price λ, and the best start of the best context is taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from .contexts import Context
from .kernels import unpacked
from .library import Library, as_heads, library
from .problem import Problem, Tree


class Trained(NamedTuple):
    """**Attributes:** `context`, `tree`, the network; `objective`, in the integers of the problem."""

    context: Context
    tree: Tree
    objective: int


def train(problem: Problem, seed: int = 0, starts: int = 4, steps: int = 300, learning_rate: float = 0.1) -> Trained:
    """The best network that gradient training finds, pruned; its objective is never below the optimum."""
    import jax

    merged, floor = problem.merged()
    total, everything = merged.costs.sum(0), np.ones(len(merged.codes), bool)
    best = Trained(problem.contexts[0], int(total.argmin()), int(total.min()))
    libraries: list[Library] = []
    for context in problem.contexts:
        libraries.append(library(context, merged.shape, merged.codes, libraries[0] if libraries else None))
    most = max(len(of.bits) for of in libraries)
    descend = _descent(merged.costs, merged.depth, most, steps, learning_rate)
    for number, (context, of) in enumerate(zip(problem.contexts, libraries, strict=True)):
        if not len(of.bits) or not merged.depth:
            continue
        F = unpacked(of.bits, len(merged.codes))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), starts)
        padded = np.zeros((len(everything), most), np.float32)
        padded[:, : len(F)] = F.T
        for nodes in np.asarray(descend(padded, np.arange(most) < len(F), keys)):
            value, tree = _pruned(nodes.tolist(), 0, everything, F, merged)
            value += merged.price * (context.kind != "none")
            if value < best.objective:
                best = Trained(context, as_heads(tree, of, context, merged.shape), value)
    return best._replace(objective=best.objective + floor)


def _descent(
    costs: Int[np.ndarray, "N K"], depth: int, most: int, steps: int, learning_rate: float
) -> Callable[[Any, Any, Any], Any]:
    """A compiled function of bits `[N most]`, which of these are tests `[most]`, and keys: the tests at the nodes, level by level, after
    training from every start `[starts nodes]`."""
    import jax
    import jax.numpy as jnp
    import optax

    weight = costs.max(1) - costs.min(1)
    weight = jnp.asarray(weight / max(weight.sum(), 1), jnp.float32)
    target = jnp.asarray(costs.argmin(1))
    nodes, answers = 2**depth - 1, (2**depth, costs.shape[1])
    optimiser = optax.adam(learning_rate)

    def loss(parameters, bits, there):
        logits, table = parameters
        logits = jnp.where(there[None, :], logits, -jnp.inf)
        soft = jax.nn.softmax(logits)
        hard = jax.nn.one_hot(logits.argmax(-1), most, dtype=jnp.float32)
        bit = bits @ (hard + soft - jax.lax.stop_gradient(soft)).T  # [N nodes]
        reached = [jnp.ones(len(bits), jnp.float32)]
        for level in range(depth):
            of = bit[:, 2**level - 1 : 2 ** (level + 1) - 1].T
            reached = [part for r, b in zip(reached, of, strict=True) for part in (r * b, r * (1 - b))]
        log_p = jax.nn.log_softmax(jnp.stack(reached, 1) @ table)
        return -(weight * jnp.take_along_axis(log_p, target[:, None], 1)[:, 0]).sum()

    def climb(bits, there, key):
        one, two = jax.random.split(key)
        draw = lambda key, shape: 0.1 * jax.random.normal(key, shape, jnp.float32)
        parameters: Any = draw(one, (nodes, most)), draw(two, answers)

        def step(state, _):
            parameters, moments = state
            change, moments = optimiser.update(jax.grad(loss)(parameters, bits, there), moments)
            return (optax.apply_updates(parameters, change), moments), None

        (parameters, _), _ = jax.lax.scan(step, (parameters, optimiser.init(parameters)), length=steps)
        return jnp.where(there[None, :], parameters[0], -jnp.inf).argmax(-1)

    return jax.jit(jax.vmap(climb, (None, None, 0)))


def _pruned(
    nodes: list[int], node: int, inside: Bool[np.ndarray, " N"], F: Bool[np.ndarray, "m N"], problem: Problem
) -> tuple[int, Any]:
    """Value and tree of columns behind a node for the rows that reach it: a test stays if it pays for itself."""
    cost = problem.costs[inside].sum(0)
    leaf = int(cost.min()), int(cost.argmin())
    if node >= len(nodes):
        return leaf
    f = nodes[node]
    (yes, left), (no, right) = (
        _pruned(nodes, 2 * node + 1 + side, inside & (~F[f] if side else F[f]), F, problem) for side in (0, 1)
    )
    value = problem.price + yes + no
    return (value, (f, left, right)) if value < leaf[0] else leaf
