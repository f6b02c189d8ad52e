"""What `explain` cannot use is one sentence, in every room and before any computation."""

import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx

HALF = np.full((2, 2), 0.5)
GAUSSIAN = sx.emissions.Gaussian([[0.0], [1.0]], [[[1.0]], [[1.0]]])
MODELS = {
    "tokens": (sx.HiddenMarkovModel(HALF[0], HALF, [[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1, 1])),
    "numbers": (sx.HiddenMarkovModel(HALF[0], HALF, GAUSSIAN), np.array([0.0, 1.0, 0.5])),
    "operators": (sx.models.even(), np.array([0, 1, 1])),
    "lagged": (
        sx.LaggedHMM(HALF[0], np.full((1, 2, 2, 2), 0.5), [[0.9, 0.1], [0.2, 0.8]], [1.0]),
        np.array([0, 1, 1]),
    ),
    "linear": (
        sx.LinearGaussianModel([0.0, 0.0], np.eye(2), 0.5 * np.eye(2), np.eye(2), np.eye(2), np.eye(2)),
        np.zeros((3, 2)),
    ),
}
WRONG = [
    {"contrast": 5},
    {"contrast": "ab"},
    {"contrast": {0, 1}},
    {"contrast": {0: 1, 1: 0}},
    {"contrast": (0,)},
    {"contrast": (0, 7)},
    {"contrast": (0, None)},
    {"contrast": (0, 1.0)},
    {"contrast": [[0], [1]]},
    {"contrast": [[0], [1, 2]]},
    {"contrast": np.asarray(0)},
    {"contrast": (0, 1), "target": "state"},
    {"target": None},
    {"target": 5},
    {"target": "foo"},
    {"target": [["a"], ["b"]]},
    {"target": [[1.0], [1.0, 2.0]]},
    {"target": np.zeros((2, 0))},
    {"target": np.zeros((0, 2))},
    {"target": np.zeros(2)},
    {"target": np.full((2, 1), np.nan)},
    {"target": np.full((2, 1), np.inf)},
    {"target": np.full((2, 1), 1j)},
    {"queries": None},
    {"queries": "foo"},
    {"queries": 1.5},
    {"queries": -1.5},
    {"queries": [0.5]},
    {"queries": [[0]]},
    {"queries": 99},
    {"queries": [True]},
    {"queries": print},
    {"method": "foo"},
]
DTYPES = ["foo", int, jnp.int32, complex, print, "datetime64"]


@pytest.mark.parametrize("room", MODELS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: "-".join(f"{k}={v}" for k, v in wrong.items()))
def test_rejects_what_cannot_be_explained(room, wrong):
    model, data = MODELS[room]
    several = sx.Sequences.from_arrays([data, data[:2]])
    for given in (data, several):
        with pytest.raises(sx.SteeraxError):
            sx.explain(model, given, **wrong)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("room", [room for room in MODELS if room != "linear"])
def test_rejects_what_is_no_real_type(room, dtype):
    model, data = MODELS[room]
    with pytest.raises(sx.ConfigurationError, match="dtype"):
        sx.explain(model, data, dtype=dtype)


def test_a_wrong_target_is_refused_by_the_dual_filter_too():
    model, data = MODELS["linear"]
    for target in (None, [["a"], ["b"]], np.zeros((2, 0)), np.full((2, 1), np.nan)):
        with pytest.raises(sx.SteeraxError, match="target"):
            sx.dual_filter(model, data, target=target)
