r"""What a layer, a head or a neuron is worth: the loss without it.

Layers and half-steps are *measured*: the state before the removed part is kept and only the rest of the network runs,
half a forward pass on average. Heads and neurons are too many and are *predicted* to second order from costates. At a
stationary point the first-order effect of removal vanishes ($\varepsilon\langle P,F_m\rangle=\langle\theta_{out},\partial\ell/\partial\theta_{out}\rangle$
is the stationarity of the output maps), so the curvature decides. With labels $\tilde y$ drawn from the network itself,
the costates $\tilde P$ give every gate's curvature in one backward pass:
$$\Delta\ell\approx-\langle P,\delta\rangle+\tfrac1{2T}\mathbb E\Big(\sum_t\langle\tilde P_t,\delta_t\rangle\Big)^2 ,$$
the Fisher information (= Gauss–Newton curvature) of the gate, where $\tilde P$ belongs to the summed loss of one sequence.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ...transformer.attention import attend
from ...transformer.gpt import GPT, Block
from .costate import backward, half_step_states, token_losses


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
    r"""$\sum_t\langle P_t,\text{part}_t\rangle$ of each sequence: derivative of its summed loss in the gate of each part."""

    heads: Float[Array, "L H B"]
    neurons: Float[Array, "L B W"]


def gates(gpt: GPT, X: Float[Array, "S B T D"], targets: Int[Array, "B T"]) -> Gates:
    """Gate derivatives for given labels by one backward pass."""
    P = jax.grad(lambda X: token_losses(gpt, X, targets).sum())(X[-1])
    found: Any = backward(gpt, X, P, neurons=True)
    return Gates(found.ledger.heads.sum(-1), found.neurons)


def draw_labels(gpt: GPT, X: Float[Array, "B T D"], scored: Array, key: PRNGKeyArray) -> Int[Array, "B T"]:
    """Labels from the network's own predictive law, −1 where nothing is scored."""
    keys = jax.random.split(key, X.shape[0])
    draw = lambda X, key: jax.random.categorical(key, gpt.unembed(X))
    labels = jax.lax.map(lambda now: draw(*now), (X, keys))
    return jnp.where(scored, labels, -1)


@eqx.filter_jit
def gate_statistics(
    gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], key: PRNGKeyArray, draws: int = 2
) -> tuple[Gates, Gates]:
    r"""Sums over a batch: $-\sum_bg_b$ with the true labels and $\frac12\sum_b\mathbb E\tilde g_b^2$ with drawn ones.

    Divide both by the number of scored tokens. `draws` backward passes.
    """
    X = half_step_states(gpt, tokens)
    true = gates(gpt, X, targets)
    first = Gates(-true.heads.sum(-1), -true.neurons.sum(1))

    def square(key):
        g = gates(gpt, X, draw_labels(gpt, X[-1], targets >= 0, key))
        return (g.heads**2).sum(-1), (g.neurons**2).sum(1)

    heads, neurons = jax.lax.map(square, jax.random.split(key, draws))
    return first, Gates(heads.mean(0) / 2, neurons.mean(0) / 2)


def importance(
    gpt: GPT,
    tokens: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    key: PRNGKeyArray,
    draws: int = 4,
    chunk: int = 8,
) -> Importance:
    """Measured and predicted importance on a batch, `chunk` sequences at a time.

    Cost in forward passes of the batch: about 1.5 L for the removals and 3 (1 + `draws`) for the predictions.
    """
    scored = max(int((np.asarray(targets) >= 0).sum()), 1)
    B = len(tokens)
    removed, cosine = np.zeros((4, gpt.config.n_layer)), np.zeros(gpt.config.n_layer)
    sums: Any = None
    for i in range(0, B, chunk):
        part, y = tokens[i : i + chunk], targets[i : i + chunk]
        removed = removed + np.asarray(_removal_losses(gpt, part, y), np.float64)
        cosine = cosine + np.asarray(cosine_change(half_step_states(gpt, part))) * len(part) / B
        found = gate_statistics(gpt, part, y, jax.random.fold_in(key, i), draws)
        found = jax.tree.map(lambda a: np.asarray(a, np.float64) / scored, found)
        sums = found if sums is None else jax.tree.map(np.add, sums, found)
    first, fisher = sums
    layers, attention, mlp = (removed[:3] - removed[3]) / scored
    return Importance(layers, attention, mlp, first.heads, fisher.heads, first.neurons, fisher.neurons, cosine)


# ---- measured removals of heads, and Gauss–Newton by forward differentiation: what the predictions are judged by ----------


def _gated(block: Block, X: Float[Array, "T D"], heads: Float[Array, " H"]) -> Float[Array, "T D"]:
    """A layer whose heads are multiplied by gates."""
    read = attend(*block.project(X)) * heads[:, None, None]
    X = X + block.out(read.transpose(1, 0, 2).reshape(X.shape))
    return X + block.mlp_increment(X)


def _gated_states(gpt: GPT, tokens: Int[Array, "B T"], heads: Float[Array, "L H"]) -> Float[Array, "B T D"]:
    """Final states with every head multiplied by its gate."""
    one = lambda t: jax.lax.scan(lambda X, now: (_gated(now[0], X, now[1]), None), gpt.embed(t), (gpt.blocks, heads))[0]
    return jax.vmap(one)(tokens)


@eqx.filter_jit
def head_removals(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Float[Array, "L H"]:
    """Measured change of the mean loss when a head is removed: L·H forward passes."""
    L, H = gpt.config.n_layer, gpt.config.n_head
    N = (targets >= 0).sum()
    ones = jnp.ones(L * H, gpt.token_embedding.dtype)
    loss = lambda gate: token_losses(gpt, _gated_states(gpt, tokens, gate.reshape(L, H)), targets).sum() / N
    return (jax.lax.map(lambda i: loss(ones.at[i].set(0)), jnp.arange(L * H)) - loss(ones)).reshape(L, H)


@eqx.filter_jit
def gauss_newton_heads(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Float[Array, "L H"]:
    r"""First order plus exact Gauss–Newton curvature of each head's gate, one forward derivative each.

    $-\langle P,\delta\rangle+\frac12\mathbb E\,\mathrm{var}_{\mathrm{softmax}(z)}(\dot z)$, $\dot z$ the derivative of the logits.
    """
    L, H = gpt.config.n_layer, gpt.config.n_head
    scored = targets >= 0
    ones = jnp.ones((L, H), gpt.token_embedding.dtype)
    logits = lambda gate: jax.vmap(gpt.unembed)(_gated_states(gpt, tokens, gate))

    def of(i):
        change = jnp.zeros(L * H, ones.dtype).at[i].set(-1).reshape(L, H)
        z, dz = jax.jvp(logits, (ones,), (change,))
        p = jax.nn.softmax(z)
        mean = (p * dz).sum(-1)
        first = mean - jnp.take_along_axis(dz, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
        second = 0.5 * ((p * dz**2).sum(-1) - mean**2)
        return jnp.where(scored, first + second, 0).sum() / scored.sum()

    return jax.lax.map(of, jnp.arange(L * H)).reshape(L, H)
