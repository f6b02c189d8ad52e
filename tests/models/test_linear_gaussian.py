"""Linear-Gaussian processes: their distributions, their samples, and what they refuse."""

import jax
import numpy as np
import pytest
from linear_oracles import joint_distribution, random_model, random_operator

import steerax as sx


@pytest.mark.parametrize("kind", ["taps", "operator"])
def test_samples_have_the_mean_and_covariance_of_the_model(kind):
    model = random_model(0, d=2, p=1, order=3) if kind == "taps" else random_operator(0, 4, 2, 1)
    X, Z = jax.jit(jax.vmap(lambda k: model.sample(k, 4)))(jax.random.split(jax.random.key(0), 40_000))
    mean_X, cov_X, mean_Z, cov_Z, _ = joint_distribution(model, 4)
    assert X.shape[1:] == (4, 2)
    for sample, mean, cov in ((X, mean_X[:8], cov_X[:8, :8]), (Z, mean_Z, cov_Z)):
        flat = np.asarray(sample).reshape(len(sample), -1)
        sd = np.sqrt(np.diag(cov))
        assert np.abs((flat.mean(0) - mean) / sd).max() < 5 / np.sqrt(len(flat))
        assert np.abs((np.cov(flat.T) - cov) / np.outer(sd, sd)).max() < 6 * np.sqrt(2 / len(flat))


def test_taps_written_out_as_an_operator_are_the_same_process():
    model = random_model(1, d=2, p=1, order=2)
    operator = sx.TimeVaryingLinearGaussianModel.from_taps(model, 6)
    key = jax.random.key(0)
    np.testing.assert_allclose(model.sample(key, 6)[1], operator.sample(key, 6)[1], atol=1e-12)


def test_a_single_matrix_is_a_model_of_order_one():
    arrays = [np.zeros(2), np.eye(2), np.diag([0.5, 0.2]), np.ones((1, 2)), np.eye(2), np.eye(1)]
    model = sx.LinearGaussianModel(*arrays)
    assert model.order == 1
    np.testing.assert_array_equal(model.transition, arrays[2][None])
    assert [part.shape for part in sx.sample(model, 0, 0)] == [(0, 2), (0, 1)]


@pytest.mark.parametrize("kind", ["taps", "operator"])
def test_models_survive_a_folder(kind, tmp_path):
    model = random_model(1, d=2, p=1, order=3) if kind == "taps" else random_operator(1, 4, d=2, p=1)
    sx.save(model, tmp_path / "m")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), model, sx.load(tmp_path / "m")))


def test_models_reject_what_is_no_model():
    good = [np.zeros(2), np.eye(2), np.zeros((1, 2, 2)), np.ones((1, 2)), np.eye(2), np.eye(1)]
    for place, bad, message in [
        (2, np.zeros(2), "3 axes"),
        (2, np.zeros((3, 3)), "one tap per lag"),
        (2, np.zeros((1, 3, 3)), "one tap per lag"),
        (1, -np.eye(2), "negative eigenvalue"),
        (4, [[1.0, 2.0], [0.0, 1.0]], "not symmetric"),
        (0, [np.nan, 0.0], "not finite"),
        (5, np.eye(2), "observation_noise"),
    ]:
        arguments = list(good)
        arguments[place] = bad
        with pytest.raises(sx.DataError, match=message):
            sx.LinearGaussianModel(*arguments)
    arguments = list(good)
    arguments[2] = np.ones((3, 3, 2, 2))
    with pytest.raises(sx.DataError, match="above the diagonal"):
        sx.TimeVaryingLinearGaussianModel(*arguments)


def test_arrays_get_one_precision():
    eye = np.eye(2, dtype=np.float32)
    eye[0, 1], eye[1, 0] = 0.3, np.nextafter(np.float32(0.3), np.float32(1))  # symmetric to its own precision only
    mixed = sx.LinearGaussianModel(np.zeros(2), eye, 0.5 * np.eye(2), eye[:1], np.eye(2, dtype=int), eye[:1, :1])
    assert {leaf.dtype.name for leaf in jax.tree.leaves(mixed)} == {"float64"}
    assert np.isfinite(sx.filter(mixed, np.ones((3, 1), np.float32)).log_likelihood)
