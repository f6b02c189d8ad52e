"""Explanations of operators: they add up, equal the backward pass, those of a chain, and do not depend on the basis."""

import jax.numpy as jnp
import numpy as np
import process_oracles as oracles
import pytest

import steerax as sx
from steerax.models import as_generalised


def example(name, length=12, gaps=(2, 7)):
    model = as_generalised(oracles.ALL[name]())
    z = oracles.drawn(model, length)
    z[list(gaps)] = -1
    return model, z


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(oracles.ALL))
def test_terms_add_up_to_every_prediction(name):
    model, z = example(name)
    found = sx.filter(model, z)
    scale = np.abs(found.predicted).max()
    F = np.random.default_rng(0).normal(size=(model.n_states, 2))
    for target, wanted in (
        ("next", found.next_all()),
        ("state", found.predicted),
        (F, np.asarray(found.predicted) @ F),
    ):
        e = sx.explain(model, z, "all", target, method="control")
        np.testing.assert_allclose(e.prior + e.weights.sum(1), wanted, atol=1e-11 * scale)
        np.testing.assert_allclose(e.norms, np.abs(e.weights).sum(-1), atol=1e-13 * scale)
        assert e.result == sx.RESULTS.successful
        for q in range(13):
            np.testing.assert_array_equal(e.weights[q, q:], 0)
        np.testing.assert_array_equal(np.asarray(e.weights)[:, [2, 7]], 0)


@pytest.mark.parametrize("name", oracles.cases(oracles.ALL))
def test_terms_are_those_of_the_backward_pass(name):
    model, z = example(name, 9)
    p0, T, w = oracles.operators_of(model)
    pi = oracles.by_products(model, z)[0]
    F = np.stack([M @ w for M in T], 1)
    every = sx.explain(model, z, "all", method="control")
    for q in (4, 9):
        prior, terms = oracles.plain_controls(p0, T, w, z[:q], pi, F)
        room = 1e-11 * max(1, np.abs(terms).max())
        for e, at in (
            (every, q),
            (sx.explain(model, z, q, method="control"), 0),
            (sx.explain(model, z, [q, 1], method="control"), 0),
        ):
            np.testing.assert_allclose(e.prior[at], prior, atol=room)
            np.testing.assert_allclose(e.weights[at, :q], terms, atol=room)
    one = sx.explain(model, z, -1, F[:, :1], method="control")  # one column by a backward pass, all by forward rows
    np.testing.assert_allclose(one.weights[0, :, 0], every.weights[-1, :, 0], atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["casino", "mess3", "two_cycle", "left_right"]))
def test_a_chain_and_its_operators_have_the_same_terms(name):
    hmm = oracles.CLASSICAL[name]()
    z = oracles.drawn(hmm, 14)
    z[3] = -1
    data = sx.Sequences.from_arrays([z, z[:6]])
    for tokens, queries in ((z, "all"), (z, -1), (z, [3, 9]), (data, "all"), (data, -1)):
        one, two = (sx.explain(m, tokens, queries, method="control") for m in (hmm, as_generalised(hmm)))
        np.testing.assert_array_equal(one.queries, two.queries)
        np.testing.assert_allclose(one.prior, two.prior, atol=1e-11)
        np.testing.assert_allclose(one.weights, two.weights, atol=1e-11)


@pytest.mark.parametrize(
    "name", oracles.cases(["even", "rrxor", "tom_quantum", "fanizza", "post_quantum", "random_quantum"])
)
def test_predictions_and_terms_do_not_depend_on_the_basis(name):
    model, z = example(name, 10, (3,))
    other, S = oracles.in_another_basis(model)
    one, two = sx.filter(model, z), sx.filter(other, z)
    np.testing.assert_allclose(two.next_all(), one.next_all(), atol=1e-9)
    np.testing.assert_allclose(two.log_likelihood, one.log_likelihood, atol=1e-8)
    np.testing.assert_allclose(two.predicted, np.asarray(one.predicted) @ S, atol=1e-8 * np.abs(two.predicted).max())
    one, two = (sx.explain(m, z, "all", method="control") for m in (model, other))
    np.testing.assert_allclose(two.prior, one.prior, atol=1e-8)
    np.testing.assert_allclose(two.weights, one.weights, atol=1e-8)
    ahead = [sx.forecast(m, z, 3).probabilities for m in (model, other)]
    np.testing.assert_allclose(*ahead, atol=1e-9)


@pytest.mark.slow
def test_a_batch_is_each_sequence_alone():
    model, z = example("tom_quantum")
    data = sx.Sequences.from_arrays([z, z[:8]])
    every, last = (sx.explain(model, data, queries, method="control") for queries in ("all", -1))
    for i, part in enumerate(data):
        alone = sx.explain(model, part, "all", method="control")
        n = len(part)
        np.testing.assert_allclose(every.weights[i, : n + 1, :n], alone.weights, atol=1e-13)
        np.testing.assert_allclose(last.weights[i, 0, :n], alone.weights[-1], atol=1e-13)


def test_options_of_explanations():
    model, z = example("tom_quantum")
    assert sx.explain(model, z, "all", dtype=jnp.float32).weights.dtype == jnp.float32
    with pytest.raises(sx.DataError, match="functions of 3 states are"):
        sx.explain(model, z, -1, np.ones((2, 2)))
    with pytest.raises(sx.ConfigurationError, match="target='past'"):
        sx.explain(model, z, -1, "past")
    with pytest.raises(sx.ConfigurationError, match="between"):
        sx.explain(model, z, 13)
    with pytest.raises(sx.ConfigurationError, match="several sequences"):
        sx.explain(model, sx.Sequences.from_arrays([z, z]), 3)
    even = sx.models.even().started([1.0, 0.0])
    with pytest.raises(sx.ImpossibleTokenError):
        sx.explain(even, [1, 0])
    e = sx.explain(even, np.array([1, 0, 1]), on_impossible="skip")
    np.testing.assert_array_equal(e.weights[0, 1], 0)
