"""Models whose steps read lags: their formulas in loops, sampling, files, and what they refuse."""

import itertools

import conditional_oracles as oracles
import jax
import numpy as np
import pytest

import steerax as sx

CASES = [(3, 2, 4, True, 0), (2, 3, 1, False, 0), (3, 3, 2, True, 2), (2, 2, 5, False, 3)]


@pytest.mark.parametrize(("d", "V", "m", "attention", "lags"), CASES)
def test_kernels_and_emissions_are_the_mixture_over_the_lags_that_are_there(d, V, m, attention, lags):
    rng = np.random.default_rng(m)
    for zeros in (0.0, 0.4):
        model = oracles.lagged(rng, d, V, m, attention, lags, zeros)
        z = rng.integers(-1, V, 9).astype(np.int32)
        z[:2] = -1  # no lag is there
        K, C = oracles.steps_by_hand(model, z)
        np.testing.assert_allclose(model.kernels(z), np.array(K, float), rtol=1e-14, atol=1e-16)
        np.testing.assert_allclose(model.emissions(z), np.array(C, float), rtol=1e-14, atol=1e-16)
        for t in range(9):
            np.testing.assert_allclose(model.kernel_at(z, t), model.kernels(z)[t], atol=1e-15)
            np.testing.assert_allclose(model.emission_at(z, t), model.emissions(z)[t], atol=1e-15)
        seen = [1 if v < 0 else c[:, v] for v, c in zip(z, C, strict=False)]
        np.testing.assert_allclose(model.emitted(z), np.array([np.ones(d) * s for s in seen], float), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "V", "m", "attention", "lags"), CASES)
def test_what_was_not_seen_is_the_sum_over_the_other_tokens(d, V, m, attention, lags):
    rng = np.random.default_rng(m)
    model = oracles.lagged(rng, d, V, m, attention, lags)
    z = rng.integers(-1, V, 7).astype(np.int32)
    expected = np.zeros((7, d, d))
    for t, other in itertools.product(range(7), range(V)):
        if z[t] >= 0 and other != z[t]:
            K, C = oracles.steps_by_hand(model, np.where(np.arange(7) == t, other, z))
            expected[t] += np.asarray(C[t][:, other, None] * K[t], float)
    np.testing.assert_allclose(model.unseen(z), expected, atol=1e-15)
    # and so says the general rule, which any model has
    np.testing.assert_allclose(sx.AbstractConditionalHMM.unseen(model, jax.numpy.asarray(z)), expected, atol=1e-15)


@pytest.mark.slow
def test_weights_of_zero_and_scores_without_bound_are_no_trouble():
    rng = np.random.default_rng(0)
    parts = [rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(2), (3, 2, 2)), rng.dirichlet(np.ones(2), 2)]
    model = sx.LaggedHMM(*parts, [0.0, 0.5, 0.5], [[900.0, 900.0], [800.0, -800.0], [0.0, 0.0]])
    z = np.array([0, 0, 1, 0])
    np.testing.assert_allclose(model.lag_weights(z), [[0, 0.5, 0.5], [0, 1, 0], [0, 1, 0], [0, 0, 1]], atol=1e-300)
    slope = jax.grad(lambda w: jax.numpy.sum(sx.LaggedHMM(*parts, w, model.attention).kernels(z)[:, 0, 0]))(
        model.weights
    )
    assert np.isfinite(slope).all()


def test_the_attention_map_holds_the_weights_of_the_lags_where_a_transformer_has_its_attention():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 3, 3)
    z = rng.integers(0, 3, 8).astype(np.int32)
    weights, attention = np.asarray(model.lag_weights(z)), np.asarray(model.attention_map(z))
    assert attention.shape == (8, 8)
    for t, s in itertools.product(range(8), repeat=2):
        assert attention[t, s] == (weights[t, t - s] if 0 <= t - s < 3 else 0)
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-14)


def test_samples_have_the_probabilities_of_the_model():
    rng = np.random.default_rng(1)
    model = oracles.lagged(rng, 2, 2, 3, True, 2)
    states, tokens = (np.asarray(a) for a in sx.sample(model, 0, 4, 40_000))
    assert states.shape == tokens.shape == (40_000, 4)
    counts = np.bincount(tokens @ [8, 4, 2, 1], minlength=16)
    for n, z in enumerate(itertools.product(range(2), repeat=4)):
        K, C = oracles.steps_by_hand(model, z)
        p = float(np.exp(oracles.by_paths(np.asarray(model.initial), K, C, z)[2]))
        assert abs(counts[n] - 40_000 * p) < 5 * np.sqrt(40_000 * p * (1 - p)) + 1


def test_a_model_comes_back_from_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for n, model in enumerate([oracles.lagged(rng, 2, 3, 2), oracles.lagged(rng, 2, 2, 3, False, 2)]):
        sx.save(model, tmp_path / str(n))
        back = sx.load(tmp_path / str(n))
        assert jax.tree.structure(back) == jax.tree.structure(model)
        for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
            np.testing.assert_array_equal(one, other)
    named = sx.LaggedHMM([1.0], np.ones((1, 2, 1, 1)), [[0.5, 0.5]], [1.0], vocabulary=sx.Vocabulary(("a", "b")))
    sx.save(named, tmp_path / "named")
    assert sx.load(tmp_path / "named").vocabulary == named.vocabulary


def test_the_plain_chain_gives_its_transition_as_every_kernel():
    hmm = sx.models.mess3()
    np.testing.assert_array_equal(hmm.kernels(np.array([0, 1])), np.stack([hmm.dense_transition] * 2))


def test_lagged_hmm_rejects_arrays_that_do_not_fit():
    one = np.ones((1, 2, 1, 1))
    with pytest.raises(sx.DataError, match="`attention` has shape"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [1.0], np.zeros((2, 2)))
    with pytest.raises(sx.DataError, match="`weights` has shape"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [0.5, 0.5])
    with pytest.raises(sx.DataError, match="sums to"):
        sx.LaggedHMM([1.0], one / 2, [[0.5, 0.5]], [1.0])
    with pytest.raises(sx.DataError, match="4 axes"):
        sx.LaggedHMM([1.0], np.ones((1, 1)), [[0.5, 0.5]], [1.0])
    with pytest.raises(sx.DataError, match="not finite"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [1.0], np.full((1, 2), np.inf))
    with pytest.raises(sx.DataError, match="vocabulary has 1"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [1.0], vocabulary=sx.Vocabulary(("a",)))
    with pytest.raises(sx.ConfigurationError, match="belong to an emission"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [1.0], emission_weights=[1.0])
    with pytest.raises(sx.ConfigurationError, match="reads='words'"):
        sx.LaggedHMM([1.0], one, [[0.5, 0.5]], [1.0], reads="words")
