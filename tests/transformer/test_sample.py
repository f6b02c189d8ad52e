"""Sampling draws from the model's own next-token law, with or without the cache."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax._errors import ConfigurationError, DataError
from steerax.transformer.sample import choose, read_prompt, read_token

CONFIG = sx.GPTConfig(5, 12, 2, 2, 8)


@pytest.fixture(scope="module")
def gpt():
    """A random model with large weights, so that its predictions differ from token to token."""
    make = lambda key: jax.tree.map(lambda leaf: 10 * leaf, sx.GPT(CONFIG, key=key)).astype(jnp.float64)
    return eqx.filter_jit(make)(jax.random.key(2))


@eqx.filter_jit
def last_logits(gpt, tokens, length):
    """Logits after `length` tokens of a padded block: the padding lies in the future and is not seen."""
    return gpt(tokens)[length - 1]


def padded(tokens):
    return jnp.asarray(np.pad(tokens, (0, 12 - len(tokens))))


def test_the_cache_gives_the_logits_of_the_whole_sequence(gpt):
    tokens = np.array([3, 1, 4, 1, 0, 2, 2])
    logits, cache = eqx.filter_jit(read_prompt)(gpt, jnp.asarray(tokens[:3]))
    read = eqx.filter_jit(read_token)
    for t in range(3, 7):
        np.testing.assert_allclose(logits, last_logits(gpt, padded(tokens), jnp.int32(t)), atol=1e-12)
        logits, cache = read(gpt, cache, jnp.asarray(tokens[t]), jnp.int32(t))


def test_the_most_likely_continuation_also_beyond_the_block(gpt):
    drawn = sx.sample_tokens(gpt, np.array([3, 1]), 15, jax.random.key(0), temperature=0.0)
    text = [3, 1]
    for _ in range(15):
        seen = text[-12:]
        text.append(int(last_logits(gpt, padded(seen), jnp.int32(len(seen))).argmax()))
    assert drawn.tolist() == [text[2:]]


def test_frequencies_follow_the_temperature_and_top_k(key):
    logits = jnp.array([1.0, 3.0, 2.0, 0.0])
    draw = lambda t, k: jax.vmap(lambda i: choose(logits, i, t, k))(jax.random.split(key, 20_000))
    for temperature, top_k, allowed in ((1.0, None, [0, 1, 2, 3]), (0.5, 2, [1, 2])):
        p = np.zeros(4)
        p[allowed] = jax.nn.softmax(logits[jnp.array(allowed)] / temperature)
        frequencies = np.bincount(draw(temperature, top_k), minlength=4) / 20_000
        assert (np.abs(frequencies - p) <= 4 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_a_sample_depends_on_key_and_prompt_only(gpt):
    one = sx.sample_tokens(gpt, np.array([3]), 20, jax.random.key(0), samples=3)
    np.testing.assert_array_equal(one, sx.sample_tokens(gpt, np.array([3]), 20, jax.random.key(0), samples=3))
    assert len({row.tobytes() for row in one}) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompt": np.zeros(0, int)}, DataError, "empty"),
        ({"prompt": np.array([5])}, DataError, "outside"),
        ({"prompt": np.array([-1])}, DataError, "outside"),
        ({"temperature": -1.0}, ConfigurationError, "temperature"),
        ({"temperature": float("nan")}, ConfigurationError, "temperature"),
        ({"top_k": 0}, ConfigurationError, "top_k"),
        ({"samples": 0}, ConfigurationError, "samples"),
    ],
)
def test_rejects_what_cannot_be_continued(gpt, change, error, message):
    options = {"prompt": np.array([1])} | change
    with pytest.raises(error, match=message):
        sx.sample_tokens(gpt, options.pop("prompt"), 3, jax.random.key(0), **options)
