r"""What a connection is worth: the loss if one part no longer reads what a head has written.

A head writes $\delta_s$ into the residual stream, and every later head, MLP and the read-out read the sum. Removing the
*edge* from head $s$ to reader $r$ lets $r$ read $X-\delta_s$ while all others still read $X$. Let $C_r$ be what reader
$r$ adds to the costates, $C_r=(\partial_Xr)^\top P_{m+1}$ (for the read-out $P_{2L}$); the costate after head $s$ is
$P=\sum_rC_r$ over all later readers, so that edges split the ledger exactly:
$$\Delta\ell\approx-\langle C_r,\delta_s\rangle+\tfrac1{2N}\mathbb E\langle\tilde C_r,\delta_s\rangle^2,\qquad
\sum_r\langle C_r,\delta_s\rangle=\langle P,\delta_s\rangle,$$
the second term from labels drawn from the network, as in `importance`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ...transformer.attention import attend
from ...transformer.gpt import GPT, Block
from .costate import half_step_states, token_losses
from .importance import draw_labels
from .scoring import in_full_precision


class Edges(NamedTuple):
    """One number for every edge from a head: to the `heads` of later layers `[L H L H]` (zero for the layers up to its
    own), to the `mlp` of its own and later layers `[L H L]` (zero before), and to the `readout` `[L H]`.

    As an importance: nats per token if the edge is removed.
    """

    heads: Any
    mlp: Any
    readout: Any


class Edge(NamedTuple):
    """One edge in words: from head `head` of layer `layer` to `reader` ("head 3.1", "MLP 2" or "readout"), and its
    `value`."""

    layer: int
    head: int
    reader: str
    value: float


def ranked(edges: Edges) -> list[Edge]:
    """All edges there are, the largest value first."""
    L, H = np.shape(edges.readout)
    found = []
    for l, h in np.ndindex(L, H):
        readers = [("readout", edges.readout[l, h])]
        readers += [(f"MLP {r}", edges.mlp[l, h, r]) for r in range(l, L)]
        readers += [(f"head {r}.{g}", edges.heads[l, h, r, g]) for r in range(l + 1, L) for g in range(H)]
        found += [Edge(l, h, reader, float(value)) for reader, value in readers]
    return sorted(found, key=lambda edge: -edge.value)


class EdgeImportance(NamedTuple):
    """Predicted loss changes on removal of an edge: their `first`-order part and their `fisher` part, each `Edges`."""

    first: Edges
    fisher: Edges

    @property
    def predicted(self) -> Edges:
        """The sum of both parts."""
        return Edges(*(a + b for a, b in zip(self.first, self.fisher, strict=True)))


def heads_reading(block: Block, X: Float[Array, "H T D"]) -> Float[Array, "H T D"]:
    """What each head adds when head h reads its own state `X[h]`."""
    D, H = block.config.n_embd, block.config.n_head
    weight = block.qkv.weight.reshape(D, 3, H, -1)
    qkv = jnp.einsum("htd,dchk->chtk", jax.vmap(block.ln_attention)(X), weight)
    if block.qkv.bias is not None:
        qkv = qkv + block.qkv.bias.reshape(3, H, 1, -1)
    return jnp.einsum("htk,hkd->htd", attend(*qkv), block.out.weight.reshape(H, -1, D))


def written(gpt: GPT, X: Float[Array, "S T D"]) -> Float[Array, "L H T D"]:
    """What every head adds to the residual stream of one sequence."""
    return jax.lax.map(lambda now: now[0].head_outputs(now[1]), (gpt.blocks, X[:-1:2]))


def _pairings(gpt: GPT, X: Float[Array, "S T D"], targets: Int[Array, " T"]) -> Edges:
    r"""$\langle C_r,\delta_s\rangle$ of all edges for the summed loss of one sequence, zero where there is no edge."""
    L, H = gpt.config.n_layer, gpt.config.n_head
    wrote = written(gpt, X)
    P = jax.grad(lambda X: token_losses(gpt, X[None], targets[None]).sum())(X[-1])
    pair = lambda C: jnp.einsum("lstd,...td->ls...", wrote, C)

    def layer(P, now):
        block, before, half = now
        of_mlp = jax.vjp(block.mlp_increment, half)[1](P)[0]
        apart = jnp.broadcast_to(before, (H, *before.shape))
        of_heads = jax.vjp(lambda X: heads_reading(block, X).sum(0), apart)[1](P + of_mlp)[0]
        return P + of_mlp + of_heads.sum(0), (pair(of_heads), pair(of_mlp))

    heads, mlp = jax.lax.scan(layer, P, (gpt.blocks, X[:-1:2], X[1::2]), reverse=True)[1]
    later = np.arange(L)[None] - np.arange(L)[:, None]  # [source reader]
    heads, mlp = heads.transpose(1, 2, 0, 3), mlp.transpose(1, 2, 0)
    return Edges(jnp.where((later > 0)[:, None, :, None], heads, 0), jnp.where((later >= 0)[:, None], mlp, 0), pair(P))


@eqx.filter_jit
def edge_importance(
    gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"], key: PRNGKeyArray, draws: int = 4
) -> EdgeImportance:
    """Predicted loss change in nats per token for every edge from a head.

    One sequence at a time, 1 + `draws` backward passes in which every head has its own input: memory
    `3·L·H·T·D` numbers, and $O((LH)^2TD)$ operations for the pairings.
    """
    gpt = in_full_precision(gpt)

    def sequence(now):
        t, y, key = now
        X = half_step_states(gpt, t[None])[:, 0]
        drawn = lambda key: draw_labels(gpt, X[-1:], y[None] >= 0, key)[0]
        square = lambda key: Edges(*(g**2 / 2 for g in _pairings(gpt, X, drawn(key))))
        fisher = jax.lax.map(square, jax.random.split(key, draws))
        return Edges(*(-g for g in _pairings(gpt, X, y))), Edges(*(g.mean(0) for g in fisher))

    found = jax.lax.map(sequence, (tokens, targets, jax.random.split(key, len(tokens))))
    return EdgeImportance(*jax.tree.map(lambda g: g.sum(0) / (targets >= 0).sum(), found))


# ---- measured: what the predictions are judged by -------------------------------------------------------------------------


@eqx.filter_jit
def edge_removals(gpt: GPT, tokens: Int[Array, "B T"], targets: Int[Array, "B T"]) -> Edges:
    """Measured change of the mean loss when an edge is removed: half a forward pass for each of the (LH)²/2 edges."""
    gpt = in_full_precision(gpt)
    L, H = gpt.config.n_layer, gpt.config.n_head
    X, N = half_step_states(gpt, tokens), (targets >= 0).sum()
    wrote = jax.vmap(lambda X: written(gpt, X), in_axes=1, out_axes=2)(X)  # [L H B T D]
    loss = lambda X: token_losses(gpt, X, targets).sum() / N
    rest = lambda X, layer: jax.lax.fori_loop(layer, L, lambda l, X: jax.vmap(gpt.block(l))(X), X)
    base = loss(X[-1])

    def without_head(edge):  # the reader is a head
        source, reader = edge[:2], edge[2:]
        block, before, half = gpt.block(reader[0]), X[2 * reader[0]], X[2 * reader[0] + 1]
        reads = lambda X: jax.vmap(lambda X: block.head_outputs(X)[reader[1]])(X)
        half = half + reads(before - wrote[tuple(source)]) - reads(before)
        return loss(rest(half + jax.vmap(block.mlp_increment)(half), reader[0] + 1)) - base

    def without_mlp(edge):
        block, half = gpt.block(edge[2]), X[2 * edge[2] + 1]
        change = jax.vmap(block.mlp_increment)(half - wrote[edge[0], edge[1]])
        return loss(rest(half + change, edge[2] + 1)) - base

    def over(work, shape, real):
        edges = np.argwhere(np.broadcast_to(real, shape))
        found = jax.lax.map(work, jnp.asarray(edges))
        return jnp.zeros(shape, found.dtype).at[tuple(edges.T)].set(found)

    l = np.arange(L)
    return Edges(
        over(without_head, (L, H, L, H), (l[:, None] < l)[:, None, :, None]) if L > 1 else jnp.zeros((L, H, L, H)),
        over(without_mlp, (L, H, L), (l[:, None] <= l)[:, None]),
        over(lambda edge: loss(X[-1] - wrote[edge[0], edge[1]]) - base, (L, H), True),
    )
