r"""Negative log-likelihoods of tokens, from logits and from probabilities; a token of −1 is missing and costs nothing."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def nll(logits: Float[Array, "*batch V"], tokens: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""$-\log\mathrm{softmax}(\mathrm{logits})_z$ in nats, computed in float32 at least; 0 where the token is missing."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    at_token = jnp.take_along_axis(logits, jnp.maximum(tokens, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(tokens >= 0, jax.nn.logsumexp(logits, axis=-1) - at_token, 0)


def nll_of_probabilities(p: Float[Array, "*batch V"], tokens: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""$-\log p_z$ in nats, infinite for a token of probability zero; 0 where the token is missing."""
    seen = tokens >= 0
    at_token = jnp.take_along_axis(p, jnp.maximum(tokens, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(seen, -jnp.log(jnp.where(seen, at_token, 1)), 0)
