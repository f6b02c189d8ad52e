"""Learning models of numbers: expected counts by enumeration, the objective, hmmlearn, recovery, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import NAMES, Enumerated, random_emission, with_gaps

import steerax as sx
from steerax.inference.densities.kernels.em import em_step
from steerax.inference.hmm.kernels.em import Pseudocounts
from steerax.models.emissions.base import Prior

E, D, T = sx.emissions, 2, 5
KINDS = {
    "full": "gaussian",
    "diagonal": "gaussian-diagonal",
    "tied": "gaussian-tied",
    "spherical": "gaussian-spherical",
    "student": "student-t",
    "poisson": "poisson",
    "negative": "negative-binomial",
    "categorical": E.Product.kind((E.Categorical.kind(), 1)),
    "mixture": E.Mixture.kind(2, E.StudentT.kind()),
    "product": E.Product.kind((E.Categorical.kind(), 1), (E.Poisson.kind(), 2), (E.Gaussian.kind(), 2)),
}


@pytest.mark.parametrize("sizes", [(8, 1), (1, 2), (0, 0)])
def test_one_iteration_is_the_m_step_of_counts_over_all_paths(sizes):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        mu, A = rng.dirichlet(np.ones(D)), rng.dirichlet(np.ones(D), D)
        emission, density = random_emission("full", rng, D)
        lengths = np.array([T, 2])
        z = np.full((T, 2, 2), np.nan)
        for b, n in enumerate(lengths):
            z[:n, b] = with_gaps(rng, np.array(emission.sample(jax.random.key(b), jnp.arange(n) % D)))
        prior = Prior.of(z.reshape(-1, 2), D, 1.0, 0.0, np.float64)
        pseudo = Pseudocounts(0.5, 0.25, 0.0)
        arrays = jnp.asarray(mu), jnp.asarray(A), emission
        found = em_step(*arrays, jnp.asarray(z), jnp.asarray(lengths), pseudo, prior, *sizes)
        first, pairs, total, weights = np.zeros(D), np.zeros((D, D)), 0.0, np.zeros((T, 2, D))
        for b, n in enumerate(lengths):
            exact = Enumerated(mu, A, np.array([[density(x, row) for x in range(D)] for row in z[:n, b]]))
            weights[:n, b] = [exact.state(t, n) for t in range(n)]
            first, pairs, total = first + weights[0, b], pairs + exact.pairs(), total + exact.log_mass(n)
        np.testing.assert_allclose(found.counts.log_likelihood, float(total), rtol=1e-12)
        new_mu, new_A, new_emission = found.arrays
        np.testing.assert_allclose(new_mu, (first + 0.5) / (first + 0.5).sum(), rtol=1e-11)
        rows = np.asarray(pairs + 0.25, float)
        np.testing.assert_allclose(new_A, rows / rows.sum(1, keepdims=True), rtol=1e-11)
        statistics = emission.statistics(jnp.asarray(weights.reshape(-1, D)), jnp.asarray(z.reshape(-1, 2)))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10),
            new_emission,
            emission.maximised(statistics, prior),
        )


def sampled(name, seed=0, number=3, length=150):
    emission, _ = random_emission(name, np.random.default_rng(seed), D, 3.0)
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], emission)
    _, z = sx.sample(model, seed, length, number=number)
    return model, list(with_gaps(np.random.default_rng(seed), np.asarray(z), 0.05))


FEW = ("diagonal", "poisson")  # the others take longer to compile


@pytest.mark.slow
@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_fit_rises_and_explains_the_data_as_well_as_the_model_they_are_from(name):
    model, data = sampled(name)
    fit = sx.fit(
        sx.HMM(D, emission=KINDS[name]), data, restarts=6 if name == "student" else 2, max_iterations=60, progress=False
    )
    assert np.diff(fit.objective).min() > -1e-8 * abs(fit.objective[0])
    np.testing.assert_allclose(
        fit.log_likelihood, sx.filter(fit.model, sx.Sequences.from_arrays(data)).log_likelihood.sum()
    )
    true = sx.filter(model, sx.Sequences.from_arrays(data)).log_likelihood.sum()
    assert fit.log_likelihood > true - 10
    assert fit.n_parameters == (D - 1) + D * (D - 1) + fit.model.emission.n_parameters
    assert type(fit.model.emission) is type(model.emission)


@pytest.mark.slow
def test_maximum_likelihood_agrees_with_hmmlearn():
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    _, data = sampled("full", 4)
    data = [np.nan_to_num(z) for z in data]
    for covariance, structure in (("full", "full"), ("diag", "diagonal"), ("tied", "tied")):
        peer = hmmlearn.GaussianHMM(
            D, covariance, n_iter=5, tol=0, covars_prior=0, covars_weight=0, means_weight=0, min_covar=0, init_params=""
        )
        S = np.array([[[2.0, 0], [0, 1]], [[1, 0], [0, 3]]])
        S = S if structure != "tied" else np.repeat(S[:1], 2, 0)
        start = sx.HiddenMarkovModel([0.5, 0.5], [[0.8, 0.2], [0.3, 0.7]], E.Gaussian([[0.0, 0], [1, 1]], S, structure))
        peer.startprob_, peer.transmat_ = np.asarray(start.initial), np.asarray(start.transition)
        peer.means_ = np.asarray(start.emission.mean)
        peer.covars_ = {"full": S, "diag": np.diagonal(S, axis1=1, axis2=2), "tied": S[0]}[covariance]
        stacked, lengths = np.concatenate(data), [len(z) for z in data]
        np.testing.assert_allclose(
            sx.filter(start, sx.Sequences.from_arrays(data)).log_likelihood.sum(),
            peer.score(stacked, lengths),
            rtol=1e-12,
        )
        peer.fit(stacked, lengths)
        fit = sx.fit(start, data, shrinkage=0.0, max_iterations=5, tolerance=0.0, progress=False)
        np.testing.assert_allclose(fit.log_likelihoods[:5], peer.monitor_.history, rtol=1e-10)
        np.testing.assert_allclose(fit.model.emission.mean, peer.means_, rtol=1e-6)
        posterior = peer.predict_proba(stacked, lengths)
        np.testing.assert_allclose(
            np.concatenate(sx.smooth(fit.model, sx.Sequences.from_arrays(data)).smoothed), posterior, atol=1e-6
        )


@pytest.mark.slow
def test_a_covariance_does_not_collapse_on_one_observation():
    z = np.r_[np.random.default_rng(0).normal(size=30), [50.0]]
    fit = sx.fit(sx.HMM(3, emission="gaussian"), z, restarts=4, progress=False)
    assert float(fit.model.emission.covariance.min()) > 1e-3
    assert np.isfinite(fit.log_likelihood)
    exact = np.repeat(1.0, 20)  # data without any variance
    assert np.isfinite(sx.fit(sx.HMM(2, emission="gaussian"), exact, progress=False).log_likelihood)


@pytest.mark.slow
def test_regimes_of_equal_level_are_told_by_their_spread():
    model = sx.HiddenMarkovModel(
        [0.5, 0.5], [[0.99, 0.01], [0.02, 0.98]], E.Gaussian([[0.0], [0.0]], [[[1.0]], [[9.0]]])
    )
    states, z = sx.sample(model, 1, 1500)
    fit = sx.fit(sx.HMM(2, emission="gaussian"), np.asarray(z), progress=False)
    variances = np.sort(np.asarray(fit.model.emission.covariance).ravel())
    np.testing.assert_allclose(variances, [1, 9], rtol=0.25)
    wild = int(np.argmax(np.asarray(fit.model.emission.covariance).ravel()))
    assert (np.asarray(sx.most_likely_states(fit.model, np.asarray(z)) == wild) == (states == 1)).mean() > 0.9


@pytest.mark.slow
def test_selection_finds_the_number_of_states():
    _, data = sampled("full", 2, 4, 200)
    best = sx.select(
        [sx.HMM(n, emission="gaussian") for n in (1, 2, 3)], data, restarts=2, max_iterations=40, progress=False
    )
    assert best.best.kind.n_states == 2


def test_one_state_too_many_is_said():
    z = np.random.default_rng(0).normal(size=200)
    fit = sx.fit(sx.HMM(2, emission="gaussian"), z, restarts=1, progress=False)
    assert fit.result == sx.RESULTS.no_better_than_one


@pytest.mark.slow
def test_a_stopped_fit_goes_on_to_the_same_model(tmp_path):
    _, data = sampled("student")
    options = {"restarts": 2, "screening": 5, "max_iterations": 20, "tolerance": 0.0, "progress": False}
    kind = sx.HMM(D, emission="student-t")
    whole = sx.fit(kind, data, **options)
    stop = lambda n, value, model: "stop" if n == 3 else None
    sx.fit(kind, data, **options, run_folder=tmp_path / "run", on_iteration=stop)
    again = sx.fit(kind, data, **options, run_folder=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(again.log_likelihoods, whole.log_likelihoods)
    with pytest.raises(sx.CheckpointError):
        sx.fit(kind, data, **options, shrinkage=2.0, run_folder=tmp_path / "run", resume=True)


@pytest.mark.slow
def test_single_precision_learns_too():
    _, data = sampled("full")
    start = sx.HiddenMarkovModel(
        np.array([0.5, 0.5], np.float32),
        np.array([[0.9, 0.1], [0.1, 0.9]], np.float32),
        E.Gaussian(np.array([[0, 0], [1, 1]], np.float32), np.stack([np.eye(2, dtype=np.float32)] * 2)),
    )
    fit = sx.fit(start, data, max_iterations=20, progress=False)
    assert fit.model.emission.mean.dtype == np.float32
    wide = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], E.Gaussian([[0.0, 0], [1, 1]], [np.eye(2)] * 2))
    other = sx.fit(wide, data, max_iterations=20, progress=False)
    np.testing.assert_allclose(fit.log_likelihood, other.log_likelihood, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.HMM(2, emission="normal"), "emission='normal'"),
        (lambda: sx.HMM(2, emission=E.Gaussian), "a kind such as"),
        (lambda: sx.fit(sx.HMM(2, emission="gaussian"), np.array([np.nan, np.nan])), "hold none"),
        (
            lambda: sx.fit(sx.HMM(2, emission="gaussian"), sx.Sequences.from_arrays([np.array([0, 1])])),
            "tokens|series|observations",
        ),
        (lambda: sx.fit(sx.HMM(2, emission="poisson"), [0.5, 1.0]), "not among whole numbers"),
        (lambda: sx.fit(sx.HMM(2, emission=KINDS["product"]), np.zeros((5, 2))), "5 channels, the data 2"),
        (lambda: sx.fit(sx.HMM(2, emission="gaussian"), [0.0, 1.0], shrinkage=-1.0), "shrinkage"),
        (lambda: sx.fit(sx.HMM(2, emission="gaussian"), [0.0, 1.0], restarts=0), "restarts"),
        (lambda: sx.fit(sx.HMM(2), [0.5, 1.0]), "token"),
        (lambda: sx.fit(sx.HMM(2), [0, 1], shrinkage=1.0), "no option 'shrinkage'"),
    ],
)
def test_rejects_what_cannot_be_fitted(call, words):
    with pytest.raises(sx.SteeraxError, match=words):
        call()


def fitted(kind, z, **options):
    return sx.fit(kind, z, **{"restarts": 2, "max_iterations": 5, "progress": False} | options)


@pytest.mark.parametrize("emission", ["poisson", "negative-binomial", E.Mixture.kind(2, E.Poisson.kind())], ids=str)
@pytest.mark.parametrize("wrong", [-1.0, -7.0, 0.5])
def test_an_observation_that_no_parameters_have_is_named(emission, wrong):
    """Even where all are so, and the parameters of the start would be at fault."""
    for z in (np.full((6, 1), wrong), np.array([[1.0], [wrong], [2.0]])):
        with pytest.raises(
            sx.DataError, match=rf"observation {wrong:g} in channel 0 at position \d of sequence 0 is not"
        ):
            fitted(sx.HMM(2, emission=emission), z)
    product = E.Product.kind((E.Gaussian.kind(), 1), (E.Poisson.kind(), 1))
    with pytest.raises(sx.DataError, match="in channel 1 at position 0 of sequence 1"):
        fitted(sx.HMM(2, emission=product), [np.ones((2, 2)), np.array([[-1.0, wrong]])])


@pytest.mark.parametrize("emission", ["gaussian", "student-t", "poisson", "autoregressive"])
def test_a_channel_of_which_nothing_is_observed_is_named(emission):
    z = np.stack([np.arange(20.0), np.full(20, np.nan)], axis=1)
    with pytest.raises(sx.DataError, match="Nothing is observed of channel 1"):
        fitted(sx.HMM(2, emission=emission), z)
    named = sx.Sequences.from_arrays([z], columns=["load", "calls"])
    with pytest.raises(sx.DataError, match="'calls'"):
        fitted(sx.HMM(2, emission=emission), named)


@pytest.mark.slow
@pytest.mark.parametrize("z", [np.ones((30, 1)), np.repeat([[0.0], [1.5]], 10, axis=0)], ids=["constant", "two values"])
def test_a_likelihood_without_a_maximum_is_a_breakdown_not_an_impossible_observation(z):
    found = fitted(sx.HMM(2, emission="gaussian"), z, shrinkage=0.0, max_iterations=60)
    assert bool(found.result == sx.RESULTS.breakdown)
    assert np.isfinite(found.log_likelihoods).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.model.parameters))


def test_truth_values_and_numbers_with_none_are_numbers_to_every_verb():
    gaussian = E.Gaussian([[0.0], [1.0]], [[[1.0]], [[1.0]]])
    chain = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], gaussian)
    linear = sx.LinearGaussianModel([0.3], [[1.0]], [[0.8]], [[1.0]], [[0.3]], [[1.0]])
    for given, numbers in (
        (np.array([[True], [False], [True]]), [[1.0], [0.0], [1.0]]),
        (np.array([[1.5], [None], [2]], dtype=object), [[1.5], [np.nan], [2.0]]),
    ):
        for model in (chain, linear):
            wanted = sx.filter(model, np.array(numbers)).log_likelihood
            np.testing.assert_array_equal(sx.filter(model, given).log_likelihood, wanted)
            np.testing.assert_allclose(sx.score(model, given).log_likelihoods.sum(), wanted, rtol=1e-12)
    for model in (chain, linear):
        with pytest.raises(sx.DataError):
            sx.filter(model, np.array([[1.5], ["a"], [2]], dtype=object))


@pytest.mark.parametrize(
    "build",
    [
        lambda: E.Mixture.kind(2, "gaussian"),
        lambda: E.Mixture.kind(0, E.Gaussian.kind()),
        lambda: E.Mixture.kind(2, E.Gaussian),
        lambda: E.Product.kind(),
        lambda: E.Product.kind(E.Gaussian.kind()),
        lambda: E.Product.kind(("gaussian", 2)),
        lambda: E.Product.kind((E.Gaussian.kind(), 0)),
        lambda: E.Product.kind((E.Gaussian.kind(), 1.5)),
    ],
)
def test_what_is_no_kind_is_refused(build):
    with pytest.raises(sx.ConfigurationError):
        build()


def test_a_number_too_large_for_single_precision_is_named():
    with jax.enable_x64(False):
        emission = E.Gaussian(np.zeros((1, 1), np.float32), np.ones((1, 1, 1), np.float32))
        single = sx.HiddenMarkovModel(np.ones(1, np.float32), np.ones((1, 1), np.float32), emission)
        one = np.ones((1, 1), np.float32)
        linear = sx.LinearGaussianModel(one[0], one, one / 2, one, one, one)
        for model in (single, linear):
            with pytest.raises(sx.DataError, match="at position 1 is infinite, or too large for float32"):
                sx.filter(model, np.array([[0.0], [1e300]]))
