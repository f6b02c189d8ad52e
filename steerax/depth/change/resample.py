r"""Change the depth of a trained network: `resample(gpt, layers, data)`.

Depth is time, so a shallower network is a coarser grid for the same flow and a deeper one a finer grid. What works is
found by measurement: see `docs/depth.md`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..._bounds import COUNT, bounded
from ..._compiled import keep_few
from ..._errors import ConfigurationError
from ...transformer.gpt import GPT, Block
from ..measure.costate import half_step_states, token_losses
from ..measure.importance import cosine_change
from ..measure.scoring import in_full_precision, scored_tokens
from .grouped import GroupedGPT, group_step, members

SHALLOWER = ("field_average", "refit", "best_subset", "greedy", "block_influence", "even", "first", "weight_average")
DEEPER = ("identity", "duplicate", "lie_trotter", "interpolate")
_NEED_DATA = ("refit", "best_subset", "greedy", "block_influence")
EXHAUSTIVE = 64  # as many subsets of layers are all tried; beyond, layers are dropped greedily


class Resampled(eqx.Module):
    """A network of another depth, and how it was made. `resampled(tokens) -> logits [T V]`.

    **Attributes:** `network`, a `GPT` or a `GroupedGPT`; `method`, its name; `groups`, the original layers
    each new layer was made from.
    """

    network: GPT | GroupedGPT
    method: str = eqx.field(static=True)
    groups: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.groups)

    @property
    def n_parameters(self) -> int:
        """How many numbers the network has."""
        return self.network.n_parameters

    def __call__(self, tokens: Int[Array, " T"], *, key: Key[Array, ""] | None = None) -> Float[Array, "T V"]:
        """Logits."""
        return self.network(tokens, key=key)


@bounded(layers=COUNT, largest=COUNT)
def resample(
    gpt: GPT, layers: int, data: Any = None, method: str | None = None, largest: int | None = None
) -> Resampled:
    r"""A shallower or deeper network from a trained one, without training.

    Shallower (`layers` < L):

    | method | new layer | needs data |
    |---|---|---|
    | "field_average" (default) | a group of layers side by side (no parameter is lost); groups by least local error, or equal ones without data | no |
    | "refit" | the best subset, each MLP output refitted by ridge regression to the states of the original | yes |
    | "best_subset" | layers kept, by measured loss: all subsets up to 64, else "greedy" | yes |
    | "greedy" | drop the layer whose removal costs least, again and again | yes |
    | "block_influence" | drop the layers with the smallest 1 − cos (ShortGPT) | yes |
    | "even", "first" | keep evenly spaced layers, or the first ones | no |
    | "weight_average" | averaged weights of equal groups, outputs times the size | no |

    Deeper (`layers` > L): "identity" (default), layers with zero output between the old ones: the same function, more
    to train; "duplicate", copies with divided outputs; "lie_trotter", the same for a multiple of L; "interpolate",
    weights interpolated in depth.

    **Arguments:** `data`, tokens int `[B T]` or `Sequences` for calibration (−1 missing); `largest` size of a group
    (default: 2 more than the even size).

    **Raises:** `ConfigurationError` for a number of layers or a method that cannot be, `DataError` for unusable data.
    """
    L = gpt.config.n_layer
    if layers == L:
        raise ConfigurationError(f"The network already has {L} layers; ask for fewer or more.")
    method = method or ("field_average" if layers < L else "identity")
    known = SHALLOWER if layers < L else DEEPER
    if method not in known:
        raise ConfigurationError(
            f"There is no method {method!r} to go from {L} to {layers} layers; choose one of {', '.join(known)}."
        )
    if method in _NEED_DATA and data is None:
        raise ConfigurationError(f"The method {method!r} measures on data; pass data.")
    keep_few()
    gpt = in_full_precision(gpt)
    if layers > L:
        return deeper(gpt, layers, method)
    if method == "field_average":
        groups = (
            even_groups(L, layers)
            if data is None
            else local_error_groups(gpt, layers, layer_states(gpt, data), largest)
        )
        return Resampled(GroupedGPT(gpt, groups), method, groups)
    if method == "weight_average":
        groups = even_groups(L, layers)
        return Resampled(weight_average(gpt, groups), method, groups)
    kept = _kept_layers(gpt, layers, data, method)
    network = refit(gpt, kept, data) if method == "refit" else take(gpt, kept)
    return Resampled(network, method, tuple((l,) for l in kept))


# ---- networks made of existing layers ------------------------------------------------------------------------------------


def _with_blocks(gpt: GPT, blocks: Block) -> GPT:
    """The GPT with other blocks, as many as these."""
    layers = jax.tree.leaves(blocks)[0].shape[0]
    template = GPT.template(dataclasses.replace(gpt.config, n_layer=layers))
    leaves = jax.tree.leaves(eqx.tree_at(lambda g: g.blocks, gpt, blocks))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def take(gpt: GPT, kept: Sequence[int]) -> GPT:
    """The GPT made of these layers in this order."""
    return _with_blocks(gpt, jax.tree.map(lambda leaf: leaf[np.asarray(kept)], gpt.blocks))


def _scaled_outputs(blocks: Block, scale: Float[np.ndarray, " L"]) -> Block:
    """The blocks with their output maps (attention and MLP) multiplied by a number per layer."""
    outputs = lambda b: [a for a in (b.out.weight, b.out.bias, b.down.weight, b.down.bias) if a is not None]
    by = lambda a: a * jnp.asarray(scale, a.dtype).reshape(-1, *[1] * (a.ndim - 1))
    return eqx.tree_at(outputs, blocks, [by(a) for a in outputs(blocks)])


def even_groups(L: int, layers: int) -> tuple[tuple[int, ...], ...]:
    """Consecutive groups of nearly equal size."""
    return tuple(tuple(map(int, part)) for part in np.array_split(np.arange(L), layers))


def weight_average(gpt: GPT, groups: Sequence[Sequence[int]]) -> GPT:
    """Average the weights of each group and multiply the outputs by its size (a baseline that destroys the network)."""
    average = lambda leaf: jnp.stack([leaf[np.asarray(g)].mean(0) for g in groups])
    blocks = jax.tree.map(average, gpt.blocks)
    return _with_blocks(gpt, _scaled_outputs(blocks, np.asarray([len(g) for g in groups], float)))


def deeper(gpt: GPT, layers: int, method: str) -> Resampled:
    """More layers from fewer; see `resample`."""
    L = gpt.config.n_layer
    source = np.arange(layers) * L // layers
    groups = tuple((int(l),) for l in source)
    copies = np.bincount(source, minlength=L)
    if method == "lie_trotter" and layers % L:
        raise ConfigurationError(f"{layers} layers are no multiple of {L}; lie_trotter divides every layer equally.")
    blocks = jax.tree.map(lambda leaf: leaf[source], gpt.blocks)
    if method == "interpolate":
        blocks = interpolated(gpt.blocks, layers)
    if method == "identity":  # the first copy acts, the others only wait
        scale = np.r_[True, source[1:] != source[:-1]].astype(float)
    else:
        scale = 1 / copies[source]
    return Resampled(_with_blocks(gpt, _scaled_outputs(blocks, scale)), method, groups)


def interpolated(blocks: Block, layers: int) -> Block:
    """Weights at the centres of `layers` cells, linearly between the centres of the old ones."""
    L = jax.tree.leaves(blocks)[0].shape[0]
    place = np.clip((np.arange(layers) + 0.5) * L / layers - 0.5, 0, L - 1)
    low = np.minimum(place.astype(int), max(L - 2, 0))
    high = np.minimum(low + 1, L - 1)
    share = lambda a: jnp.asarray(place - low, a.dtype).reshape(-1, *[1] * (a.ndim - 1))
    return jax.tree.map(lambda a: (1 - share(a)) * a[low] + share(a) * a[high], blocks)


# ---- choices by measurement ----------------------------------------------------------------------------------------------


def layer_states(gpt: GPT, data: Any) -> Float[Array, "S B T D"]:
    """The states before and after every layer on calibration data. Raises `DataError`."""
    return half_step_states(gpt, scored_tokens(gpt, data)[0])[::2]


_steps = eqx.filter_jit(jax.vmap(lambda group, X: group_step(group, X)[1], in_axes=(None, 0)))


def local_error_groups(
    gpt: GPT, layers: int, X: Float[Array, "S B T D"], largest: int | None = None
) -> tuple[tuple[int, ...], ...]:
    r"""Consecutive groups with the least total local error, by dynamic programming.

    $e(a,b)=\mathbb E|\Phi_{a..b-1}(X_a)-X_b|^2$, Φ the group step of `GroupedGPT` and $X$ the original states before and after
    layers. Every
    partition into groups of at most `largest` layers is compared.
    """
    L = gpt.config.n_layer
    largest = min(L, -(-L // layers) + 2) if largest is None else largest
    if layers * largest < L:
        raise ConfigurationError(f"{layers} groups of at most {largest} layers cannot hold {L} layers.")
    best: dict[tuple[int, int], tuple[float, tuple]] = {(0, 0): (0.0, ())}
    error = {}
    for a, b in itertools.combinations(range(L + 1), 2):
        if b - a <= largest:
            group = members(gpt.blocks, tuple(range(a, b)))
            error[a, b] = 0.0 if b == a + 1 else float(((_steps(group, X[a]) - X[b]) ** 2).sum(-1).mean())
    for m, b in itertools.product(range(1, layers + 1), range(1, L + 1)):
        options = [
            (best[m - 1, a][0] + error[a, b], (*best[m - 1, a][1], tuple(range(a, b))))
            for a in range(max(0, b - largest), b)
            if (m - 1, a) in best
        ]
        if options:
            best[m, b] = min(options)
    return best[layers, L][1]


def _kept_layers(gpt: GPT, layers: int, data: Any, method: str) -> list[int]:
    """Which layers a method keeps."""
    L = gpt.config.n_layer
    if method == "first":
        return list(range(layers))
    if method == "even":
        return [int(l) for l in np.round(np.linspace(0, L - 1, layers))]
    tokens, targets = scored_tokens(gpt, data)
    if method == "block_influence":
        influence = np.asarray(cosine_change(half_step_states(gpt, tokens)))
        return sorted(np.argsort(-influence, kind="stable")[:layers].tolist())
    loss = lambda kept: subset_loss(gpt, tokens, targets, kept)
    if method != "greedy" and len(subsets := list(itertools.combinations(range(L), layers))) <= EXHAUSTIVE:
        return list(min(subsets, key=loss))
    return greedy_subset(L, layers, loss)


def greedy_subset(L: int, layers: int, loss: Callable[[Sequence[int]], float]) -> list[int]:
    """Drop the layer whose removal costs least until `layers` are left."""
    kept = list(range(L))
    while len(kept) > layers:
        kept.remove(min(kept, key=lambda l: loss([k for k in kept if k != l])))
    return kept


def subset_loss(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], kept: Sequence[int]) -> float:
    """Summed loss with only some layers acting."""
    acts = np.zeros(gpt.config.n_layer, bool)
    acts[list(kept)] = True
    return float(_masked_loss(gpt, tokens, targets, jnp.asarray(acts)))


@eqx.filter_jit
def _masked_loss(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], acts) -> Float[Array, ""]:
    """Summed loss with the layers switched on and off by a mask: one compilation for all subsets."""
    layer = lambda X, now: (jax.lax.cond(now[1], jax.vmap(now[0]), lambda X: X, X), None)
    X = jax.lax.scan(layer, jax.vmap(gpt.embed)(tokens), (gpt.blocks, acts))[0]
    return token_losses(gpt, X, targets).sum()


def refit(gpt: GPT, kept: Sequence[int], data: Any, ridge: float = 1e-2) -> GPT:
    r"""Keep some layers and refit each one's MLP output map to where the original stood before the next kept layer.

    Ridge regression of the missing motion on the neurons, layer by layer on the states of the *new* network:
    $\min_W\mathbb E|X+M_W(X)-X^{orig}|^2+r\,\frac{\mathrm{tr}\,G}{n}|W-W_0|^2$, $G$ the Gram matrix of the neurons.
    """
    original = layer_states(gpt, data)
    blocks, X = [], original[0]
    for l, after in zip(kept, [*kept[1:], gpt.config.n_layer], strict=True):
        block, X = refitted(gpt.block(l), X, original[after], ridge)
        blocks.append(block)
    return _with_blocks(gpt, jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks))


@eqx.filter_jit
def refitted(block: Block, X: Float[Array, "B T D"], goal: Float[Array, "B T D"], ridge: float):
    """A block whose MLP output is refitted to reach `goal`, and the states after it."""
    half = X + jax.vmap(block.attention_increment)(X)
    u = jax.vmap(block.neurons)(half)
    u = u.reshape(-1, u.shape[-1])
    if block.down.bias is not None:
        u = jnp.concatenate([u, jnp.ones((len(u), 1), u.dtype)], axis=1)
    missing = (goal - half - jax.vmap(block.mlp_increment)(half)).reshape(-1, goal.shape[-1])
    G = u.T @ u / len(u)
    regularised = G + ridge * jnp.trace(G) / len(G) * jnp.eye(len(G), dtype=G.dtype)
    change = jnp.linalg.solve(regularised, u.T @ missing / len(u))
    W = block.down.weight
    block = eqx.tree_at(lambda b: b.down.weight, block, W + change[: len(W)])
    if block.down.bias is not None:
        block = eqx.tree_at(lambda b: b.down.bias, block, block.down.bias + change[-1])
    return block, half + jax.vmap(block.mlp_increment)(half)
