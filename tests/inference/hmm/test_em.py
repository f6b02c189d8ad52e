"""Expected counts against sums over all paths; Baum-Welch as an ascent."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.inference.hmm.kernels import counts, em
from steerax.inference.hmm.kernels.likelihoods import row_numbers
from steerax.models import random_order_k


def counts_of(mu, A, C, parts, block=8, per_chunk=2):
    data = sx.Sequences.from_arrays(parts)
    rows = row_numbers(jnp.asarray(data.values.T))
    return counts.expected_counts(
        jnp.asarray(mu), jnp.asarray(A) if isinstance(A, np.ndarray) else A, jnp.asarray(C), rows,
        jnp.asarray(data.lengths), block, per_chunk,
    )  # fmt: skip


def test_expected_counts_are_sums_over_all_paths():
    rng = np.random.default_rng(0)
    mu, A, C = oracles.sparse_hmm(rng, 3, 4, 0.2)
    parts = [oracles.draw(rng, mu, A, C, T) for T in (6, 1, 5, 0)]
    parts[0][[0, 3]] = -1
    initial, transition, emission, log_likelihood = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 4)), 0.0
    for part in parts[:3]:
        law, _, _ = oracles.smoother_by_enumeration(mu, A, C, part)
        initial += law[0]
        for t, token in enumerate(part):
            if token >= 0:
                emission[:, token] += law[t]
        transition += oracles_pairs(mu, A, C, part)
        log_likelihood += oracles.filter_by_enumeration(mu, A, C, part)[1]
    for block, per_chunk in ((8, 1), (1, 2), (2, 2)):
        found = counts_of(mu, A, C, parts, block, per_chunk)
        np.testing.assert_allclose(found.initial, initial, atol=1e-13)
        np.testing.assert_allclose(found.transition, transition, atol=1e-13)
        np.testing.assert_allclose(found.emission, emission, atol=1e-13)
        np.testing.assert_allclose(found.log_likelihood, log_likelihood, atol=1e-12)


def oracles_pairs(mu, A, C, z):
    """Expected transitions among X_0 … X_{T-1}: the counts of all T transitions less the last, unobserved one."""
    law, pairs, _ = oracles.smoother_by_enumeration(mu, A, C, z)
    return pairs - law[len(z) - 1][:, None] * A


def test_chunks_of_time_give_the_same_counts_as_one_chunk():
    hmm = sx.models.random_hmm(jax.random.key(1), 5, 200)  # so many tokens that counts are summed by segments
    parts = [np.asarray(hmm.sample(jax.random.key(i), T)[1]) for i, T in enumerate((50, 33))]
    one, many = counts_of(*hmm.arrays, parts, 8, 7), counts_of(*hmm.arrays, parts, 4, 3)
    for a, b in zip(one, many, strict=True):
        if a.ndim:
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(one.emission.sum(), 83)
    np.testing.assert_allclose(one.transition.sum(), 81)


def test_order_k_counts_are_those_of_the_dense_form():
    hmm = random_order_k(jax.random.key(2), 2, 3, 2)
    parts = [np.asarray(hmm.sample(jax.random.key(3), 20)[1])]
    found = counts_of(*hmm.arrays, parts)
    dense = counts_of(hmm.initial, hmm.transition.dense(), hmm.emission, parts)
    np.testing.assert_allclose(found.emission, dense.emission, atol=1e-13)
    tuples = np.asarray(dense.transition).reshape(2, 2, 2, 2)  # (i, b) → (b', j) with b' = b
    np.testing.assert_allclose(found.transition, np.einsum("abbc->abc", tuples), atol=1e-13)


DATA = sx.sample_sequences(sx.models.casino(), jax.random.key(4), 30, 40)


def test_the_objective_never_decreases_and_the_likelihood_is_that_of_the_model():
    data = sx.Sequences(np.where(np.arange(40) % 11 == 5, -1, DATA.values), DATA.lengths)
    for pseudocounts in (0.0, 0.5):
        fit = sx.fit(sx.HMM(2), data, jax.random.key(5), max_iterations=60, tolerance=0.0, pseudocounts=pseudocounts)
        assert (np.diff(fit.objective) >= -1e-10).all()
        assert len(fit.log_likelihoods) == 61
        total = sx.filter(fit.model, data).log_likelihood.sum()
        np.testing.assert_allclose(fit.log_likelihoods[-1], total, rtol=1e-12)
    assert fit.model.emission.min() > 1e-4  # the prior keeps every token possible


@pytest.mark.slow
def test_a_fixed_point_is_stationary_for_the_likelihood():
    fit = sx.fit(sx.HMM(2), DATA, jax.random.key(5), max_iterations=800, tolerance=1e-12, pseudocounts=1.0)
    assert fit.result == sx.RESULTS.successful

    def objective(logits):
        mu, A, C = (jax.nn.softmax(x) for x in logits)
        log_prior = sum(jnp.log(p).sum() for p in (mu, A, C))
        return sx.filter(sx.HiddenMarkovModel(mu, A, C), DATA).log_likelihood.sum() + log_prior

    slope = jax.grad(objective)(tuple(map(jnp.log, fit.model.arrays)))
    assert max(float(jnp.abs(g).max()) for g in slope) < 1e-2


def test_restarts_are_compared_and_the_best_goes_on():
    fit = sx.fit(sx.HMM(2), DATA, jax.random.key(6), restarts=3, max_iterations=30, screening=5)
    assert len(fit.restarts) == 3
    assert fit.log_likelihoods[5] == pytest.approx(fit.restarts.max(), abs=1e-12)
    alone = sx.fit(fit.model, DATA, jax.random.key(6), max_iterations=0)
    np.testing.assert_allclose(alone.log_likelihoods[0], fit.log_likelihoods[-1])
    assert fit.log_likelihoods[-1] > fit.restarts.max()


def test_a_state_without_counts_keeps_its_row_and_is_named():
    start = sx.HiddenMarkovModel([1.0, 0], [[1.0, 0], [0.5, 0.5]], np.array([[0.2, 0.2, 0.2, 0.2, 0.1, 0.1]] * 2))
    fit = sx.fit(start, DATA, jax.random.key(7), max_iterations=3, tolerance=0.0)
    assert fit.degenerate[0] == (1, 1)
    np.testing.assert_array_equal(fit.model.emission[1], start.emission[1])
    assert sx.fit(start, DATA, jax.random.key(7)).result == sx.RESULTS.degenerate_state


def test_a_caller_sees_every_iteration_and_can_stop():
    seen = []
    fit = sx.fit(
        sx.HMM(2),
        DATA,
        jax.random.key(8),
        restarts=1,
        on_iteration=lambda n, value, model: seen.append(value) or ("stop" if n == 3 else None),
    )
    assert len(seen) == 4 == len(fit.log_likelihoods)
    assert fit.result == sx.RESULTS.max_steps_reached


def differences(a, b):
    return [x for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True) if not np.array_equal(x, y)]


@pytest.mark.parametrize(("restarts", "stops"), [(1, (0, 7)), (3, (2, 4, 9, 14))])
def test_a_fit_that_was_stopped_ends_like_one_that_was_not(tmp_path, restarts, stops):
    """Starts stop during and after screening; a state without counts is remembered across stops."""
    options = {"restarts": restarts, "screening": 5, "max_iterations": 20, "tolerance": 0.0}
    kind = sx.HMM(2, order=restarts % 2 + 1)
    whole = sx.fit(kind, DATA, jax.random.key(9), **options)
    for at in stops:
        stop = lambda n, value, model, at=at: "stop" if n == at else None
        part = sx.fit(
            kind,
            DATA,
            jax.random.key(9),
            run_folder=tmp_path / "run",
            resume=at != stops[0],
            on_iteration=stop,
            **options,
        )
        assert part.result == sx.RESULTS.max_steps_reached
        assert len(part.log_likelihoods) <= at + 1
    resumed = sx.fit(kind, DATA, jax.random.key(9), run_folder=tmp_path / "run", resume=True, **options)
    assert len(resumed.log_likelihoods) == 21
    assert not differences(whole, resumed)


def test_a_finished_fit_is_read_back_and_may_be_given_more_iterations(tmp_path):
    fit = lambda n, **more: sx.fit(
        sx.HMM(2), DATA, 9, restarts=1, max_iterations=n, tolerance=1e-4, run_folder=tmp_path / "run", **more
    )
    fit(3)
    longer, whole = (
        fit(200, resume=True),
        sx.fit(sx.HMM(2), DATA, 9, restarts=1, max_iterations=200, tolerance=1e-4),
    )
    assert longer.result in (sx.RESULTS.successful, sx.RESULTS.no_better_than_one)  # an end of its own
    assert not differences(longer, whole)
    seen = []
    again = fit(200, resume=True, on_iteration=lambda *what: seen.append(what))
    assert not seen
    assert not differences(again, whole)


def test_a_run_folder_is_not_mixed_with_another_fit(tmp_path):
    fit = lambda seed, data=DATA, **more: sx.fit(
        sx.HMM(2), data, jax.random.key(seed), max_iterations=1, run_folder=tmp_path / "run", **more
    )
    fit(9)
    with pytest.raises(sx.CheckpointError, match="already holds a run"):
        fit(9)
    with pytest.raises(sx.CheckpointError, match="differs in starts"):
        fit(10, resume=True)
    with pytest.raises(sx.CheckpointError, match="differs in data"):
        fit(9, DATA.select(range(5)), resume=True)


def test_a_second_fit_of_the_same_shapes_compiles_nothing():
    sx.fit(sx.HMM(2), DATA, jax.random.key(9), max_iterations=2)
    before = em.em_step._cache_size()
    sx.fit(sx.HMM(2), DATA, jax.random.key(10), max_iterations=2)
    assert em.em_step._cache_size() == before


def test_an_order_two_fit_beats_order_one_on_order_two_data():
    tensor = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.1, 0.9], [0.9, 0.1]]])  # mostly the exclusive or of the last two
    process = sx.models.order_k(tensor, np.array([[0.95, 0.05], [0.05, 0.95]]))
    data = sx.sample_sequences(process, jax.random.key(11), 30, 40)
    one = sx.fit(sx.HMM(2), data, jax.random.key(12), restarts=3, max_iterations=60)
    two = sx.fit(sx.HMM(2, order=2), data, jax.random.key(12), restarts=3, max_iterations=60)
    assert (np.diff(two.log_likelihoods) >= -1e-10).all()
    assert two.log_likelihoods[-1] > one.log_likelihoods[-1] + 10
    np.testing.assert_allclose(two.model.emission[:2], two.model.emission[2:])


def test_fit_hmm_rejects_data_and_options_that_cannot_work():
    key = jax.random.key(0)
    with pytest.raises(sx.DataError, match="hold none"):
        sx.fit(sx.HMM(2), sx.Sequences.from_arrays([np.array([-1, -1])]), key)
    with pytest.raises(sx.DataError, match="hold none"):
        sx.fit(sx.HMM(2), sx.Sequences.from_arrays([np.zeros(3)]), key)
    with pytest.raises(sx.ConfigurationError):
        sx.fit(sx.HMM(0), DATA, key)
    with pytest.raises(sx.ConfigurationError, match="pseudocount initial is -1"):
        sx.fit(sx.HMM(2), DATA, key, pseudocounts=-1.0)
    with pytest.raises(sx.ImpossibleTokenError):
        sx.fit(sx.HiddenMarkovModel([1.0], [[1.0]], [[1.0, 0, 0, 0, 0, 0]]), DATA, key)


LEFT_RIGHT = sx.HiddenMarkovModel(
    [1.0, 0, 0], [[0.9, 0.1, 0], [0, 0.9, 0.1], [0, 0, 1]], [[0.68, 0.23, 0.09], [0.23, 0.68, 0.09], [0.2, 0, 0.8]]
)


@pytest.mark.parametrize("pseudocounts", [0.0, 1e-9, 0.1, 3.0, em.Pseudocounts(0.0, 2.0, 0.5)])
def test_zeros_of_a_start_stay_zeros_and_pseudocounts_move_the_rest(pseudocounts):
    data = sx.Sequences.from_arrays([np.asarray(LEFT_RIGHT.sample(k, 25)[1]) for k in range(20)])
    fit = sx.fit(LEFT_RIGHT, data, pseudocounts=pseudocounts, max_iterations=400)
    assert fit.result == sx.RESULTS.successful
    assert len(fit.objective) > 3
    assert np.diff(fit.objective).min() > -1e-9
    for found, start in zip(fit.model.arrays, LEFT_RIGHT.arrays, strict=True):
        assert (np.asarray(found)[np.asarray(start) == 0] == 0).all()
        assert not np.allclose(found, start) or found.shape == (3,)


def test_pseudocounts_give_the_largest_posterior():
    # nothing near the fit has a larger log-likelihood plus log-prior; the prior counts each free entry
    counts_given = em.Pseudocounts(0.3, 2.0, 0.7)
    data = sx.Sequences.from_arrays([np.asarray(LEFT_RIGHT.sample(k, 25)[1]) for k in range(20)])
    fit = sx.fit(LEFT_RIGHT, data, pseudocounts=counts_given, max_iterations=2000, tolerance=1e-13)

    def posterior(arrays):
        value = float(np.sum(sx.filter(sx.HiddenMarkovModel(*arrays), data).log_likelihood))
        return value + sum(c * np.log(a[a > 0]).sum() for c, a in zip(counts_given, arrays, strict=True))

    best = [np.asarray(a) for a in fit.model.arrays]
    rng = np.random.default_rng(0)
    for _ in range(10):
        near = [a * np.exp(1e-3 * rng.normal(size=a.shape)) for a in best]
        near = [a / a.sum(-1, keepdims=True) for a in near]
        assert posterior(near) < posterior(best)


@pytest.mark.slow
def test_a_list_of_arrays_is_several_sequences_and_a_nested_list_of_numbers_is_one():
    assert sx.fit(sx.HMM(1), [np.array([0, 1, 1]), np.array([1, 0])]).n_observed == 5
    assert sx.fit(sx.HMM(1), [0, 1, 1]).n_observed == 3
    series = [[float(t), float(t % 3)] for t in range(12)]  # [T p], as filter reads it
    assert sx.fit(sx.LinearGaussian(1), series, max_iterations=1).model.n_channels == 2
    for several in (
        [[0, 1], [1, 0, 1]],
        [[0, 1], [1, 0]],
    ):  # tokens have one number per position, so lists of them are several
        assert sx.fit(sx.HMM(1), several).n_observed == sum(map(len, several))


def test_a_perfect_fit_is_no_breakdown():
    # log-likelihoods near 0, where rounding is larger than any share of the value
    for seed in range(6):
        for tokens in ([0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1]):
            fit = sx.fit(sx.HMM(3), [np.array(tokens)], seed, max_iterations=300)
            assert fit.result != sx.RESULTS.breakdown
            assert len(fit.log_likelihoods) > 1


def test_regimes_are_found_and_their_absence_is_said():
    bases = np.array([[0.4, 0.1, 0.1, 0.4], [0.15, 0.35, 0.35, 0.15]])  # two kinds of DNA, each a hundred letters long
    truth = sx.HiddenMarkovModel([0.5, 0.5], [[0.99, 0.01], [0.01, 0.99]], bases)
    tokens = np.asarray(truth.sample(3, 4000)[1])
    for seed in range(4):
        fit = sx.fit(sx.HMM(2), tokens, seed)
        assert fit.log_likelihood > float(sx.filter(truth, tokens).log_likelihood) - 1
    independent = np.random.default_rng(0).integers(0, 4, 2000)
    fit = sx.fit(sx.HMM(2), independent, 0)
    assert fit.result == sx.RESULTS.no_better_than_one
    assert "no better than a single state" in fit.summary()
    assert sx.fit(sx.HMM(1), independent, 0).result == sx.RESULTS.successful
