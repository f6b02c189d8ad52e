r"""What a layer, a head or a neuron is worth: the loss without it.

Layers and half-steps are *measured*: the state before the removed part is kept and only the rest of the network runs,
half a forward pass on average. Heads and neurons are too many and are *predicted* to second order from costates. At a
stationary point the first-order effect of removal vanishes ($\varepsilon\langle P,F_m\rangle=\langle\theta_{out},\partial\ell/\partial\theta_{out}\rangle$
is the stationarity of the output maps), so the curvature decides. With labels $\tilde y$ drawn from the network itself,
the derivatives of the gates give their curvature in one backward pass:
$$\Delta\ell\approx-\langle P,\delta\rangle+\tfrac1{2T}\mathbb E\Big(\sum_t\langle\tilde P_t,\delta_t\rangle\Big)^2 ,$$
the Fisher information (= Gauss–Newton curvature) of the gate, where $\tilde P$ belongs to the summed loss of one sequence.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._bounds import COUNT, bounded
from ...transformer.gpt import GPT, Block
from .costate import half_step_states, token_losses
from .scoring import in_full_precision


class Importance(NamedTuple):
    """What the parts of a network are worth, in nats per token on the sequences given.

    Measured loss changes on removal: `layers`, `attention`, `mlp` `[L]`. Predicted (first order + Fisher): `heads`
    `[L H]`, `neurons` `[L W]`. The parts of the prediction: `first_heads`, `fisher_heads`, `first_neurons`,
    `fisher_neurons`. Baseline: `cosine` `[L]`, 1 − cos between a layer's input and output (ShortGPT's block influence).
    """

    layers: np.ndarray
    attention: np.ndarray
    mlp: np.ndarray
    first_heads: np.ndarray
    fisher_heads: np.ndarray
    first_neurons: np.ndarray
    fisher_neurons: np.ndarray
    cosine: np.ndarray

    @property
    def heads(self) -> np.ndarray:
        """Predicted loss change when a head is removed, `[L H]`."""
        return self.first_heads + self.fisher_heads

    @property
    def neurons(self) -> np.ndarray:
        """Predicted loss change when a neuron of an MLP is removed, `[L W]`."""
        return self.first_neurons + self.fisher_neurons


def run_from(gpt: GPT, X: Float[Array, "B T D"], layer) -> Float[Array, "B T D"]:
    """Final states from the states before `layer` (a traced integer, so one compilation serves all layers)."""
    layer = jnp.asarray(layer)
    last = jnp.full_like(layer, gpt.config.n_layer)
    return jax.lax.fori_loop(layer, last, lambda l, X: jax.vmap(gpt.block(l))(X), X)


@eqx.filter_jit
def _removal_losses(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Float[Array, "4 L"]:
    """Summed loss of a batch with one part removed, for every layer: the layer, its attention, its MLP; last, nothing."""
    X = half_step_states(gpt, tokens)

    def of(l):
        block = gpt.block(l)
        before, half = X[2 * l], X[2 * l + 1]
        without_attention = before + jax.vmap(block.mlp_increment)(before)
        left = (before, without_attention, half)
        return jnp.stack([token_losses(gpt, run_from(gpt, X, l + 1), targets).sum() for X in left])

    nothing = token_losses(gpt, X[-1], targets).sum()
    removed = jax.lax.map(of, jnp.arange(gpt.config.n_layer))
    return jnp.concatenate([removed.T, jnp.broadcast_to(nothing, (1, gpt.config.n_layer))])


@eqx.filter_jit
def cosine_change(X: Float[Array, "S B T D"]) -> Float[Array, " L"]:
    """1 − cos between the states before and after each layer, averaged over tokens."""
    a, b = X[:-2:2], X[2::2]
    length = lambda a: jnp.sqrt((a**2).sum(-1))
    return 1 - ((a * b).sum(-1) / (length(a) * length(b))).mean((1, 2))


class Gates(NamedTuple):
    """One entry per head `[L H]` and per neuron of the MLPs `[L W]`."""

    heads: Any
    neurons: Any


def blocks_of(network: Any) -> Block:
    """The stacked blocks of a GPT or of a network that holds one."""
    return getattr(network, "gpt", network).blocks


def with_gates(network: Any, gates: Gates, silence: bool = False) -> Any:
    """The network with head and neuron outputs times their gates; `silence` gates their inputs as well."""
    blocks = blocks_of(network)
    K = blocks.config.n_embd // blocks.config.n_head
    on_heads = jnp.repeat(gates.heads, K, axis=1)  # [L D]
    changes = [(lambda b: b.out.weight, on_heads[:, :, None]), (lambda b: b.down.weight, gates.neurons[:, :, None])]
    if silence:
        on_inputs = jnp.tile(on_heads, (1, 3))
        changes += [(lambda b: b.qkv.weight, on_inputs[:, None]), (lambda b: b.up.weight, gates.neurons[:, None])]
        if blocks.qkv.bias is not None:
            changes += [(lambda b: b.qkv.bias, on_inputs), (lambda b: b.up.bias, gates.neurons)]
    for where, gate in changes:
        blocks = eqx.tree_at(where, blocks, where(blocks) * gate)
    return eqx.tree_at(blocks_of, network, blocks)


def draw_labels(gpt: GPT, X: Float[Array, "B T D"], scored: Array, key: PRNGKeyArray) -> Int[Array, "B T"]:
    """Labels from the network's own predictive distribution, −1 where nothing is scored."""
    keys = jax.random.split(key, X.shape[0])
    draw = lambda X, key: jax.random.categorical(key, gpt.unembed(X))
    labels = jax.lax.map(lambda now: draw(*now), (X, keys))
    return jnp.where(scored, labels, -1)


