"""Shapley values of games whose values are known, exact and sampled."""

import attribution_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import steerax as sx
from steerax.inference.shapley import shapley

COSTS = np.array([1.0, 2.0, 2.0, 5.0])  # the airport game: a runway costs what its longest plane needs


def airport(costs, masks):
    return jnp.max(jnp.where(masks, costs, 0), axis=1)[:, None, None]


def table(values, masks):
    """Any game on five players at the positions 0, 2, 3, 5, 6 of seven, from its 32 values."""
    return values[masks[:, jnp.array([0, 2, 3, 5, 6])] @ (1 << jnp.arange(5))][:, None, None]


def test_the_airport_game_has_the_values_of_littlechild_and_owen():
    terms, errors = shapley(Partial(airport, jnp.asarray(COSTS)), np.arange(4), 4, None, 0)
    np.testing.assert_allclose(terms[0, :, 0], [1 / 4, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3 + 3], atol=1e-15)
    assert errors is None


def test_exact_values_are_the_formula_and_who_does_not_play_has_none():
    values, players = np.random.default_rng(0).normal(size=32), np.array([0, 2, 3, 5, 6])
    game = Partial(table, jnp.asarray(values))
    terms = np.asarray(shapley(game, players, 7, None, 0)[0])[0, :, 0]
    wanted = oracles.shapley(lambda S: values[sum(1 << i for i in S)], 5)
    np.testing.assert_allclose(terms[players], wanted.astype(float), atol=1e-14)
    np.testing.assert_array_equal(terms[[1, 4]], 0)
    np.testing.assert_allclose(terms.sum(), values[31] - values[0], atol=1e-14)


def test_sampled_values_add_up_exactly_and_their_standard_errors_are_true():
    values, players = np.random.default_rng(1).normal(size=32), np.array([0, 2, 3, 5, 6])
    game = Partial(table, jnp.asarray(values))
    exact = np.asarray(shapley(game, players, 7, None, 0)[0])[0, players, 0]
    found = [shapley(game, players, 7, 40, key) for key in range(200)]
    terms = np.stack([np.asarray(t)[0, players, 0] for t, _ in found])
    errors = np.stack([np.asarray(e)[0, players, 0] for _, e in found])
    np.testing.assert_allclose(terms.sum(1), values[31] - values[0], atol=1e-13)
    spread = terms.std(0)
    np.testing.assert_allclose(
        np.sqrt((errors**2).mean(0)), spread, rtol=0.15
    )  # 200 draws: 5 % of a standard deviation
    assert (np.abs(terms.mean(0) - exact) < 4 * spread / np.sqrt(200)).all()
    np.testing.assert_array_equal(found[3][0], shapley(game, players, 7, 40, 3)[0])


def test_an_order_and_its_reverse_are_exact_for_games_of_pairs():
    """What two players make together is halved by any order and its reverse."""
    rng = np.random.default_rng(2)
    pairs, own = np.triu(rng.normal(size=(5, 5)), 1), rng.normal(size=5)
    members = (np.arange(32)[:, None] >> np.arange(5)) & 1
    values = members @ own + np.einsum("ni,ij,nj->n", members, pairs, members)
    terms, errors = shapley(Partial(table, jnp.asarray(values)), np.array([0, 2, 3, 5, 6]), 7, 4, 0)
    wanted = own + (pairs.sum(0) + pairs.sum(1)) / 2
    np.testing.assert_allclose(np.asarray(terms)[0, [0, 2, 3, 5, 6], 0], wanted, atol=1e-14)
    np.testing.assert_allclose(errors, 0, atol=1e-14)


@pytest.mark.slow
def test_orders_are_drawn_inside_jit_as_outside():
    series = np.array([1.0, np.nan, 2.0, 0.3])
    model = sx.LinearGaussianModel([0.3], [[1.0]], [[0.8]], [[1.0]], [[0.3]], np.eye(1))
    hmm, z = sx.models.random_hmm(jax.random.key(1), 3, 3), np.array([0, 1, 2, 1])
    for m, data in ((model, series), (hmm, z)):
        terms = lambda d, m=m: sx.explain(m, d, method="shapley", orders=6, key=2).weights
        players = np.flatnonzero(~np.isnan(data)) if data.dtype == float else np.arange(4)
        traced = jax.jit(terms)(jnp.asarray(data))
        np.testing.assert_allclose(traced.sum(1), terms(data).sum(1), atol=1e-12)
        if len(players) == 4:  # inside jit a gap is not known, and counts as a player that adds nothing
            np.testing.assert_allclose(traced, terms(data), atol=1e-12)


@pytest.mark.slow
def test_a_long_string_is_sampled_and_agrees_with_the_exact_values_of_its_end():
    hmm = sx.models.random_hmm(jax.random.key(1), 3, 3)
    z = np.array(sx.sample(hmm, 2, 30)[1])
    z[:18] = -1
    exact, sampled = sx.explain(hmm, z, method="shapley"), sx.explain(hmm, z, method="shapley", orders=200, key=1)
    assert exact.errors is None
    gap, error = np.abs(exact.weights - sampled.weights)[0, 18:], np.asarray(sampled.errors)[0, 18:]
    assert (gap < 5 * error + 1e-12).all()
    np.testing.assert_allclose(sampled.remainder, 0, atol=1e-14)
    full = sx.explain(hmm, np.asarray(sx.sample(hmm, 2, 30)[1]), method="shapley")
    assert full.errors is not None
