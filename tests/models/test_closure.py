"""Lags of hidden states: the window closure against all paths of states of the mixture of lags itself."""

import itertools

import jax
import numpy as np
import pytest

import steerax as sx


def mixture_of_lags(rng, d, V, m, window, attention=False, zeros=0.0):
    def rows(*shape):
        p = rng.dirichlet(np.ones(shape[-1]), shape[:-1]) * (rng.random(shape) >= zeros)
        np.put_along_axis(p, rng.integers(shape[-1], size=(*shape[:-1], 1)), 0.5, -1)
        return p / p.sum(-1, keepdims=True)

    scores = rng.normal(size=(m, V)) if attention else None
    return sx.LaggedHMM(rows(d), rows(m, d, d), rows(d, V), rng.dirichlet(np.ones(m)), scores, "states", window)


def drawn(model, T, rng):
    """Tokens of the mixture of lags with constant weights; any tokens that its states emit for others."""
    A, C, lam = (np.asarray(a) for a in (model.transition, model.emission, model.weights))
    states, z = list(rng.choice(len(C), len(A), p=np.asarray(model.initial))), []
    for _ in range(T):
        z.append(rng.choice(C.shape[1], p=C[states[-1]]))
        states.append(rng.choice(len(C), p=sum(lam[j] * A[j, states[-1 - j]] for j in range(len(A)))))
    return np.array(z, np.int32)


def by_histories(model, z):
    """π_0 … π_T and the log-likelihood, over every path of states from time -m+1 on; a missing token is summed over."""
    mu, A, C = (np.asarray(a).astype(np.longdouble) for a in (model.initial, model.transition, model.emission))
    m, d, lam = len(A), len(mu), np.asarray(model.lag_weights(z))
    beliefs, total = [], np.longdouble(1)
    for T in range(len(z) + 1):
        law = np.zeros(d, np.longdouble)
        for path in itertools.product(range(d), repeat=m + T):
            p = np.prod(mu[list(path[:m])])
            for t in range(T):
                now = m - 1 + t
                p *= 1 if z[t] < 0 else C[path[now], z[t]]
                p *= sum(lam[t, j] * A[j, path[now - j], path[now + 1]] for j in range(m))
            law[path[-1]] += p
        total = law.sum()
        beliefs.append(law / total)
    return np.array(beliefs, float), float(np.log(total))


SLOW = pytest.mark.slow  # each compiles functions of its own shapes
OTHERS = [pytest.param(*shape, marks=SLOW) for shape in [(2, 2, True), (3, 2, False), (2, 3, True), (2, 1, False)]]


@pytest.mark.parametrize(("d", "m", "attention"), [(2, 3, False), *OTHERS])
def test_a_window_of_all_lags_but_one_is_exact(d, m, attention):
    rng = np.random.default_rng(10 * d + m)
    for zeros in (0.0, 0.4):
        model = mixture_of_lags(rng, d, 2, m, max(m - 1, 1), attention, zeros)
        z = drawn(model, 5, rng)
        if not attention:
            z[2] = -1
        beliefs, log_likelihood = by_histories(model, z)
        found = sx.filter(model, z)
        np.testing.assert_allclose(found.predicted, beliefs, atol=1e-13)
        np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(sx.dual_filter(model, z, 5).predicted, beliefs, atol=1e-12)
        e = sx.explain(model, z, "all", "state")
        np.testing.assert_allclose(e.prior + e.weights.sum(1), beliefs, atol=1e-12)


@SLOW
def test_a_smaller_window_is_near_better_with_more_and_allows_what_is_possible():
    rng = np.random.default_rng(0)
    apart = {1: [], 2: [], 3: []}
    for seed in range(6):
        exact = mixture_of_lags(rng, 2, 2, 4, 3, zeros=0.3 * (seed % 2))
        z = drawn(exact, 40, rng)
        truth = sx.filter(exact, z).next_all()
        for window, found in apart.items():
            closed = sx.LaggedHMM(*exact.arrays, reads="states", window=window)
            K = np.asarray(closed.kernels(z))
            np.testing.assert_allclose(K.sum(-1), 1, atol=1e-13)
            assert K.min() >= 0
            found.append(np.abs(sx.filter(closed, z).next_all() - truth).mean())
    assert np.mean(apart[3]) < 1e-13 < np.mean(apart[2]) < np.mean(apart[1]) < 0.01


