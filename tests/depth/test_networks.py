"""Refinements, groups and other depths of a GPT: identities that hold exactly, and orders of convergence."""

from itertools import combinations, pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.depth.change.grouped import GroupedGPT
from steerax.depth.change.resample import (
    DEEPER,
    SHALLOWER,
    even_groups,
    layer_states,
    local_error_groups,
    resample,
    take,
)
from steerax.depth.measure.importance import run_from
from steerax.depth.measure.refinement import REFINEMENTS, flow_distance, flow_states, refined_states
from steerax.depth.measure.scoring import mean_loss
from steerax.depth.theory.flow import fitted_order


@pytest.fixture
def gpt(small_gpt):
    return small_gpt(scale=0.2)


@pytest.fixture
def tokens(small_batch):
    return small_batch[0]


def logits(network, tokens):
    return jax.jit(jax.vmap(network))(tokens)


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFINEMENTS)
def test_refinements_are_the_network_at_one_substep_and_converge_to_their_flow(kind, gpt, tokens):
    X = jax.jit(jax.vmap(gpt.hidden_states))(tokens)[:, -1]
    np.testing.assert_allclose(refined_states(gpt, tokens, jnp.asarray(1), kind), X, rtol=1e-12, atol=1e-13)
    limit, steps = flow_states(gpt, tokens, jnp.asarray(1e-9), kind)
    assert (steps > 0).all()
    ks = (16, 32, 64)
    errors = [float(jnp.linalg.norm(refined_states(gpt, tokens, jnp.asarray(k), kind) - limit)) for k in ks]
    assert abs(fitted_order(ks, errors).order - 1) < 0.05


def test_the_adaptive_flow_is_that_of_many_runge_kutta_steps(gpt, tokens):
    def layer(X, block):
        velocity = lambda X: jax.vmap(lambda X: block.attention_increment(X) + block.mlp_increment(X))(X)

        def step(_, X, h=1 / 64):
            a = velocity(X)
            b = velocity(X + h / 2 * a)
            c = velocity(X + h / 2 * b)
            return X + h / 6 * (a + 2 * b + 2 * c + velocity(X + h * c))

        return jax.lax.fori_loop(0, 64, step, X), None

    slow = jax.jit(lambda tokens: jax.lax.scan(layer, jax.vmap(gpt.embed)(tokens), gpt.blocks)[0])(tokens)
    np.testing.assert_allclose(flow_states(gpt, tokens, jnp.asarray(1e-9))[0], slow, rtol=1e-6, atol=1e-7)


def test_flow_distance_reports_its_own_family(gpt, small_batch):
    found = flow_distance(gpt, *small_batch, substeps=(1, 4, 16))
    assert found.kind == "lie_trotter"
    assert found.reference_error < 1e-3 * found.distance
    np.testing.assert_allclose(found.losses[1], mean_loss(gpt, *small_batch), rtol=1e-12)
    assert found.constant == 16 * found.errors[16]
    assert abs(found.losses[16] - found.losses[float("inf")]) < abs(found.losses[1] - found.losses[float("inf")])


def test_groups_of_one_are_the_gpt_and_a_group_is_the_sum_of_its_fields(gpt, tokens):
    np.testing.assert_allclose(logits(GroupedGPT(gpt, ((0,), (1,), (2,))), tokens), logits(gpt, tokens), rtol=1e-11)
    X, half, full = eqx.filter_jit(GroupedGPT(gpt, ((0,), (1, 2))).hidden_states)(tokens[0])[2:]
    parts = jax.jit(
        lambda X, half: [(gpt.block(l).attention_increment(X), gpt.block(l).mlp_increment(half)) for l in (1, 2)]
    )
    (a, m), (b, n) = parts(X, half)
    np.testing.assert_allclose(half, X + a + b, rtol=1e-11)
    np.testing.assert_allclose(full, half + m + n, rtol=1e-11)


