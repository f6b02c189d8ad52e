"""The loss of a GPT on a batch, and its gradient."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..maths.nll import nll
from ..transformer.gpt import GPT

PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}


def negative_log_likelihoods(
    gpt: GPT, tokens: Int[Array, "B N"], keys: Key[Array, "B"] | None = None
) -> Float[Array, "B T"]:
    r"""$-\log p(z_{t+1}\mid z_0\dots z_t)$ in nats, at least float32; 0 where the target is missing. $T=N-1$."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    return nll(jax.vmap(lambda t, k: gpt(t, key=k))(inputs, keys), targets)


def loss_and_gradient(
    gpt: GPT, tokens: Int[Array, "B N"], key: Key[Array, ""], accumulate: int = 1, precision: str = "float32"
) -> tuple[Float[Array, ""], GPT]:
    """Mean loss per scored token and its gradient, the batch taken in `accumulate` equal parts one after another.

    The parts are summed before dividing by the number of scored tokens, so the result does not depend on the cut
    (up to rounding). In bfloat16 the parameters are rounded for the forward and backward pass; LayerNorm statistics,
    softmax, loss and the gradient's sum stay in float32.
    """
    lower = PRECISIONS[precision]
    keys = jax.random.split(key, tokens.shape[0]) if gpt.config.dropout > 0 else None
    n_scored = jnp.maximum((tokens[:, 1:] >= 0).sum(dtype=jnp.int32), 1)

    def part(gpt, tokens, keys):
        used = gpt if lower is None else gpt.astype(lower)
        total = negative_log_likelihoods(used, tokens, keys).sum()
        return total / n_scored.astype(total.dtype)

    if accumulate == 1:
        return jax.value_and_grad(part)(gpt, tokens, keys)

    def add(carry, part_of_batch):
        return jax.tree.map(jnp.add, carry, jax.value_and_grad(part)(gpt, *part_of_batch)), None

    cut = lambda a: None if a is None else a.reshape(accumulate, -1, *a.shape[1:])
    dtype = jnp.promote_types(gpt.token_embedding.dtype, jnp.float32)
    zero = (jnp.zeros((), dtype), jax.tree.map(jnp.zeros_like, gpt))
    return jax.lax.scan(add, zero, (cut(tokens), cut(keys)))[0]
