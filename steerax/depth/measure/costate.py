r"""Costates of a GPT: how the loss feels the residual stream at every half-step, and where its gradient goes.

A block is two half-steps $X_{m+1}=X_m+F_m(X_m)$ (attention, then MLP); $m=0..2L$. With $\ell$ the mean loss per scored
token, $P_m=\nabla_{X_m}\ell$ satisfies
$$P_{2L}=(D\,\mathrm{LN}_f)^\top W^\top(\mathrm{softmax}(z)-e_y)/N,\qquad P_m=P_{m+1}+(\partial_XF_m)^\top P_{m+1}:$$
the terminal costate is the softmax residual carried through the final LayerNorm [HuanYuan2026], and causal attention
carries $P$ from later to earlier tokens. These are the vector–Jacobian products of the network exactly, not an
approximation of a continuous adjoint. A LayerNorm does not see a constant added to a token or a rescaled token, so
pre-LayerNorm networks obey two exact laws: $\sum_jP_{m,t,j}=0$, and the *ledger* (see `Ledger`).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError
from ...maths.nll import nll
from ...transformer.attention import attend
from ...transformer.gpt import GPT, Block
from .scoring import in_full_precision

Memory = Literal["recompute", "store"]
MEMORY: tuple[Memory, ...] = ("recompute", "store")
LOGITS_AT_ONCE = 2**24  # logits of one block of rows; 64 MiB in float32


def token_losses(gpt: GPT, X: Float[Array, "B T D"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    r"""$-\log p(y)$ in nats from the final residual stream; 0 where the target is missing (−1).

    Works through blocks of rows and recomputes their logits in the gradient, so that memory does not grow with
    tokens × vocabulary.
    """
    D, V = X.shape[-1], gpt.config.vocab_size
    rows = targets.size

    @jax.checkpoint
    def block(X, y):
        return nll(gpt.unembed(X), y)

    size = min(rows, max(1, LOGITS_AT_ONCE // V))
    n = -(-rows // size)
    flat = jnp.pad(X.reshape(-1, D), ((0, n * size - rows), (0, 0))).reshape(n, size, D)
    y = jnp.pad(targets.reshape(-1), (0, n * size - rows), constant_values=-1).reshape(n, size)
    losses = jax.lax.map(lambda block_of_rows: block(*block_of_rows), (flat, y))
    return losses.reshape(-1)[:rows].reshape(targets.shape)


@eqx.filter_jit
def summed_losses(gpt: GPT, X: Float[Array, "B T D"], targets: Int[Array, "B T"]) -> Float[Array, ""]:
    """The sum of `token_losses`."""
    return token_losses(gpt, X, targets).sum()


@eqx.filter_jit
def half_step_states(gpt: GPT, tokens: Int[Array, "B T"]) -> Float[Array, "S B T D"]:
    """$X_0..X_{2L}$ of a batch, S = 2L + 1."""
    return jax.vmap(gpt.hidden_states, out_axes=1)(tokens)


def half_steps(block: Block, X: Float[Array, "B T D"]) -> tuple[Array, Array, tuple[Callable, Callable]]:
    """The states after both half-steps of a layer, and the pullbacks of the two increments to (block, state before)."""
    attention, pull_attention = jax.vjp(lambda block, X: jax.vmap(block.attention_increment)(X), block, X)
    half = X + attention
    mlp, pull_mlp = jax.vjp(lambda block, X: jax.vmap(block.mlp_increment)(X), block, half)
    return half, half + mlp, (pull_attention, pull_mlp)


def _stored_states(gpt: GPT, tokens: Int[Array, "B T"]) -> tuple[Float[Array, "S B T D"], Any]:
    """$X_0..X_{2L}$, and the pullbacks of every layer with all they remember: about ten times the states."""

    def layer(X, block):
        half, full, pulls = half_steps(block, X)
        return full, (jnp.stack([half, full]), pulls)

    X = jax.vmap(gpt.embed)(tokens)
    states, pulls = jax.lax.scan(layer, X, gpt.blocks)[1]
    return jnp.concatenate([X[None], states.reshape(-1, *X.shape)]), pulls


def states_for(gpt: GPT, tokens: Int[Array, "B T"], memory: str) -> tuple[Float[Array, "S B T D"], Any]:
    """The states at the half-steps and, to "store", the pullbacks; None to "recompute". Raises `ConfigurationError`."""
    if memory not in MEMORY:
        raise ConfigurationError(f"There is no memory mode {memory!r}; choose one of {', '.join(MEMORY)}.")
    return _stored_states(gpt, tokens) if memory == "store" else (half_step_states(gpt, tokens), None)


class Ledger(NamedTuple):
    r"""Where the loss gradient goes: every entry is $\langle P_{m+1},\text{one part of }F_m\rangle$, per token.

    For a pre-LayerNorm network $\langle P_0,X_0\rangle+\sum_m\langle P_{m+1},X_{m+1}-X_m\rangle=\langle P_{2L},X_{2L}\rangle=0$
    for every token up to the LayerNorm epsilon, because rescaling the residual stream of a token does not change its
    logits. Entry > 0: the loss would fall if that part were made smaller.

    **Attributes:** `embedding` `[B T]`; `heads` `[L H B T]`; `attention_bias` `[L B T]`; `mlp` `[L B T]`. The tokens
    are those that *receive* the increment; `ledger_by_source` splits a head over the tokens it reads from.
    """

    embedding: Float[Array | np.ndarray, "B T"]
    heads: Float[Array | np.ndarray, "L H B T"]
    attention_bias: Float[Array | np.ndarray, "L B T"]
    mlp: Float[Array | np.ndarray, "L B T"]

    @property
    def by_half_step(self) -> Float[Array | np.ndarray, " M"]:
        """Totals of the 2L half-steps over all tokens: attention and MLP alternate."""
        attention = self.heads.sum((1, 2, 3)) + self.attention_bias.sum((1, 2))
        return jnp.stack([attention, self.mlp.sum((1, 2))], axis=1).reshape(-1)

    @property
    def defect(self) -> Float[Array | np.ndarray, "B T"]:
        """The sum of all entries of each token: zero up to the LayerNorm epsilon."""
        return self.embedding + self.heads.sum((0, 1)) + self.attention_bias.sum(0) + self.mlp.sum(0)

    @property
    def relative_defect(self) -> float:
        """Largest defect of a token over the largest entry of a half-step."""
        attention = self.heads.sum(1) + self.attention_bias
        largest = max(float(jnp.abs(attention).max()), float(jnp.abs(self.mlp).max()))
        return float(jnp.abs(self.defect).max()) / largest if largest else 0.0


class Backward(NamedTuple):
    """What one backward pass knows: costates at all half-steps, ledger, gradients in the blocks, gates of neurons.

    `costates` `[S B T D]`; `ledger`; `gradient`, a stacked `Block`, or None; `neurons` `[L B W]`, $\\langle P,\\cdot\\rangle$ of
    each neuron of the MLPs summed over tokens, or None.
    """

    costates: Float[Array, "S B T D"]
    ledger: Ledger
    gradient: Block | None


def _head_entries(block: Block, X: Float[Array, "T D"], P: Float[Array, "T D"]) -> Float[Array, "H T"]:
    r"""$\langle P_t,\text{output of head }h\text{ at }t\rangle$, without forming the outputs `[H T D]`."""
    read = attend(*block.project(X))  # [H T K]
    pulled = (P @ block.out.weight.T).reshape(P.shape[0], *read.shape[::2])  # [T H K]
    return (read * pulled.transpose(1, 0, 2)).sum(-1)


def backward(
    gpt: GPT,
    X: Float[Array, "S B T D"],
    P: Float[Array, "B T D"],
    pulls: Any = None,
    *,
    gradient: bool = False,
) -> Backward:
    r"""All costates from the states at the half-steps and the terminal costate $P_{2L}$.

    Without the `pulls` of `_stored_states` each layer is evaluated again on the way back: memory is $O(LBTD)$ plus
    one layer. `gradient` also returns $\partial\ell/\partial\theta_l$; `neurons` the MLP gates.
    """

    def layer(P, now):
        block, before, half, after, pulls = now
        pull_attention, pull_mlp = half_steps(block, before)[2] if pulls is None else pulls
        in_mlp, change = pull_mlp(P)
        P_half = P + change
        mlp = (P * (after - half)).sum(-1)
        in_attention, change = pull_attention(P_half)
        heads = jax.vmap(lambda X, P: _head_entries(block, X, P), out_axes=1)(before, P_half)
        bias = jnp.zeros_like(mlp) if block.out.bias is None else P_half @ block.out.bias
        in_block = jax.tree.map(jnp.add, in_mlp, in_attention) if gradient else None
        return P_half + change, (P_half, P_half + change, heads, bias, mlp, in_block)

    found = jax.lax.scan(layer, P, (gpt.blocks, X[:-1:2], X[1::2], X[2::2], pulls), reverse=True)[1]
    P_half, P_before, heads, bias, mlp, in_block = found
    costates = jnp.concatenate([jnp.stack([P_before, P_half], axis=1).reshape(-1, *P.shape), P[None]])
    ledger = Ledger((costates[0] * X[0]).sum(-1), heads, bias, mlp)
    return Backward(costates, ledger, in_block)


class Costates(NamedTuple):
    """Loss, states and costates of a batch: `loss`, mean nats per scored token; `states` and `costates` `[S B T D]`;
    `ledger`."""

    loss: Float[Array, ""]
    states: Float[Array, "S B T D"]
    costates: Float[Array, "S B T D"]
    ledger: Ledger


@eqx.filter_jit
def costates(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], memory: Memory = "recompute") -> Costates:
    """Costates at all half-steps (every second one is after a layer) and the ledger. Targets −1 are not scored.

    `memory="store"` keeps what the layers need on the way back instead of evaluating them twice. Same numbers.
    """
    gpt = in_full_precision(gpt)
    X, pulls = states_for(gpt, tokens, memory)
    N = jnp.maximum((targets >= 0).sum(), 1)
    loss, P = jax.value_and_grad(lambda X: token_losses(gpt, X, targets).sum() / N)(X[-1])
    found = backward(gpt, X, P, pulls)
    return Costates(loss, X, found.costates, found.ledger)


@eqx.filter_jit
def ledger_by_source(gpt: GPT, found: Costates, layer: int, sequence: int) -> Float[Array, "H T T"]:
    r"""The ledger entries of a layer's heads split over the tokens they read from: `[head, receiving, source]`.

    $\langle P_{m+1,t},a_{hts}\,v_{hs}W_h\rangle$; the sum over sources is `ledger.heads[layer, :, sequence]`.
    """
    block = in_full_precision(gpt).block(layer)
    X, P = found.states[2 * layer, sequence], found.costates[2 * layer + 1, sequence]
    v = block.project(X)[2]
    pulled = (P @ block.out.weight.T).reshape(P.shape[0], *v.shape[::2]).transpose(1, 0, 2)
    return block.attention(X) * (pulled @ v.swapaxes(-1, -2))
