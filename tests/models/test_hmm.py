"""Hidden Markov models as processes: what they refuse, what they sample, what they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.models import OrderKTransition, order_k, random_order_k, sample_batch


@pytest.mark.parametrize(
    ("initial", "transition", "emission", "message"),
    [
        ([0.5, 0.6], np.eye(2), np.eye(2), "`initial` sums to 1.1"),
        ([0.5, 0.5], [[1.0, 0.0], [0.5, 0.4]], np.eye(2), r"Row \(1,\) of `transition` sums to 0.9"),
        ([0.5, 0.5], np.eye(2), [[1.5, -0.5], [0, 1]], "negative"),
        ([0.5, np.nan], np.eye(2), np.eye(2), "not finite"),
        ([0.5, 0.5], np.eye(3), np.eye(2), "do not fit together"),
        ([0.5, 0.5], np.eye(2), np.eye(3), "do not fit together"),
        ([[1.0]], np.eye(1), np.eye(1), "1 axes"),
        ([], np.zeros((0, 0)), np.zeros((0, 2)), "non-empty"),
    ],
)
def test_a_model_rejects_what_is_not_a_probability(initial, transition, emission, message):
    with pytest.raises(sx.DataError, match=message):
        sx.HiddenMarkovModel(initial, transition, emission)


def test_a_model_rejects_a_vocabulary_of_another_size():
    with pytest.raises(sx.DataError, match="vocabulary has 2 symbols"):
        sx.HiddenMarkovModel([1.0], [[1.0]], [[0.2, 0.3, 0.5]], sx.Vocabulary(("a", "b")))


def test_samples_have_the_frequencies_of_the_model_and_never_the_impossible():
    hmm = sx.HiddenMarkovModel([0.2, 0.0, 0.8], [[0.5, 0.5, 0], [0, 0.1, 0.9], [1, 0, 0]], [[1, 0], [0.3, 0.7], [0, 1]])
    N, T = 20_000, 4
    states, tokens = jax.vmap(lambda k: hmm.sample(k, T))(jax.random.split(jax.random.key(0), N))
    law = hmm.initial
    for t in range(T):
        expected = law[:, None] * hmm.emission
        seen = np.zeros((3, 2))
        np.add.at(seen, (states[:, t], tokens[:, t]), 1 / N)
        np.testing.assert_allclose(seen, expected, atol=5 * np.sqrt(0.25 / N))
        assert (seen[np.asarray(expected) == 0] == 0).all()
        law = law @ hmm.transition


def test_a_batch_of_samples_is_a_pure_function_of_its_key():
    hmm = sx.models.mess3()
    draw = jax.jit(lambda key: sample_batch(hmm, key, 5, 7))
    data = sx.sample_sequences(hmm, jax.random.key(1), 5, 7)
    np.testing.assert_array_equal(draw(jax.random.key(1)), data.values)
    assert (draw(jax.random.key(2)) != data.values).any()


def test_the_stationary_law_is_kept_also_by_a_periodic_chain():
    hmm = sx.models.two_cycle(6, 2)  # patterns of lengths 6 and 3: periodic
    law = hmm.stationary()
    np.testing.assert_allclose(law @ hmm.transition, law, atol=1e-15)
    np.testing.assert_allclose(hmm.started("stationary").initial, law)
    with pytest.raises(sx.DataError, match="more than one closed class"):
        sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), np.eye(2)).stationary()
    with pytest.raises(sx.ConfigurationError, match="Unknown initial"):
        hmm.started("warm")


def test_an_order_k_transition_multiplies_like_its_matrix():
    hmm = random_order_k(jax.random.key(2), 3, 2, 3)
    A = hmm.transition
    dense = A.dense()
    assert dense.shape == (27, 27)
    assert ((np.asarray(dense) > 0).sum(1) == 3).all()
    rng = np.random.default_rng(0)
    p, y = jnp.asarray(rng.random((2, 4, 27))), jnp.asarray(rng.random((27, 5)))
    np.testing.assert_allclose(p @ A, p @ dense, atol=1e-14)
    np.testing.assert_allclose(p[0, 0] @ A, p[0, 0] @ dense, atol=1e-14)
    np.testing.assert_allclose(A @ y, dense @ y, atol=1e-14)


def test_an_order_k_chain_moves_as_its_tensor_says():
    tensor = np.random.default_rng(1).dirichlet(np.ones(2), size=(2, 2))
    hmm = order_k(tensor, np.eye(2), initial=np.array([[0.0, 1.0], [0.0, 0.0]]))
    N = 20_000
    tuples, tokens = jax.vmap(lambda k: hmm.sample(k, 3))(jax.random.split(jax.random.key(3), N))
    np.testing.assert_array_equal(tokens, tuples % 2)  # the newest state is emitted
    assert (tuples[:, 0] == 1).all()
    frequency = np.zeros((2, 2))
    np.add.at(frequency, (tokens[:, 1], tokens[:, 2]), 1 / N)
    expected = tensor[0, 1][:, None] * tensor[1]
    np.testing.assert_allclose(frequency, expected, atol=5 * np.sqrt(0.25 / N))


@pytest.mark.parametrize(
    "make",
    [
        lambda: sx.models.two_cycle(8, 7),
        lambda: sx.models.two_cycle(p=1.0),
        lambda: sx.models.mess3(x=0.6),
        lambda: sx.models.left_right(n_tokens=1),
        lambda: sx.models.mixed_with_uniform(sx.models.casino(), transition=2.0),
        lambda: order_k(np.ones((2, 3)) / 3, np.eye(3)),
        lambda: order_k(np.ones((2, 2, 2)) / 2, np.eye(2), initial=np.ones(2) / 2),
    ],
)
def test_the_library_rejects_parameters_that_cannot_work(make):
    with pytest.raises(sx.SteeraxError):
        make()


def test_mixing_with_uniform_keeps_rows_and_reaches_uniform():
    hmm = sx.models.mixed_with_uniform(sx.models.two_cycle(), transition=1.0, emission=0.5)
    np.testing.assert_allclose(hmm.transition, 1 / 8)
    np.testing.assert_allclose(hmm.emission[0], [0.25, 0.75])


@pytest.mark.parametrize("hmm", [sx.models.casino(), random_order_k(jax.random.key(4), 2, 3, 2)])
def test_a_model_survives_being_saved(hmm, tmp_path):
    hmm = sx.HiddenMarkovModel(*hmm.arrays, sx.Vocabulary.of_codes(hmm.n_tokens))
    sx.save(hmm, tmp_path / "model")
    back = sx.load(tmp_path / "model")
    assert back.vocabulary == hmm.vocabulary
    assert isinstance(back.transition, OrderKTransition) == isinstance(hmm.transition, OrderKTransition)
    for a, b in zip(jax.tree.leaves(hmm), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)


def test_arrays_get_one_precision_and_entries_below_it_are_zero():
    mu, A, C = sx.models.casino().arrays
    mixed = sx.HiddenMarkovModel(np.asarray(mu, np.float32), np.asarray(A), np.asarray(C, np.float32))
    assert {a.dtype.name for a in mixed.arrays} == {"float64"}
    assert np.isfinite(sx.filter(mixed, np.array([0, 5])).log_likelihood)
    assert sx.HiddenMarkovModel([1, 0], np.eye(2), [[1, 1e-310], [0.5, 0.5]]).emission[0, 1] == 0


@pytest.mark.parametrize("small", [1e-3, 1e-12, 1e-20, 1e-100, 1e-300])
def test_the_stationary_distribution_has_all_digits(small):
    # birth and death: detailed balance gives it in closed form; a few transient states change nothing
    up, down = np.array([small, 0.3, small**0.5, 0.2]), np.array([0.4, small, 0.5, 0.1])
    A = np.zeros((7, 7))
    for k in range(4):
        A[k, k + 1], A[k + 1, k] = up[k], down[k]
    A[5, 0] = A[5, 6] = A[6, 5] = 0.5
    np.fill_diagonal(A, 1 - A.sum(1))
    log_pi = np.concatenate([[0.0], np.cumsum(np.log(up) - np.log(down))])
    pi = np.exp(log_pi - np.logaddexp.reduce(log_pi))
    found = np.asarray(sx.HiddenMarkovModel(np.full(7, 1 / 7), A, np.ones((7, 1))).stationary())
    np.testing.assert_allclose(found[:5], pi, rtol=1e-12, atol=1e-305)
    assert (found[5:] == 0).all()
