"""Networks without MLP, LayerNorm or learned positions: what they compute, and who refuses them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax._errors import ConfigurationError
from steerax.transformer.attention import rotated
from steerax.transformer.sample import read_prompt, read_token

TOKENS = jnp.asarray([3, 1, 4, 1, 0, 2, 2])
VARIANTS = [{"mlp": False}, {"norm": False}, {"positions": "rotary"}, {"positions": "none"},
            {"mlp": False, "norm": False, "positions": "rotary"}]  # fmt: skip


def network(**variant):
    """Large weights, so that predictions differ."""
    config = sx.GPTConfig(5, 12, 2, 2, 8, tied=False, **variant)
    return jax.tree.map(lambda leaf: 4 * leaf, sx.GPT(config, key=2)).astype(jnp.float64)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_the_sum_of_the_parts_and_the_cache_gives_them_too(variant, tmp_path):
    gpt = network(**variant)
    x = gpt.embed(TOKENS)
    for l in range(2):
        block = gpt.block(l)
        weights = block.attention(x)
        read = jnp.einsum("hqt,htd->qd", weights, block.offered(x)) + block.out.bias[None]
        np.testing.assert_allclose(read, block.attention_increment(x), atol=1e-12)
        x = x + read
        x = x + block.mlp_increment(x)
    np.testing.assert_allclose(gpt.hidden_states(TOKENS)[-1], x, atol=1e-12)
    np.testing.assert_allclose(gpt(TOKENS), gpt.unembed(x), atol=1e-12)
    logits, cache = read_prompt(gpt, TOKENS[:3])
    for t in range(3, 7):
        np.testing.assert_allclose(logits, gpt(TOKENS[:t])[-1], atol=1e-12)
        logits, cache = read_token(gpt, cache, TOKENS[t], jnp.int32(t))
    sx.save_gpt(gpt, tmp_path / "net")
    np.testing.assert_array_equal(sx.load_gpt(tmp_path / "net")(TOKENS), gpt(TOKENS))


def test_rotary_scores_depend_on_differences_of_positions_only():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 6))
    score = lambda i, j: float((rotated(jnp.asarray(q), i) * rotated(jnp.asarray(k), j)).sum())
    assert score(5, 2) == pytest.approx(score(9, 6), abs=1e-6)
    assert score(5, 2) != pytest.approx(score(5, 4), abs=1e-3)
    whole = rotated(jnp.asarray(np.tile(q, (1, 4, 1))), 3)
    for t in range(4):
        np.testing.assert_allclose(whole[:, t : t + 1], rotated(jnp.asarray(q), 3 + t), atol=1e-12)
    angle = 5 * 10000.0 ** (-1 / 3)
    turned = np.cos(angle) * q[0, 0, 1] - np.sin(angle) * q[0, 0, 4]
    assert float(rotated(jnp.asarray(q), 5)[0, 0, 1]) == pytest.approx(turned, abs=1e-6)


def test_without_positions_a_token_repeated_is_the_same_everywhere():
    states = network(positions="none").hidden_states(jnp.full(6, 2))
    np.testing.assert_allclose(states, states[:, :1] + 0 * states, atol=1e-12)
    assert np.ptp(network().hidden_states(jnp.full(6, 2))[0], axis=0).max() > 1e-3


@pytest.mark.parametrize("given", [{"positions": "sinusoidal"}, {"positions": "rotary", "n_embd": 6}])
def test_rejects_positions_that_cannot_be(given):
    with pytest.raises(ConfigurationError):
        dataclasses.replace(sx.GPTConfig(5, 12, 2, 2, 8), **given)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_analysis_of_depth_refuses_them_in_one_sentence(variant):
    gpt, rows = network(**variant), np.tile(np.asarray(TOKENS), (3, 1))
    for verb in (
        lambda: sx.depth.analyse(gpt, rows, progress=False),
        lambda: sx.depth.resample(gpt, 1),
        lambda: sx.depth.resample(gpt, 4),
        lambda: sx.depth.prune(gpt, 100, rows, jax.random.key(0)),
        lambda: sx.depth.tune(gpt, rows, 1, jax.random.key(0), progress=False),
        lambda: sx.depth.loss_range(gpt),
        lambda: sx.depth.costates(gpt, rows[:, :-1], rows[:, 1:]),
        lambda: sx.depth.stationarity(gpt, rows, 2),
    ):
        with pytest.raises(ConfigurationError, match="architecture of GPT-2"):
            verb()
