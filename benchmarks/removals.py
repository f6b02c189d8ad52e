"""Measured removals of heads, and Gauss–Newton by forward differentiation: what predictions are judged by."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from steerax.depth.measure.costate import token_losses
from steerax.transformer.attention import attend
from steerax.transformer.gpt import GPT, Block


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