@pytest.mark.slow
def test_dynamic_programming_finds_the_best_of_all_partitions(small_gpt, tokens):
    gpt = small_gpt(scale=0.2, n_layer=5)
    X = layer_states(gpt, tokens)
    found = local_error_groups(gpt, 3, X, largest=5)

    every = range(gpt.config.n_layer)
    attention = jax.jit(lambda X: jnp.stack([jax.vmap(gpt.block(l).attention_increment)(X) for l in every]))
    mlp = jax.jit(lambda X: jnp.stack([jax.vmap(gpt.block(l).mlp_increment)(X) for l in every]))

    def error(a, b):
        half = X[a] + attention(X[a])[a:b].sum(0)
        full = half + mlp(half)[a:b].sum(0)
        return float(((full - X[b]) ** 2).sum(-1).mean()) if b > a + 1 else 0.0

    each = {(a, b): error(a, b) for a, b in combinations(range(6), 2)}
    cost = lambda cuts: sum(each[pair] for pair in pairwise(cuts))
    best = min(((0, *c, 5) for c in combinations(range(1, 5), 2)), key=cost)
    assert found == tuple(tuple(range(a, b)) for a, b in pairwise(best))
    with pytest.raises(sx.ConfigurationError, match="cannot hold"):
        local_error_groups(gpt, 2, X, largest=2)


def test_identity_insertion_changes_nothing_and_lie_trotter_is_the_refinement(gpt, tokens):
    deeper = resample(gpt, 5)
    assert (deeper.method, deeper.layers, deeper.network.config.n_layer) == ("identity", 5, 5)
    np.testing.assert_allclose(logits(deeper, tokens), logits(gpt, tokens), rtol=1e-12)
    twice = resample(gpt, 6, method="lie_trotter").network
    refined = refined_states(gpt, tokens, jnp.asarray(2))
    np.testing.assert_allclose(jax.jit(jax.vmap(twice.hidden_states))(tokens)[:, -1], refined, rtol=1e-11)


@pytest.mark.parametrize("method", SHALLOWER)
def test_every_method_names_itself_and_makes_a_network_of_the_depth_asked_for(method, gpt, tokens):
    made = resample(gpt, 2, tokens, method)
    assert (made.method, made.layers) == (method, 2)
    assert np.isfinite(mean_loss(made, tokens))
    if method == "field_average":
        assert made.n_parameters == gpt.n_parameters
    else:
        assert made.network.config.n_layer == 2
        assert made.n_parameters < gpt.n_parameters
    if method == "best_subset":
        losses = {kept: mean_loss(take(gpt, kept), tokens) for kept in ((0, 1), (0, 2), (1, 2))}
        assert tuple(g[0] for g in made.groups) == min(losses, key=losses.get)


def test_refitting_a_network_to_itself_changes_nothing(gpt, tokens):
    from steerax.depth.change.resample import refit

    same = refit(gpt, [0, 1, 2], tokens)
    np.testing.assert_allclose(logits(same, tokens), logits(gpt, tokens), rtol=1e-8)


def test_interpolation_to_the_same_grid_and_halved_copies(gpt):
    from steerax.depth.change.resample import interpolated

    for a, b in zip(jax.tree.leaves(interpolated(gpt.blocks, 3)), jax.tree.leaves(gpt.blocks), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    halves = resample(gpt, 6, method="duplicate").network
    np.testing.assert_allclose(halves.blocks.down.weight[::2] * 2, gpt.blocks.down.weight, rtol=1e-14)
    np.testing.assert_array_equal(halves.blocks.up.weight[1::2], gpt.blocks.up.weight)
    assert even_groups(7, 3) == ((0, 1, 2), (3, 4), (5, 6))


def test_the_rest_of_a_network_starts_anywhere(gpt, tokens):
    states = layer_states(gpt, tokens)
    for l in range(4):
        np.testing.assert_allclose(run_from(gpt, states[l], l), states[-1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda gpt, t: resample(gpt, 0), "layers is 0"),
        (lambda gpt, t: resample(gpt, 3), "already has 3"),
        (lambda gpt, t: resample(gpt, 2, method="identity"), "no method 'identity'"),
        (lambda gpt, t: resample(gpt, 4, method="even"), f"one of {DEEPER[0]}"),
        (lambda gpt, t: resample(gpt, 2, method="greedy"), "pass data"),
        (lambda gpt, t: resample(gpt, 4, method="lie_trotter"), "no multiple"),
        (lambda gpt, t: GroupedGPT(gpt, ((0, 1),)), "do not cover"),
    ],
)
def test_rejects_depths_and_methods_that_cannot_be(call, match, gpt, tokens):
    with pytest.raises(sx.ConfigurationError, match=match):
        call(gpt, tokens)
