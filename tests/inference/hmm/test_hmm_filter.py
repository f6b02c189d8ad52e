"""The forward filter against sums over all paths, and at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.inference.hmm import filter as room
from steerax.inference.hmm.kernels.recursions import filter_checked, filter_possible


@pytest.mark.parametrize(("zeros", "missing"), [(0.0, False), (0.4, True)])
def test_filter_is_the_sum_over_all_paths(zeros, missing):
    rng = np.random.default_rng(1)
    mu, A, C = oracles.sparse_hmm(rng, 3, 4, zeros)
    z = oracles.draw(rng, mu, A, C, 7)
    if missing:
        z[[0, 3, 4]] = -1
    states, log_likelihood = oracles.filter_by_enumeration(mu, A, C, z)
    r = sx.filter(sx.HiddenMarkovModel(mu, A, C), z)
    np.testing.assert_allclose(r.predicted, states, atol=1e-14)
    np.testing.assert_allclose(r.log_likelihood, log_likelihood, atol=1e-12)
    np.testing.assert_allclose(r.next_all(), states @ C, atol=1e-14)
    np.testing.assert_allclose(r.log_likelihoods.sum(), log_likelihood, atol=1e-12)


def test_a_batch_of_unequal_lengths_is_each_sequence_alone():
    rng = np.random.default_rng(2)
    mu, A, C = oracles.sparse_hmm(rng, 3, 4, 0.3)
    hmm = sx.HiddenMarkovModel(mu, A, C)
    parts = [oracles.draw(rng, mu, A, C, T) for T in (7, 0, 5, 7)]
    parts[2][1] = -1
    r = sx.filter(hmm, sx.Sequences.from_arrays(parts))
    for i, part in enumerate(parts):
        states, q = oracles.loop_filter(mu, A, C, part)
        np.testing.assert_allclose(r.predicted[i, : len(part) + 1], states, atol=1e-14)
        np.testing.assert_allclose(r.log_likelihood[i], np.log(q).sum(), atol=1e-12)


def test_the_recursion_for_possible_tokens_is_the_checked_one_and_says_where_it_is_not_valid():
    hmm = sx.models.random_hmm(jax.random.key(3), 5, 4)
    z = hmm.sample(jax.random.key(4), 43)[1].at[7].set(-1)
    states, log_q = filter_checked(*hmm.arrays, z)
    found, found_log_q = filter_possible(*hmm.arrays, z)
    np.testing.assert_allclose(found, states, rtol=1e-12)
    np.testing.assert_allclose(found_log_q, log_q, rtol=1e-12, atol=1e-13)
    mu, A, C = hmm.arrays
    assert filter_possible(mu, A, C.at[:, z[20]].set(0), z)[1].min() == -np.inf


@pytest.mark.parametrize("d", [3, 12])
def test_an_impossible_token_is_stepped_over_inside_jit_and_leaves_gradients_finite(d):
    hmm = sx.models.random_hmm(jax.random.key(3), d, 4)
    C = jnp.pad(hmm.emission, ((0, 0), (0, 1)))  # nobody emits token 4
    z = np.array([1, 0, 4, 2, 3, 4, 1])

    @jax.jit
    def last(C):
        found = sx.filter(sx.HiddenMarkovModel(hmm.initial, hmm.transition, C), z)
        return found.states[-1, 0], (found.tokens, found.log_likelihood)

    (value, (tokens, log_likelihood)), slope = jax.value_and_grad(last, has_aux=True)(C)
    eager = sx.filter(sx.HiddenMarkovModel(hmm.initial, hmm.transition, C), z, on_impossible="skip")
    missing = sx.filter(sx.HiddenMarkovModel(hmm.initial, hmm.transition, C), np.where(z == 4, -1, z))
    np.testing.assert_array_equal(tokens, np.where(z == 4, -1, z))
    np.testing.assert_array_equal(eager.tokens, tokens)
    assert log_likelihood == eager.log_likelihood == -np.inf
    np.testing.assert_allclose([value, eager.states[-1, 0]], missing.states[-1, 0], rtol=1e-12)
    assert jnp.isfinite(slope).all()
    assert jnp.abs(slope).max() > 0


def test_emissions_of_1e_minus_60_do_not_underflow():
    C = np.array([[1e-60, 1 - 1e-60], [2e-60, 1 - 2e-60]])
    hmm = sx.HiddenMarkovModel([0.3, 0.7], [[0.6, 0.4], [0.2, 0.8]], C)
    z = np.zeros(43, np.int32)
    states, q = oracles.loop_filter(np.array([0.3, 0.7]), np.asarray(hmm.transition), C, z)
    r = sx.filter(hmm, z)
    np.testing.assert_allclose(r.predicted, states, rtol=1e-12)
    np.testing.assert_allclose(r.log_likelihood, np.log(q).sum(), rtol=1e-14)


def test_an_impossible_token_is_named_or_stepped_over():
    hmm = sx.models.two_cycle()
    z = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    with pytest.raises(sx.ImpossibleTokenError, match="position 4 of sequence 0") as caught:
        sx.filter(hmm, z)
    assert (caught.value.position, caught.value.token) == (4, 1)
    with pytest.raises(sx.ImpossibleTokenError) as caught:
        sx.filter(hmm, sx.Sequences.from_arrays([z[:4], z]))
    assert (caught.value.sequence, caught.value.position) == (1, 4)
    r = sx.filter(hmm, z, on_impossible="skip")
    gap = np.where(np.arange(8) == 4, -1, z)
    np.testing.assert_allclose(r.predicted, sx.filter(hmm, gap).predicted, atol=1e-15)
    assert r.log_likelihood == -np.inf
    np.testing.assert_array_equal(r.tokens, gap)


@pytest.mark.slow
def test_the_filter_is_differentiable_and_its_gradient_is_the_difference_quotient():
    z = np.array([0, 1, 1, -1, 2, 0, 1, 1, 0, 0], np.int32)
    logits = jax.random.normal(jax.random.key(5), (3, 3))

    def log_likelihood(logits):
        return sx.filter(sx.HiddenMarkovModel(jnp.ones(3) / 3, jax.nn.softmax(logits), C), z).log_likelihood

    C = jax.nn.softmax(jax.random.normal(jax.random.key(6), (3, 3)))
    direction = jax.random.normal(jax.random.key(7), (3, 3))
    slope = jnp.vdot(jax.grad(log_likelihood)(logits), direction)
    h = 1e-5
    quotient = (log_likelihood(logits + h * direction) - log_likelihood(logits - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope, quotient, rtol=1e-8)


@pytest.mark.slow
def test_scores_of_a_data_set_and_their_standard_error():
    hmm = sx.models.casino()
    data = sx.sample_sequences(hmm, jax.random.key(8), 600, 20)  # three parts of at most 256
    scores = sx.score(hmm, data)
    r = sx.filter(hmm, data)
    np.testing.assert_allclose(scores.log_likelihoods.sum(1), r.log_likelihood, atol=1e-11)
    floor = sx.models.conditional_entropy(hmm, 20)
    assert abs(scores.cross_entropy - floor.mean) < 4 * np.hypot(scores.standard_error, floor.standard_error)
    spread = -scores.log_likelihoods.mean(1)
    np.testing.assert_allclose(scores.standard_error, spread.std(ddof=1) / np.sqrt(600), rtol=1e-10)
    P = r.next_all()
    picked = np.take_along_axis(P[:, :-1], data.values[:, :, None], 2)[..., 0]
    np.testing.assert_allclose(np.log(picked), scores.log_likelihoods, atol=1e-13)


def test_float32_models_stay_float32():
    hmm = sx.HiddenMarkovModel(*(np.asarray(a, np.float32) for a in sx.models.casino().arrays))
    r = sx.filter(hmm, np.array([0, 5, 5], np.int32))
    assert r.states.dtype == np.float32
    assert r.log_likelihood.dtype == np.float32


def test_forward_filter_rejects_what_is_not_a_sequence_of_tokens():
    hmm = sx.models.casino()
    with pytest.raises(sx.DataError, match="not a code"):
        sx.filter(hmm, np.array([0, 6]))
    with pytest.raises(sx.DataError, match="integer codes"):
        sx.filter(hmm, np.array([0.5]))
    for rows in (np.zeros((2, 3), int), jnp.zeros((2, 3), int)):  # several sequences
        assert sx.filter(hmm, rows).predicted.shape == (2, 4, hmm.n_states)
    with pytest.raises(sx.DataError):
        sx.filter(hmm, sx.Sequences.from_arrays([np.zeros(4)]))
    with pytest.raises(sx.ConfigurationError, match="on_impossible"):
        sx.filter(hmm, np.array([0]), on_impossible="ignore")


def test_a_change_of_length_within_a_block_does_not_change_the_likelihood():
    hmm = sx.models.mess3()
    z = hmm.sample(jax.random.key(9), 16)[1]
    together = sx.filter(hmm, z).log_likelihoods
    for T in (1, 7, 8, 9):
        np.testing.assert_allclose(sx.filter(hmm, z[:T]).log_likelihood, together[:T].sum(), atol=1e-13)
    assert room.as_codes(hmm, np.array([], int)).shape == (0,)
