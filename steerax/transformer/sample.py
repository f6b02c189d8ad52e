"""Continue a sequence token by token, with the keys and values of earlier tokens kept."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._bounds import COUNT, NOT_NEGATIVE, bounded
from .._errors import ConfigurationError, DataError
from ..maths.keys import as_key
from .attention import attend
from .gpt import GPT, Block


class _Cache(NamedTuple):
    """Keys and values of the tokens read so far, in every layer; places not yet read hold anything."""

    k: Float[Array, "L H block_size K"]
    v: Float[Array, "L H block_size K"]


def read_prompt(gpt: GPT, tokens: Int[Array, "T"]) -> tuple[Float[Array, "V"], _Cache]:
    """Logits of the token after the prompt, and the cache that holds the prompt."""

    def step(x, block: Block):
        _, k, v = block.project(x)
        return block(x), _Cache(k, v)

    x, cache = jax.lax.scan(step, gpt.embed(tokens), gpt.blocks)
    room = ((0, 0), (0, 0), (0, gpt.config.block_size - tokens.shape[0]), (0, 0))
    return gpt.unembed(x[-1:])[0], jax.tree.map(lambda a: jnp.pad(a, room), cache)


def read_token(gpt: GPT, cache: _Cache, token: Int[Array, ""], t: Int[Array, ""]) -> tuple[Float[Array, "V"], _Cache]:
    """Logits of the token after `token`, which stands at position $t$, and the cache with it: $O(T)$ instead of $O(T^2)$."""

    def step(x, layer):
        block, past = layer
        q, k, v = block.project(x, t)
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, t, axis=1)
        now = _Cache(put(past.k, k), put(past.v, v))
        x = x + block.out(attend(q, now.k, now.v, t).transpose(1, 0, 2).reshape(x.shape))
        return x + block.mlp_increment(x), now

    x = gpt.placed(gpt.token_rows(token[None]), t)
    x, cache = jax.lax.scan(step, x, (gpt.blocks, cache))
    return gpt.unembed(x)[0], cache


def choose(
    logits: Float[Array, "V"], key: Key[Array, ""], temperature: Float[Array, ""] | float, top_k: int | None
) -> Int[Array, ""]:
    r"""A token from $\mathrm{softmax}(\mathrm{logits}/\mathrm{temperature})$ over the `top_k` most likely; the most likely at temperature 0."""
    if top_k is not None and top_k < logits.shape[0]:
        logits = jnp.where(logits >= jax.lax.top_k(logits, top_k)[0][-1], logits, -jnp.inf)
    drawn = jax.random.categorical(key, logits / jnp.where(temperature > 0, temperature, 1))
    return jnp.where(temperature > 0, drawn, logits.argmax()).astype(jnp.int32)


@eqx.filter_jit
def _continued(gpt: GPT, prompt, key, fitting: int, number: int, temperature, top_k: int | None) -> Int[Array, "n"]:
    """`number` tokens after the prompt, of which the first `fitting` stand in one block with it."""

    def drawn(logits, i):
        return choose(logits, jax.random.fold_in(key, i), temperature, top_k)

    def read_on(carry, i):
        logits, cache = carry
        token = drawn(logits, i)
        return read_token(gpt, cache, token, prompt.shape[0] + i), token

    def slide(window, i):  # positions move with the window, so everything is read again
        token = drawn(gpt(window)[-1], i)
        return jnp.concatenate([window[1:], token[None]]), token

    tokens = jax.lax.scan(read_on, read_prompt(gpt, prompt), jnp.arange(fitting, dtype=jnp.int32))[1]
    if number == fitting:
        return tokens
    window = jnp.concatenate([prompt, tokens])[-gpt.config.block_size :]
    more = jax.lax.scan(slide, window, fitting + jnp.arange(number - fitting, dtype=jnp.int32))[1]
    return jnp.concatenate([tokens, more])


@bounded(number=COUNT, temperature=NOT_NEGATIVE, top_k=COUNT, samples=COUNT)
def sample_tokens(
    gpt: GPT,
    prompt: Int[Array, "T"] | Int[np.ndarray, "T"],
    number: int,
    key: Key[Array, ""] | int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    samples: int = 1,
) -> Int[np.ndarray, "samples n"]:
    r"""Continuations of a prompt: `number` tokens each, from $\mathrm{softmax}(\mathrm{logits}/\mathrm{temperature})$.

    As long as prompt and continuation fit into the block, keys and values are kept and a token costs $O(T)$; after
    that the model reads the last `block_size` tokens anew for every token, as nanoGPT does. Token $i$ of a sample is a
    pure function of (key, sample, $i$) and the tokens before it.

    **Arguments:** `prompt`, at least one token; `number` of new tokens; `key` or seed; `temperature`, 0 for the most likely token;
    `top_k`, how many of the most likely tokens may be drawn; `samples`, independent continuations.

    **Raises:** `DataError` for an empty prompt or unknown tokens, `ConfigurationError` for the other arguments.
    """
    prompt = np.asarray(prompt)
    V, block_size = gpt.config.vocab_size, gpt.config.block_size
    if not prompt.size:
        raise DataError("The prompt is empty; a GPT continues at least one token, such as a line break.")
    if prompt.min() < (-1 if gpt.config.missing else 0) or prompt.max() >= V:
        raise DataError(f"The prompt holds tokens outside 0 to {V - 1}; encode it with the model's own vocabulary.")
    if number < 0 or samples < 1:
        raise ConfigurationError(f"{samples} samples of {number} tokens cannot be drawn.")
    if not (temperature >= 0 and np.isfinite(temperature)):
        raise ConfigurationError(f"The temperature is {temperature}; it must be zero or positive and finite.")
    if top_k is not None and top_k < 1:
        raise ConfigurationError(f"top_k is {top_k}; at least one token must be allowed.")
    heat = jnp.asarray(temperature, gpt.token_embedding.dtype)
    window = jnp.asarray(prompt[-block_size:], jnp.int32)
    keys = jax.random.split(as_key(key), samples)
    fitting = min(number, block_size - window.shape[0])
    return np.asarray(jax.vmap(lambda k: _continued(gpt, window, k, fitting, number, heat, top_k))(keys))
