"""Pruning: predictions against exact ones, what is removed stays removed, parameters are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.depth.change import prune as p
from steerax.depth.change.grouped import GroupedGPT
from steerax.depth.change.resample import resample
from steerax.depth.change.tune import tune
from steerax.depth.measure import importance as i
from steerax.depth.measure.costate import costates
from steerax.depth.measure.scoring import mean_loss


@pytest.fixture(scope="module")
def gpt(make_small_gpt):
    return make_small_gpt(scale=0.25)


@pytest.mark.slow
def test_the_first_order_of_a_head_is_its_entry_in_the_ledger(gpt, small_batch):
    tokens, targets = small_batch
    first, _ = i.removal_effects(gpt, tokens, targets, jax.random.key(1), 1)
    ledger = costates(gpt, tokens, targets).ledger.heads.sum((2, 3))
    np.testing.assert_allclose(-first.heads / (targets >= 0).sum(), ledger, rtol=1e-8, atol=1e-14)
    small = i.Gates(jnp.ones_like(first.heads), jnp.ones_like(first.neurons).at[1, 3].set(1 - 1e-5))
    change = mean_loss(i.with_gates(gpt, small), tokens) - mean_loss(gpt, tokens)
    scored = jnp.full_like(tokens, -1).at[:, :-1].set(tokens[:, 1:])
    first, _ = i.removal_effects(gpt, tokens, scored, jax.random.key(1), 1)
    np.testing.assert_allclose(1e5 * change * (scored >= 0).sum(), first.neurons[1, 3], rtol=1e-3)


@pytest.mark.slow
def test_groups_of_one_layer_are_the_plain_network(gpt, small_batch):
    grouped = GroupedGPT(gpt, ((0,), (1,), (2,)))
    found = [i.removal_effects(n, *small_batch, jax.random.key(1), 2) for n in (gpt, grouped)]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_what_is_removed_is_silent_uncounted_and_stays_so(make_small_gpt, small_batch):
    gpt = make_small_gpt(scale=0.25, dtype="float32")
    parameters = int(0.6 * gpt.n_parameters)
    grouped = resample(gpt, 2, small_batch[0])
    pruned = p.prune(grouped, parameters, small_batch[0], jax.random.key(0), draws=2, rounds=2)
    assert isinstance(pruned.network, GroupedGPT)
    assert pruned.network.groups == grouped.groups
    blocks = pruned.network.gpt.blocks
    zeros = gpt.n_parameters - sum(int((np.asarray(leaf) != 0).sum()) for leaf in jax.tree.leaves(pruned.network))
    assert parameters - 2 * (4 * 8 * 4 + 3 * 4) < pruned.n_parameters <= parameters
    assert zeros == gpt.n_parameters - pruned.n_parameters
    assert (np.asarray(blocks.up.weight != 0).any(1) == pruned.neurons).all()
    assert (np.asarray(blocks.out.weight.reshape(3, 2, -1) != 0).any(2) == pruned.heads).all()
    data = sx.Sequences.from_arrays([np.arange(7)])
    tuned = tune(pruned, data, 3, jax.random.key(1), batch_size=2, progress=False).model
    assert isinstance(tuned, p.Pruned)
    after = tuned.network.gpt.blocks
    for a, b in zip(jax.tree.leaves(blocks), jax.tree.leaves(after), strict=True):
        assert (np.asarray(b)[np.asarray(a) == 0] == 0).all()
    assert not np.array_equal(blocks.up.weight, after.up.weight)
    assert np.isfinite(mean_loss(tuned, small_batch[0]))


def test_the_cheapest_per_parameter_goes_first_and_those_gone_stay_gone():
    worth = i.Gates(np.asarray([[4.0, 1.0]]), np.asarray([[0.3, -1.0, 0.1]]))
    everything = i.Gates(np.ones((1, 2), bool), np.ones((1, 3), bool))
    cost = i.Gates(10, 2)
    kept = p.without_cheapest(everything, worth, cost, 4.0)
    assert (kept.heads.tolist(), kept.neurons.tolist()) == ([[True, True]], [[True, False, False]])
    kept = p.without_cheapest(kept, i.Gates(worth.heads, 9 + 0 * worth.neurons), cost, 5.0)
    assert (kept.heads.tolist(), kept.neurons.tolist()) == ([[True, False]], [[True, False, False]])


def test_rejects_fewer_parameters_than_there_are_outside_heads_and_neurons(gpt, small_batch):
    with pytest.raises(sx.ConfigurationError, match="cannot be"):
        p.prune(gpt, 10, small_batch[0], jax.random.key(0))