@eqx.filter_jit
def removal_effects(
    network: Any, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], key: PRNGKeyArray, draws: int
) -> tuple[Gates, Gates]:
    r"""What removing each head and neuron changes, in nats summed over a batch: first order, and Fisher.

    With $g$ the gate of a part and $\ell_b$ the summed loss of a sequence: $-\sum_b\partial_g\ell_b$, and
    $\frac12\sum_b\mathbb E(\partial_g\tilde\ell_b)^2$ over `draws` of labels from the network. One forward pass and
    1 + `draws` backward passes, one sequence at a time; for a GPT and any network that holds one.
    """
    config, gpt = network.config, getattr(network, "gpt", network)
    down = blocks_of(network).down.weight
    ones = Gates(jnp.ones((config.n_layer, config.n_head), down.dtype), jnp.ones(down.shape[:2], down.dtype))

    def sequence(now):
        t, y, key = now
        X, pull = jax.vjp(lambda gates: with_gates(network, gates).hidden_states(t)[-1], ones)
        derivative = lambda y: pull(jax.grad(lambda X: token_losses(gpt, X[None], y[None]).sum())(X))[0]
        drawn = lambda key: jax.tree.map(lambda g: g**2, derivative(draw_labels(gpt, X[None], y[None] >= 0, key)[0]))
        fisher = jax.tree.map(lambda g: g.mean(0) / 2, jax.lax.map(drawn, jax.random.split(key, draws)))
        return jax.tree.map(jnp.negative, derivative(y)), fisher

    effects = jax.lax.map(sequence, (tokens, targets, jax.random.split(key, len(tokens))))
    return jax.tree.map(lambda e: e.sum(0), effects)


@bounded(draws=COUNT, chunk=COUNT)
def importance(
    gpt: GPT,
    tokens: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    key: PRNGKeyArray,
    draws: int = 4,
    chunk: int = 8,
) -> Importance:
    """Measured and predicted importance on a batch, `chunk` sequences at a time.

    Cost in forward passes of the batch: about 1.5 L for the removals and 3 + 2 `draws` for the predictions.
    """
    scored = max(int((np.asarray(targets) >= 0).sum()), 1)
    B, gpt = len(tokens), in_full_precision(gpt)
    removed, cosine = np.zeros((4, gpt.config.n_layer)), np.zeros(gpt.config.n_layer)
    sums: Any = None
    for i in range(0, B, chunk):
        part, y = tokens[i : i + chunk], targets[i : i + chunk]
        removed = removed + np.asarray(_removal_losses(gpt, part, y), np.float64)
        cosine = cosine + np.asarray(cosine_change(half_step_states(gpt, part))) * len(part) / B
        found = removal_effects(gpt, part, y, jax.random.fold_in(key, i), draws)
        found = jax.tree.map(lambda a: np.asarray(a, np.float64) / scored, found)
        sums = found if sums is None else jax.tree.map(np.add, sums, found)
    first, fisher = sums
    layers, attention, mlp = (removed[:3] - removed[3]) / scored
    return Importance(layers, attention, mlp, first.heads, fisher.heads, first.neurons, fisher.neurons, cosine)
