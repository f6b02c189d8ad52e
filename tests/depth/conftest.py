"""Small models made without compiling anything, shared by the tests of depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx


@functools.cache
def make_gpt(seed=0, scale=0.3, n_layer=3, dtype="float64", **options):
    """A GPT with normal weights large enough for every path to matter."""
    config = sx.GPTConfig(**{"vocab_size": 7, "block_size": 6, "n_head": 2, "n_embd": 8} | options, n_layer=n_layer)
    template = sx.GPT.template(config)
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        one = any(getattr(p, "name", "").startswith("ln_") for p in path) and getattr(path[-1], "name", "") == "weight"
        return jnp.asarray(one + scale * rng.standard_normal(shape.shape), dtype)

    return jax.tree_util.tree_map_with_path(leaf, template)


@pytest.fixture(scope="session")
def make_small_gpt():
    """`make_small_gpt(**options)` makes a GPT: 7 tokens, 6 positions, 3 layers, 2 heads, width 8, float64."""
    return make_gpt


@pytest.fixture
def small_gpt(make_small_gpt):
    """The same, under a shorter name."""
    return make_small_gpt


@pytest.fixture
def small_batch():
    """Inputs and targets int [3, 6] below 7; the last position has no target."""
    tokens = np.random.default_rng(5).integers(0, 7, (3, 6))
    targets = np.concatenate([tokens[:, 1:], np.full((3, 1), -1)], axis=1)
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(targets, jnp.int32)
