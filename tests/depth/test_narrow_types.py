"""A network in bfloat16 or float16 gives what its weights give in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.depth.change.resample import SHALLOWER
from steerax.depth.measure.edges import edge_importance, edge_removals

KEY = jax.random.key(3)
TOKENS = jnp.asarray(np.random.default_rng(5).integers(0, 7, (16, 6)), jnp.int32)
TARGETS = jnp.concatenate([TOKENS[:, 1:], jnp.full((16, 1), -1, jnp.int32)], 1)

VERBS = {
    "analyse": lambda gpt: (
        sx.depth.analyse(gpt, TOKENS, key=0, batches=2, sample=4).to_dict() | {"seconds": 0, "peak_memory": 0}
    ),
    "costates": lambda gpt: sx.depth.costates(gpt, TOKENS, TARGETS).costates,
    "ledger_by_source": lambda gpt: sx.depth.ledger_by_source(gpt, sx.depth.costates(gpt, TOKENS, TARGETS), 1, 2),
    "edge_importance": lambda gpt: edge_importance(gpt, TOKENS, TARGETS, KEY),
    "edge_removals": lambda gpt: edge_removals(gpt, TOKENS, TARGETS),
    "flow_distance": lambda gpt: sx.depth.flow_distance(gpt, TOKENS, TARGETS, substeps=(1, 2, 4)),
    "importance": lambda gpt: sx.depth.importance(gpt, TOKENS, TARGETS, KEY),
    "stationarity": lambda gpt: sx.depth.stationarity(gpt, TOKENS, 4),
    "loss_range": lambda gpt: sx.depth.loss_range(gpt).value,
    "mean_loss": lambda gpt: sx.depth.mean_loss(gpt, TOKENS),
    "deeper": lambda gpt: sx.depth.mean_loss(sx.depth.resample(gpt, 6), TOKENS),
    "shallower": lambda gpt: [
        sx.depth.mean_loss(sx.depth.resample(gpt, 2, TOKENS, method), TOKENS) for method in SHALLOWER
    ],
    "prune": lambda gpt: sx.depth.mean_loss(sx.depth.prune(gpt, 1500, TOKENS, KEY), TOKENS),
    "tune": lambda gpt: sx.depth.tune(gpt, np.asarray(TOKENS).ravel(), 2, KEY, progress=False).losses,
}


OFTEN = ("mean_loss", "deeper")


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("verb", [v if v in OFTEN else pytest.param(v, marks=pytest.mark.slow) for v in VERBS])
def test_a_network_of_a_narrow_type_is_analysed_in_float32(make_small_gpt, verb, dtype):
    narrow = make_small_gpt(dtype=dtype)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), narrow)
    numbers = [[np.asarray(x) for x in jax.tree.leaves(VERBS[verb](gpt)) if _is_number(x)] for gpt in (narrow, single)]
    assert numbers[0]
    for ours, theirs in zip(*numbers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _is_number(leaf):
    return not isinstance(leaf, str | None) and np.issubdtype(np.asarray(leaf).dtype, np.number)


@pytest.mark.slow
def test_other_predictions_are_those_of_the_network_as_it_is(make_small_gpt):
    """Where a network predicts, it does so in its own type: close to float32, not equal to it."""
    narrow = make_small_gpt(dtype="bfloat16")
    sequences = sx.Sequences.from_arrays(list(np.asarray(TOKENS)))
    ours, theirs = (sx.score(gpt, sequences).cross_entropy for gpt in (narrow, narrow.astype("float32")))
    assert 0 < abs(ours - theirs) < 0.02 * theirs
    assert sx.sample_tokens(narrow, np.array([1, 2]), 4, KEY).shape == (1, 4)