@SLOW
def test_samples_of_lags_of_states_have_the_probabilities_of_the_model():
    model = mixture_of_lags(np.random.default_rng(1), 2, 2, 3, 2)
    tokens = np.asarray(sx.sample(model, 0, 3, 20_000)[1])
    counts = np.bincount(tokens @ [4, 2, 1], minlength=8)
    for n, z in enumerate(itertools.product(range(2), repeat=3)):
        p = np.exp(by_histories(model, np.array(z))[1])
        assert abs(counts[n] - 20_000 * p) < 5 * np.sqrt(20_000 * p) + 1


def test_kernels_do_not_read_the_newest_token_nor_those_to_come():
    rng = np.random.default_rng(0)
    model = mixture_of_lags(rng, 2, 3, 3, 1, attention=True)
    z = drawn(model, 8, rng)
    other = z.copy()
    other[4:] = (z[4:] + 1) % 3
    np.testing.assert_array_equal(model.kernels(z)[:5], model.kernels(other)[:5])
    assert np.abs(model.kernels(z)[5] - model.kernels(other)[5]).max() > 1e-6
    assert not model.reads_newest


@SLOW
def test_forecasts_are_exact_where_gaps_are_summed_over():
    rng = np.random.default_rng(1)
    model = mixture_of_lags(rng, 2, 2, 3, 2)
    z = drawn(model, 6, rng)
    ahead, base = sx.forecast(model, z, 3), sx.filter(model, z).log_likelihood
    assert ahead.method == "exact"
    for n in range(3):
        exact = np.zeros(2)
        for more in itertools.product(range(2), repeat=n + 1):
            exact[more[-1]] += np.exp(sx.filter(model, np.append(z, more)).log_likelihood - base)
        np.testing.assert_allclose(ahead.probabilities[n], exact, atol=1e-13)
    both = sx.forecast(model, sx.Sequences.from_arrays([z, z[:3]]), 3)
    np.testing.assert_allclose(both.probabilities[0], ahead.probabilities, atol=1e-13)
    np.testing.assert_allclose(both.probabilities[1], sx.forecast(model, z[:3], 3).probabilities, atol=1e-13)
    assert sx.forecast(mixture_of_lags(rng, 2, 2, 3, 1), z, 2, samples=64).method == "simulated"


def test_a_model_of_states_comes_back_from_a_folder_and_one_lag_is_the_chain(tmp_path):
    rng = np.random.default_rng(0)
    model = mixture_of_lags(rng, 2, 2, 3, 2)
    sx.save(model, tmp_path / "model")
    assert jax.tree.structure(sx.load(tmp_path / "model")) == jax.tree.structure(model)
    hmm = sx.models.random_hmm(0, 3, 2)
    one = sx.LaggedHMM(hmm.initial, hmm.transition[None], hmm.emission, [1.0], reads="states")
    z = np.array(sx.sample(hmm, 0, 9)[1])
    np.testing.assert_allclose(sx.filter(one, z).predicted, sx.filter(hmm, z).predicted, atol=1e-14)


def test_lags_of_states_reject_what_they_cannot_do():
    rng = np.random.default_rng(0)
    model = mixture_of_lags(rng, 2, 2, 3, 2)
    with pytest.raises(sx.ConfigurationError, match="no expected counts"):
        sx.fit(model, [[0, 1]], progress=False)
    with pytest.raises(sx.ConfigurationError, match="reads all of them"):
        sx.start(model)
    with pytest.raises(sx.ConfigurationError, match="window"):
        sx.LaggedHMM(*model.arrays, reads="states", window=0)
    with pytest.raises(sx.DataError, match="3 axes"):
        sx.LaggedHMM([1.0], np.ones((1, 2, 1, 1)), [[0.5, 0.5]], [1.0], reads="states")
