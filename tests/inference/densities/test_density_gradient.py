"""Learning models of numbers by gradients: parameters without bounds and back, the slope, what EM reaches, and runs that stop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from emission_oracles import NAMES, random_emission, with_gaps

import steerax as sx
from steerax.inference.densities.gradient import SeriesLogits, mean_series_loss
from steerax.runs.models import named_leaves

E, D = sx.emissions, 2


def case(name, gaps=0.1, number=6, length=30):
    """A model and sequences of it, with gaps and unlike lengths."""
    emission, _ = random_emission(name, np.random.default_rng(11), D, 3.0)
    if name == "categorical":  # rows at random are too much alike for one optimum
        emission = E.Product([E.Categorical([[0.8, 0.1, 0.05, 0.05], [0.05, 0.05, 0.2, 0.7]])])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], emission)
    _, z = sx.sample(model, 3, length, number=number)
    z = list(with_gaps(np.random.default_rng(1), np.asarray(z), gaps))
    return model, sx.Sequences.from_arrays([row[: length - i] for i, row in enumerate(z)])


def nats(model, data):
    return -sx.filter(model, data).log_likelihood.sum() / data.n_observed


def close(a, b, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


@pytest.mark.parametrize("name", NAMES)
def test_free_parameters_stand_for_the_same_model(name):
    model, _ = case(name)
    again = SeriesLogits.of(model).model()
    assert jax.tree.structure(again) == jax.tree.structure(model)
    close(again, model, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_any_free_numbers_are_a_valid_model_of_the_same_structure(name):
    model, _ = case(name)
    rng = np.random.default_rng(5)
    moved = jax.tree.map(lambda a: a + jnp.asarray(rng.normal(size=a.shape)), SeriesLogits.of(model)).model()
    config, arrays = moved.to_config(), {name: np.asarray(leaf) for name, leaf in named_leaves(moved).items()}
    sx.HiddenMarkovModel.from_config(config, arrays)  # whose checks see values
    assert moved.emission.n_parameters == model.emission.n_parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", pytest.param("product", marks=pytest.mark.slow)])
def test_the_first_loss_is_that_of_the_start_and_its_slope_a_quotient_of_differences(name):
    model, data = case(name)
    z = jnp.asarray(data.values.swapaxes(0, 1))
    loss = jax.jit(lambda free: mean_series_loss(free.model(), z))
    free = SeriesLogits.of(model)
    np.testing.assert_allclose(loss(free), nats(model, data), rtol=1e-12)
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), free)
    at = lambda step: loss(jax.tree.map(lambda a, b: a + step * b, free, way))
    slope = jax.tree.leaves(jax.tree.map(lambda g, w: (g * w).sum(), jax.jit(jax.grad(loss))(free), way))
    np.testing.assert_allclose(sum(slope), (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradient_descent_reaches_what_em_reaches(name):
    model, data = case(name, number=10)
    em = sx.fit(model, data, max_iterations=2000, tolerance=1e-9, shrinkage=0.0, progress=False)
    rate = optax.cosine_decay_schedule(0.05, 600)
    trained = sx.fit_by_gradient(model, data, 600, 0, optimizer=optax.adam(rate), batch=10, progress=False)
    np.testing.assert_allclose(trained.losses[0], nats(model, data), rtol=1e-12)
    assert nats(model, data) - nats(em.model, data) > 2e-3  # there was something to learn
    assert abs(nats(trained.model, data) - nats(em.model, data)) < 1e-3
    assert type(trained.model.emission) is type(model.emission)


def test_training_that_was_stopped_goes_on_to_the_same_model(tmp_path):
    model, data = case("poisson")
    model = sx.HiddenMarkovModel(*model.parameters, channels=["a", "b"])
    options = {"batch": 3, "progress": False}
    whole = sx.fit_by_gradient(model, data, 8, 1, **options)
    stored = options | {"run_folder": tmp_path / "run", "save_every": 2}
    sx.fit_by_gradient(model, data, 5, 1, **stored)
    with pytest.raises(sx.CheckpointError):
        sx.fit_by_gradient(model, data, 8, 1, **stored)
    with pytest.raises(sx.CheckpointError):
        sx.fit_by_gradient(model, data, 8, 2, **stored, resume=True)
    resumed = sx.fit_by_gradient(model, data, 8, 1, **stored, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.model, whole.model)
    assert resumed.model.channels == ("a", "b")


@pytest.mark.slow
def test_a_chain_of_order_two_is_trained_too():
    chain = sx.models.random_order_k(jax.random.key(0), 2, 3, 2)
    model, data = case("poisson")
    start = sx.HiddenMarkovModel(chain.initial, chain.transition, model.emission)
    trained = sx.fit_by_gradient(start, data, 20, optimizer=optax.adam(0.05), progress=False)
    assert trained.model.transition.order == 2
    assert nats(trained.model, data) < nats(start, data)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((3, 2), np.nan), "needs observations"),
        (np.zeros((4, 3)), r"numbers \[T 2\]"),
        (np.full((4, 2), 0.5), "not among whole numbers"),
        (np.array([0, 1]), "tokens|numbers"),
    ],
)
def test_rejects_what_cannot_be_trained_on(values, words):
    with pytest.raises(sx.SteeraxError, match=words):
        sx.fit_by_gradient(case("poisson")[0], sx.Sequences.from_arrays([values]), 2, progress=False)
