"""Emissions of numbers: densities against SciPy, the M-step against perturbations, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emission_oracles import NAMES, matrices, random_emission, with_gaps

import steerax as sx
from steerax.models.emissions.base import Prior
from steerax.models.hmm import HiddenMarkovModel

E = sx.emissions


@pytest.mark.parametrize("name", NAMES)
def test_densities_are_those_of_scipy_also_where_channels_are_missing(name):
    rng = np.random.default_rng(1)
    emission, density = random_emission(name, rng, 3)
    z = np.asarray(emission.sample(jax.random.key(0), jnp.arange(60) % 3))
    z = with_gaps(rng, z)
    z[0] = np.nan
    exact = np.array([[density(x, row) for x in range(3)] for row in z])
    found = emission.log_likelihoods(jnp.asarray(z))
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found[0], 0, atol=1e-15)
    np.testing.assert_allclose(emission.log_likelihoods(jnp.asarray(z.reshape(6, 10, -1))).reshape(60, 3), found)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_moments_and_cumulative_probabilities_are_those_of_samples(name):
    emission, _ = random_emission(name, np.random.default_rng(2), 2)
    n = 40_000
    for x in range(2):
        z = np.asarray(emission.sample(jax.random.key(x), jnp.full(n, x)))
        at = np.quantile(z, 0.3, axis=0)
        below = (z <= at).mean(0)
        np.testing.assert_allclose(emission.cumulative(jnp.asarray(at))[x], below, atol=5 * 0.5 / np.sqrt(n))
        mean, S = np.asarray(emission.means[x]), np.asarray(emission.covariances[x])
        if name in ("student", "mixture"):
            continue  # without enough moments for a test; see the closed form below
        np.testing.assert_allclose(mean, z.mean(0), atol=5 * np.sqrt(np.diagonal(S).max() / n))
        np.testing.assert_allclose(S, np.cov(z.T).reshape(S.shape), rtol=0.2, atol=0.1 * np.abs(S).max())


def test_moments_of_student_and_mixtures_exist_where_they_exist():
    S = matrices(np.random.default_rng(0), 3, 2)
    t = E.StudentT(np.zeros((3, 2)), S, [0.5, 1.5, 4.0])
    assert np.isnan(t.means[0]).all()
    assert np.isfinite(t.means[1:]).all()
    assert np.isnan(t.covariances[0]).all()
    assert np.isinf(t.covariances[1]).all()
    np.testing.assert_allclose(t.covariances[2], 2 * S[2])
    two = E.Mixture([[0.25, 0.75]], E.Gaussian([[0.0], [4.0]], [[[1.0]], [[2.0]]]))
    np.testing.assert_allclose(two.means, [[3.0]])
    np.testing.assert_allclose(two.covariances, [[[0.25 * 1 + 0.75 * 2 + 0.25 * 9 + 0.75 * 1]]])


@jax.jit
def _objective(emission, weights, z, prior):
    return (weights * emission.log_densities(z)).sum() + emission.log_prior(prior)


def objective(*given):
    """What the M-step maximises."""
    return float(_objective(*given))


def nudged(emission, rng, size):
    """The emission with its parameters moved a little, within its structure."""

    def moved(part):
        if isinstance(part, E.Gaussian | E.StudentT):
            S = part.covariance if isinstance(part, E.Gaussian) else part.scale
            factor = np.eye(S.shape[-1]) + size * rng.normal(size=S.shape)
            if part.structure == "tied":
                factor = np.repeat(factor[:1], len(S), 0)
            if part.structure in ("diagonal", "spherical"):
                factor = factor * np.eye(S.shape[-1])
            if part.structure == "spherical":
                factor = factor[:, :1, :1] * np.eye(S.shape[-1])
            new = factor @ np.asarray(S) @ factor.swapaxes(1, 2)
            m = np.asarray(part.means if isinstance(part, E.Gaussian) else part.location)
            m = m + size * rng.normal(size=m.shape)
            if isinstance(part, E.Gaussian):
                return E.Gaussian(m, new, part.structure)
            return E.StudentT(m, new, part.degrees * np.exp(size * rng.normal(size=part.degrees.shape)), part.structure)
        rows = lambda P: (Q := np.asarray(P) * np.exp(size * rng.normal(size=P.shape))) / Q.sum(-1, keepdims=True)
        scaled = lambda P: np.asarray(P) * np.exp(size * rng.normal(size=P.shape))
        if isinstance(part, E.Poisson):
            return E.Poisson(scaled(part.rate))
        if isinstance(part, E.NegativeBinomial):
            return E.NegativeBinomial(scaled(part.mean), scaled(part.shape))
        if isinstance(part, E.Categorical):
            return E.Categorical(rows(part.probabilities))
        if isinstance(part, E.Mixture):
            return E.Mixture(rows(part.weights), moved(part.components))
        return E.Product([moved(p) for p in part.parts])

    return moved(emission)


@pytest.mark.slow
@pytest.mark.parametrize(("shrinkage", "gaps"), [(0.0, 0.0), (2.0, 0.25)])
@pytest.mark.parametrize("name", NAMES)
def test_repeated_m_steps_rise_to_where_no_nudge_helps(name, shrinkage, gaps):
    rng = np.random.default_rng(3)
    emission, _ = random_emission(name, rng, 2)
    z = with_gaps(rng, np.array(emission.sample(jax.random.key(1), jnp.arange(400) % 2)), gaps)
    own = rng.random(400) < 0.5  # weights that do not know the states
    weights, z = jnp.asarray(np.stack([np.where(own, 0.8, 0.3), np.where(own, 0.2, 0.7)], 1)), jnp.asarray(z)
    prior = Prior.of(np.asarray(z), 2, shrinkage, shrinkage, np.float64)
    step = jax.jit(lambda e: e.maximised(e.statistics(weights, z), prior))
    value = objective(emission, weights, z, prior)
    for _ in range(800):
        emission = step(emission)
        new = objective(emission, weights, z, prior)
        assert new >= value - 1e-9 * abs(value)
        if new - value < 1e-12 * abs(value):
            break
        value = new
    for size in (1e-3, 1e-2):
        nudges = [objective(nudged(emission, rng, size), weights, z, prior) for _ in range(10)]
        assert max(nudges) <= new + 1e-9 * abs(new)
        assert min(nudges) < new - 1e-9 * abs(new)  # a nudge is felt


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_state_without_weight_keeps_its_distribution(name):
    emission, _ = random_emission(name, np.random.default_rng(4), 2)
    z = emission.sample(jax.random.key(1), jnp.arange(50) % 2)
    weights = jnp.stack([jnp.ones(50), jnp.zeros(50)], 1)
    after = emission.maximised(emission.statistics(weights, z), Prior.of(np.asarray(z), 2, 0.0, 0.0, np.float64))
    if name == "tied":  # one matrix for all
        np.testing.assert_array_equal(after.mean[1], emission.mean[1])
    else:
        np.testing.assert_allclose(after.log_likelihoods(z)[:, 1], emission.log_likelihoods(z)[:, 1], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_of_two_halves_add_up(name):
    emission, _ = random_emission(name, np.random.default_rng(5), 2)
    z = jnp.asarray(
        with_gaps(np.random.default_rng(0), np.array(emission.sample(jax.random.key(1), jnp.arange(40) % 2)))
    )
    weights = jnp.asarray(np.random.default_rng(1).random((40, 2)))
    whole = emission.statistics(weights, z)
    halves = (emission.statistics(weights[rows], z[rows]) for rows in (slice(0, 13), slice(13, 40)))
    added = jax.tree.map(jnp.add, *halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), whole, added)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_whole_with_the_names_of_channels(name, tmp_path):
    emission, _ = random_emission(name, np.random.default_rng(6), 2)
    names = [f"channel {c}" for c in range(emission.n_channels)]
    model = HiddenMarkovModel([0.5, 0.5], np.eye(2), emission, channels=names)
    sx.save(model, tmp_path / "model")
    again = sx.load(tmp_path / "model")
    assert jax.tree.structure(again) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, again, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_states_in_another_order_are_the_same_states(name):
    emission, _ = random_emission(name, np.random.default_rng(7), 3)
    z = emission.sample(jax.random.key(0), jnp.arange(9) % 3)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(
        emission.permuted(order).log_likelihoods(z), emission.log_likelihoods(z)[:, order], rtol=1e-12
    )


def test_far_observations_keep_their_digits():
    far = E.Gaussian([[1e9], [1e9 + 1]], [[[1.0]], [[1.0]]])
    np.testing.assert_allclose(
        far.log_likelihoods(jnp.asarray([[1e9 + 0.25]]))[0], -0.5 * np.log(2 * np.pi) - np.array([0.25, 0.75]) ** 2 / 2
    )
    assert np.isfinite(far.log_likelihoods(jnp.asarray([[-1e9]]))).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: E.Gaussian([0.0], [[1.0]]), "2 axes"),
        (lambda: E.Gaussian([[0.0]], [[[-1.0]]]), "state 0 is not symmetric and positive definite"),
        (lambda: E.Gaussian([[0.0, 0]], [[[1.0, 0.5], [0, 1]]]), "not symmetric"),
        (lambda: E.Gaussian([[0.0, 0]], [[[1.0]]]), "one matrix a state"),
        (lambda: E.Gaussian([[0.0, 0]], [[[1.0, 0.5], [0.5, 1]]], "diagonal"), "not diagonal"),
        (lambda: E.Gaussian([[0.0, 0]], [[[1.0, 0], [0, 2]]], "spherical"), "unlike variances"),
        (lambda: E.Gaussian([[0.0], [1]], [[[1.0]], [[2]]], "tied"), "differs between states"),
        (lambda: E.Gaussian([[0.0]], [[[1.0]]], "round"), "structure='round'"),
        (lambda: E.Gaussian([[np.nan]], [[[1.0]]]), "not finite"),
        (lambda: E.StudentT([[0.0]], [[[1.0]]], [0.0]), "degrees of freedom"),
        (lambda: E.StudentT([[0.0]], [[[1.0]]], [1.0, 2.0]), "one number each"),
        (lambda: E.Poisson([[-1.0]]), "negative"),
        (lambda: E.NegativeBinomial([[1.0]], [[0.0]]), "not positive"),
        (lambda: E.NegativeBinomial([[1.0]], [[1.0, 2.0]]), "one number for each"),
        (lambda: E.NegativeBinomial([[-1.0]], [[1.0]]), "negative"),
        (lambda: E.Categorical([[0.5, 0.4]]), "sum to one"),
        (lambda: E.Mixture([[0.5, 0.4]], E.Poisson([[1.0], [2]])), "sum to one"),
        (lambda: E.Mixture([[0.5, 0.5]], E.Poisson([[1.0]])), "need 2"),
        (lambda: E.Product([]), "at least one part"),
        (lambda: E.Product([E.Poisson([[1.0]]), E.Poisson([[1.0], [2]])]), "same number"),
        (lambda: HiddenMarkovModel([0.5, 0.5], np.eye(2), E.Poisson([[1.0]])), "do not fit together"),
        (lambda: HiddenMarkovModel([1.0], [[1.0]], E.Poisson([[1.0]]), channels=["a", "b"]), "has 1"),
        (lambda: HiddenMarkovModel([1.0], [[1.0]], [[1.0]], channels=["a"]), "a model of tokens has none"),
    ],
)
def test_rejects_parameters_that_are_no_distributions(build, words):
    with pytest.raises(sx.SteeraxError, match=words):
        build()


def test_a_categorical_by_itself_is_a_model_of_tokens():
    P = np.array([[0.2, 0.8], [0.5, 0.5]])
    model = HiddenMarkovModel([0.5, 0.5], np.eye(2), E.Categorical(P))
    assert model.emits_tokens
    np.testing.assert_array_equal(model.emission, P)
