"""Telemetry measures what the optimiser does to each layer."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steerax as sx
from steerax.runs.loop import Snapshot
from steerax.training import optimizer, throughput
from steerax.training.loss import loss_and_gradient
from steerax.training.telemetry import Telemetry


@pytest.mark.slow
def test_norms_and_update_ratio_of_each_layer(tmp_path, key):
    gpt = sx.GPT(sx.GPTConfig(3, 4, 2, 1, 4), key=key)
    tokens = np.array([[0, 1, 2, 0, 1]])
    telemetry = Telemetry(tokens, optax.sgd(0.5), tmp_path / "t.jsonl", probes=(lambda g, t: {"tokens": t.sum()},))
    telemetry(Snapshot(7, (gpt, optax.sgd(0.5).init(gpt)), {}))
    record = json.loads((tmp_path / "t.jsonl").read_text())
    loss, gradient = jax.jit(loss_and_gradient)(gpt, jnp.asarray(tokens), key)
    norm = lambda tree, l: np.sqrt(sum(float((leaf[l] ** 2).sum()) for leaf in jax.tree.leaves(tree.blocks)))
    np.testing.assert_allclose(record["probe_loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(record["gradient_norm"], [norm(gradient, 0), norm(gradient, 1)], rtol=1e-5)
    ratios = [0.5 * norm(gradient, l) / norm(gpt, l) for l in range(2)]
    np.testing.assert_allclose(record["update_ratio"], ratios, rtol=1e-5)
    assert (record["step"], record["tokens"]) == (7, 4)


def test_decay_falls_on_matrices_only(key):
    gpt = sx.GPT(sx.GPTConfig(3, 4, 2, 1, 4), key=key)
    mask = optimizer.decayed(gpt)
    assert mask.blocks.qkv.weight
    assert mask.token_embedding
    assert not mask.blocks.qkv.bias
    assert not mask.blocks.ln_mlp.weight
    assert not mask.ln_final.weight


def test_flops_count_six_per_weight_and_token(key):
    gpt = sx.GPT(sx.GPTConfig(10, 4, 3, 2, 8, bias=False), key=key)
    weights = 10 * 8 + 3 * (12 * 64 + 2 * 8) + 8
    assert throughput.flops_per_token(gpt) == 6 * weights + 12 * 3 * 8 * 4
