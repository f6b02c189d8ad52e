"""The network is GPT-2, part by part, and its parts add up."""

import equinox as eqx
import gpt_twin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steerax._errors import ConfigurationError, DataError
from steerax.transformer.attention import attend, dropout
from steerax.transformer.checkpoint import from_tensors
from steerax.transformer.gpt import GPT, GPTConfig

TOKENS = np.array([3, 1, 4, 1, 5, 9, 2])


@pytest.fixture(scope="module")
def state():
    return gpt_twin.random_state()


@pytest.fixture(scope="module")
def gpt(state):
    return from_tensors(state, {}, n_head=3)


def test_logits_attention_and_hidden_states_equal_the_twin(gpt, state):
    logits, attention, states = gpt_twin.forward(state, TOKENS, 3)
    tokens = jnp.asarray(TOKENS)
    np.testing.assert_allclose(eqx.filter_jit(gpt)(tokens), logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(gpt.attention(tokens), attention, rtol=0, atol=1e-13)
    np.testing.assert_allclose(gpt.hidden_states(tokens), states, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("bias", "tied", "tanh"), [(False, True, True), (True, False, False)])
def test_every_variant_equals_the_twin(bias, tied, tanh):
    state = gpt_twin.random_state(bias=bias, tied=tied, seed=3)
    gpt = from_tensors(state, {"activation_function": "gelu_new"} if tanh else {}, n_head=2)
    assert (gpt.config.bias, gpt.config.tied) == (bias, tied)
    logits, _, _ = gpt_twin.forward(state, TOKENS, 2, tanh)
    np.testing.assert_allclose(gpt(jnp.asarray(TOKENS)), logits, rtol=0, atol=1e-12)


def test_a_large_vocabulary_takes_the_other_embedding_path():
    state = gpt_twin.random_state(V=300, L=1)
    tokens = np.array([299, 0, 17])
    logits, _, _ = gpt_twin.forward(state, tokens, 3)
    np.testing.assert_allclose(from_tensors(state, {}, n_head=3)(jnp.asarray(tokens)), logits, rtol=0, atol=1e-12)


def test_half_steps_compose_to_the_network(gpt):
    x = gpt.embed(jnp.asarray(TOKENS))
    for layer in range(gpt.config.n_layer):
        block = gpt.block(layer)
        heads = block.head_outputs(x).sum(0) + block.out.bias[None]
        np.testing.assert_allclose(heads, block.attention_increment(x), atol=1e-13)
        x = x + block.attention_increment(x)
        x = x + block.mlp_increment(x)
    np.testing.assert_allclose(gpt.unembed(x), gpt(jnp.asarray(TOKENS)), atol=1e-13)


def test_attention_rows_of_some_queries_are_rows_of_the_whole(gpt):
    tokens, queries = jnp.asarray(TOKENS), jnp.array([0, 5, 2])
    np.testing.assert_allclose(gpt.attention(tokens, queries), gpt.attention(tokens)[:, :, queries], atol=1e-15)


def test_the_past_does_not_depend_on_the_future(gpt):
    changed = jnp.asarray(TOKENS).at[4].set(0)
    before, after = gpt(jnp.asarray(TOKENS)), gpt(changed)
    np.testing.assert_array_equal(before[:4], after[:4])
    assert (jnp.abs(before - after)[4:].max(-1) > 1e-6).all()


@pytest.mark.slow
def test_the_gradient_is_the_slope(gpt):
    loss = lambda g: jax.nn.log_softmax(g(jnp.asarray(TOKENS)))[-1, 0]
    gradient = jax.grad(loss)(gpt)
    along = jax.tree.map(lambda a: jnp.asarray(np.random.default_rng(a.size).normal(size=a.shape)), gpt)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, along)))
    at = lambda h: loss(jax.tree.map(lambda p, d: p + h * d, gpt, along))
    np.testing.assert_allclose((at(1e-5) - at(-1e-5)) / 2e-5, slope, rtol=1e-6)


def test_parameters_are_float32_under_x64_and_arithmetic_stays_there(key):
    gpt = GPT(GPTConfig(5, 8, 2, 2, 8, dropout=0.1), key=key)
    loss = lambda g, t, k: jax.nn.logsumexp(g(t, key=k), axis=-1).mean()
    jaxpr = str(jax.make_jaxpr(jax.grad(loss))(gpt, jnp.zeros(4, jnp.int32), key))
    assert "f64[" not in jaxpr
    assert {leaf.dtype for leaf in jax.tree.leaves(gpt)} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(gpt.astype(jnp.float64))} == {np.dtype(np.float64)}


def test_float32_agrees_with_float64(gpt):
    tokens = jnp.asarray(TOKENS)
    np.testing.assert_allclose(gpt.astype(jnp.float32)(tokens), gpt(tokens), atol=1e-5)


def test_the_initialisation_is_that_of_gpt2(key):
    gpt = GPT(GPTConfig(50, 32, 8, 4, 128), key=key)
    assert abs(gpt.blocks.qkv.weight.std() / 0.02 - 1) < 0.01
    assert abs(gpt.blocks.down.weight.std() / (0.02 / 4) - 1) < 0.01
    assert abs(gpt.token_embedding.std() / 0.02 - 1) < 0.05
    assert not gpt.blocks.up.bias.any()
    D = 128
    assert gpt.n_parameters == 82 * D + 8 * (12 * D * D + 13 * D) + 2 * D


def test_a_missing_token_has_its_own_row(key):
    gpt = GPT(GPTConfig(5, 8, 1, 1, 8, missing=True), key=key)
    x = gpt.embed(jnp.array([2, -1]))
    np.testing.assert_allclose(x[1], gpt.missing_embedding + gpt.position_embedding[1])
    np.testing.assert_allclose(x[0], gpt.token_embedding[2] + gpt.position_embedding[0])


def test_dropout_keeps_the_mean_and_follows_the_key(key):
    x = jnp.ones((400, 500))
    y = dropout(x, 0.3, key)
    assert abs(y.mean() - 1) < 4 * (0.3 / 0.7) ** 0.5 / 2e5**0.5
    assert abs((y == 0).mean() - 0.3) < 4 * (0.21 / 2e5) ** 0.5
    np.testing.assert_array_equal(y, dropout(x, 0.3, key))
    np.testing.assert_array_equal(dropout(x, 0.3, None), x)


@pytest.mark.slow
def test_dropout_on_attention_weights_falls_after_normalisation(key):
    q, k, v = (jax.random.normal(i, (2, 6, 4)) for i in jax.random.split(key, 3))
    whole = lambda i: attend(q, k, v, rate=0.5, key=i)
    mean = jax.vmap(whole)(jax.random.split(key, 20_000)).mean(0)
    np.testing.assert_allclose(mean, attend(q, k, v), atol=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "whole number from 1"),
        ({"n_layer": -1}, "whole number from 1"),
        ({"n_head": 3}, "multiple"),
        ({"dropout": 1.0}, "must be below"),
        ({"activation": "relu"}, "choose one of"),
    ],
)
def test_rejects_configurations_that_cannot_be(change, message):
    with pytest.raises(ConfigurationError, match=message):
        GPTConfig(**({"vocab_size": 5, "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8} | change))


def test_rejects_an_input_longer_than_the_block(gpt):
    with pytest.raises(ConfigurationError, match="at most 9"):
        gpt(jnp.zeros(10, int))


@pytest.mark.parametrize("token", [-1, 11])
def test_rejects_tokens_the_model_does_not_know(gpt, token):
    with pytest.raises(DataError, match=f"token {token}"):
        gpt(jnp.array([0, token]))
