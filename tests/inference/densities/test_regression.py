"""Regressions on known inputs in each state: every verb against all paths, statsmodels, SciPy and least squares."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import Enumerated, matrices
from scipy import stats

import steerax as sx
from steerax.models.emissions.base import Prior

E, D, T, Q = sx.emissions, 2, 6, 2


def random_case(seed, p=2, length=T, gaps=False):
    """A model of `p` channels and two inputs, and rows of both."""
    rng = np.random.default_rng(seed)
    emission = E.Regression(rng.normal(size=(D, p)), rng.normal(size=(D, p, Q)), matrices(rng, D, p))
    model = sx.HiddenMarkovModel(rng.dirichlet(np.ones(D)), rng.dirichlet(np.ones(D), D), emission)
    z = np.array(sx.sample(model, seed, length, inputs=rng.normal(size=(length, Q)))[1])
    if gaps:
        z[1, 0], z[3, :p] = np.nan, np.nan
    return model, z


def log_densities(emission, z):
    """`[T d]` by SciPy, missing channels left out."""
    p = emission.n_channels
    found = np.zeros((len(z), D))
    for t, row in enumerate(z):
        o = np.isfinite(row[:p])
        for x in range(D if o.any() else 0):
            mean = np.asarray(emission.intercept[x]) + np.asarray(emission.coefficients[x]) @ row[p:]
            S: Any = np.asarray(emission.covariance[x])[np.ix_(o, o)]
            found[t, x] = stats.multivariate_normal.logpdf(row[:p][o], mean[o], S)
    return found


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), tolerance, tolerance)


@pytest.mark.parametrize("gaps", [False, True])
def test_every_verb_agrees_with_all_paths(gaps):
    model, z = random_case(0, gaps=gaps)
    exact = Enumerated(model.initial, model.transition, log_densities(model.emission, z))
    f = sx.filter(model, z)
    assert_close(f.log_likelihood, exact.log_mass(T))
    assert_close(f.predicted, [exact.state(t, t) for t in range(T + 1)])
    assert_close(sx.smooth(model, z).smoothed, [exact.state(t, T) for t in range(T)])
    path = np.asarray(sx.most_likely_states(model, z))
    on = (exact.paths[:, :T] == path).all(1)
    assert_close(np.logaddexp.reduce(exact.prefix[on, T]), exact.log_best(), 1e-9)
    assert_close(sx.dual_filter(model, z).predicted, f.predicted, 1e-8)
    told = sx.explain(model, z, "all", "state", method="control")
    assert_close(told.prior + told.weights.sum(1), f.predicted)
    scores = sx.score(model, sx.Sequences.from_arrays([z, z[:4]]))
    assert_close(scores.log_likelihoods[0].sum(), f.log_likelihood)
    assert scores.scored.sum() == (8 if gaps else 10)
    state = sx.start(model)
    for t, row in enumerate(z):
        expected = f.next(t)
        state, said = sx.step(model, state, row)
        assert_close(said.log_likelihood, f.log_likelihoods[t], 1e-9)
        assert_close(said.p_value, expected.p_value(jnp.asarray(row[:2])), 1e-9)
        assert np.isnan(said.next.mean).all()  # its inputs are not known yet
        if t + 1 < T:
            assert_close(said.next.for_inputs(z[t + 1, 2:]).mean, f.next(t + 1).mean, 1e-9)


def test_likelihoods_and_a_fit_are_those_of_statsmodels():
    pytest.importorskip("statsmodels")
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    own = E.Regression([[0.0], [1.0]], [[[1.0, -1.0]], [[-1.0, 0.5]]], [[[0.3]], [[0.8]]])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], own)
    u = np.random.default_rng(0).normal(size=(250, Q))
    z = np.asarray(sx.sample(model, 1, 250, inputs=u)[1])
    peer = MarkovRegression(z[:, 0], 2, exog=u, switching_variance=True)

    def of_peer(model):
        A, e = np.asarray(model.transition), model.emission
        values = {"p[0->0]": A[0, 0], "p[1->0]": A[1, 0]}
        for x in range(2):
            values |= {f"const[{x}]": e.intercept[x, 0], f"sigma2[{x}]": e.covariance[x, 0, 0]}
            values |= {f"x{q + 1}[{x}]": e.coefficients[x, 0, q] for q in range(Q)}
        return np.array([float(values[name]) for name in peer.param_names])

    steady = model.started("stationary")  # as is where statsmodels starts
    found, mine = peer.smooth(of_peer(steady)), sx.filter(steady, z)
    np.testing.assert_allclose(mine.log_likelihood, found.llf, rtol=1e-8)
    np.testing.assert_allclose(mine.filtered, found.filtered_marginal_probabilities, atol=1e-8)
    kind = sx.HMM(2, emission=E.Regression.kind(inputs=Q))
    fit = sx.fit(kind, z, restarts=2, shrinkage=0.0, tolerance=1e-10, progress=False)
    assert np.diff(fit.objective).min() > -1e-8 * abs(fit.objective[0])
    assert fit.n_parameters == 1 + 2 + 2 + 4 + 2
    best: Any = peer.fit(of_peer(fit.model), disp=False)
    order = np.argsort(-np.asarray(fit.model.emission.coefficients[:, 0, 0]))
    # the start of the chain is free in one and stationary in the other: 1 / 250 of what is known
    np.testing.assert_allclose(best.params, of_peer(fit.model), atol=0.02)
    assert_close(fit.model.emission.permuted(order).coefficients, own.coefficients, 0.2)


@pytest.mark.parametrize("structure", ["full", "diagonal", "tied", "spherical"])
def test_one_m_step_is_weighted_least_squares(structure):
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(60, 4)), rng.dirichlet(np.ones(D), 60)
    start = E.Regression(np.zeros((D, 2)), np.zeros((D, 2, Q)), [np.eye(2)] * D, structure)
    none = Prior.of(rows, D, 0.0, 0.0, np.float64, Q)
    new = start.maximised(start.statistics(jnp.asarray(weights), jnp.asarray(rows)), none)
    u = np.c_[np.ones(60), rows[:, 2:]]
    for x in range(D):
        root = np.sqrt(weights[:, x])[:, None]
        found = np.linalg.lstsq(root * u, root * rows[:, :2], rcond=None)[0]
        assert_close(new.intercept[x], found[0], 1e-9)
        assert_close(new.coefficients[x], found[1:].T, 1e-9)
        if structure == "full":
            e = root * (rows[:, :2] - u @ found)
            assert_close(new.covariance[x], e.T @ e / weights[:, x].sum(), 1e-9)


def test_iterations_with_gaps_never_lower_the_objective():
    model, z = random_case(3, length=80)
    z[:, :2] = np.where(np.random.default_rng(0).random((80, 2)) < 0.3, np.nan, z[:, :2])
    fit = sx.fit(model, z, max_iterations=30, tolerance=0.0, progress=False)
    assert np.diff(fit.objective).min() > -1e-9 * abs(fit.objective[0])
    assert fit.n_observed == np.isfinite(z[:, :2]).any(1).sum()
    prior = Prior.of(z, D, 1.0, 0.0, np.float64, Q)
    weights = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(D), 80))
    value = jax.jit(lambda e: (weights * e.log_densities(jnp.asarray(z))).sum() + e.log_prior(prior))
    step = jax.jit(lambda e: e.maximised(e.statistics(weights, jnp.asarray(z)), prior))
    best, rng = model.emission, np.random.default_rng(2)
    for _ in range(300):
        best = step(best)
    for _ in range(10):
        near = best.with_free(jax.tree.map(lambda a: a + 1e-3 * rng.normal(size=a.shape), best.free))
        assert value(near) <= value(best) + 1e-9


def test_forecasts_are_mixtures_for_the_inputs_to_come():
    model, z = random_case(1)
    u, own = np.random.default_rng(5).normal(size=(3, Q)), model.emission
    ahead = sx.forecast(model, z, 3, inputs=u)
    w, A = np.asarray(sx.filter(model, z).predicted[-1]), np.asarray(model.transition)
    for step in range(3):
        means = np.asarray(own.intercept) + np.asarray(own.coefficients) @ u[step]
        assert_close(ahead.mean[step], w @ np.linalg.matrix_power(A, step) @ means)
    several = sx.forecast(model, sx.Sequences.from_arrays([z, z[:4]]), 3, inputs=np.stack([u, 2 * u]))
    assert_close(several.mean[1], sx.forecast(model, z[:4], 3, inputs=2 * u).mean)
    assert ahead.interval(0.9).shape == (3, 2, 2)


def test_slopes_of_opposite_signs_are_found_and_saved(tmp_path):
    own = E.Regression([[0.0], [0.0]], [[[2.0]], [[-2.0]]], [[[0.3]], [[0.3]]])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], own)
    u = np.random.default_rng(0).normal(size=(300, 1))
    z = np.asarray(sx.sample(model, 0, 300, inputs=u)[1])
    fit = sx.fit(sx.HMM(2, emission="regression"), z, restarts=2, progress=False)
    assert_close(np.sort(fit.model.emission.coefficients.ravel()), [-2, 2], 0.1)
    sx.save(fit.model, tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, sx.load(tmp_path / "model"), fit.model)
    wrong = sx.HiddenMarkovModel(
        [0.5, 0.5], model.transition, E.Regression([[1.0], [0.0]], own.coefficients, own.covariance)
    )
    true = sx.filter(model, z).log_likelihood
    assert sx.filter(wrong, z).log_likelihood < true - 20
    batches = [sx.Sequences.from_arrays([part]) for part in np.split(z, 3)] * 3
    online = sx.fit_online(wrong, batches).model
    moved = sx.fit_by_gradient(wrong, z, 60, progress=False).model
    for learned in (online, moved):
        assert sx.filter(learned, z).log_likelihood > sx.filter(wrong, z).log_likelihood + 10


MODEL, Z = random_case(0)
NAMED = sx.HiddenMarkovModel(*MODEL.parameters, channels=["a", "b", "price", "holiday"])
KIND = sx.HMM(2, emission=E.Regression.kind(inputs=2))


def without(t, c):
    z = Z.copy()
    z[t, c] = np.nan
    return z


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.filter(NAMED, without(3, 2)), "'price' is missing at position 3"),
        (lambda: sx.filter(MODEL, sx.Sequences.from_arrays([Z, without(2, -1)])), "position 2 of sequence 1"),
        (lambda: sx.fit(KIND, without(3, 2), progress=False), "missing at position 3"),
        (lambda: sx.fit(KIND, Z[:, :2], progress=False), "at least one observed channel"),
        (lambda: sx.filter(MODEL, Z[:, :2]), "the last 2 of them known inputs"),
        (lambda: sx.forecast(NAMED, Z, 3), r"price, holiday.*inputs=\[3 2\]"),
        (lambda: sx.forecast(MODEL, Z, 3, inputs=np.ones((2, 2))), r"inputs=\[3 2\] is needed"),
        (lambda: sx.forecast(MODEL, Z, 1, inputs=[[0.0, np.nan]]), "not finite"),
        (lambda: sx.sample(MODEL, 0, 5), r"inputs=\[5 2\]"),
        (lambda: MODEL.emission.sample(0, jnp.zeros(2, int)), "sample_given"),
        (lambda: sx.explain(MODEL, Z), "depends on the inputs"),
        (lambda: sx.step(MODEL, sx.start(MODEL), without(0, 3)[0]), "is missing"),
        (lambda: sx.align_states(MODEL, MODEL), "depends on the inputs"),
        (lambda: E.Regression.kind(inputs=0), "inputs"),
        (lambda: E.Mixture.kind(2, E.Regression.kind()), "cannot read"),
        (lambda: E.Product([MODEL.emission]), "cannot read"),
        (lambda: E.Regression([[0.0]], np.zeros((2, 1, 1)), np.ones((1, 1, 1))), "q inputs"),
        (lambda: MODEL.emission.means, "means_given"),
        (lambda: sx.filter(MODEL, Z).next(0).for_inputs([1.0]), "2 numbers are needed"),
    ],
)
def test_rejects_what_it_cannot_read(call, words):
    with pytest.raises(sx.SteeraxError, match=words):
        call()
