"""Every array of every model holds real numbers: anything else is one sentence, never cast."""

import jax
import numpy as np
import pytest

import steerax as sx

E = sx.emissions
HALF, EYE = np.full((2, 2), 0.5), np.eye(2)
TWICE = np.stack([EYE, EYE])
MODELS = {
    "hmm": (sx.HiddenMarkovModel, {"initial": HALF[0], "transition": HALF, "emission": HALF}),
    "generalised": (
        sx.GeneralisedHMM,
        {"initial": HALF[0], "operators": np.full((2, 2, 2), 0.25), "evaluation": np.ones(2)},
    ),
    "lagged": (
        sx.LaggedHMM,
        {
            "initial": HALF[0],
            "transition": np.full((1, 2, 2, 2), 0.5),
            "emission": HALF,
            "weights": np.ones(1),
            "attention": HALF[:1],
        },
    ),
    "linear": (
        sx.LinearGaussianModel,
        {
            "initial_mean": HALF[0],
            "initial_covariance": EYE,
            "transition": HALF[None],
            "observation": EYE,
            "process_noise": EYE,
            "observation_noise": EYE,
            "observation_offset": HALF[0],
        },
    ),
    "varying": (
        sx.TimeVaryingLinearGaussianModel,
        {
            "initial_mean": HALF[0],
            "initial_covariance": EYE,
            "transition": np.tril(np.ones((3, 3)))[..., None, None] * HALF,
            "observation": EYE,
            "process_noise": EYE,
            "observation_noise": EYE,
        },
    ),
    "gaussian": (E.Gaussian, {"mean": HALF, "covariance": TWICE}),
    "student-t": (E.StudentT, {"location": HALF, "scale": TWICE, "degrees": HALF[0]}),
    "poisson": (E.Poisson, {"rate": HALF}),
    "negative-binomial": (E.NegativeBinomial, {"mean": HALF, "shape": HALF}),
    "categorical": (E.Categorical, {"probabilities": HALF}),
    "mixture": (lambda weights: E.Mixture(weights, E.Poisson(np.ones((4, 1)))), {"weights": HALF}),
    "regression": (E.Regression, {"intercept": HALF, "coefficients": TWICE, "covariance": TWICE}),
    "autoregressive": (
        E.Autoregressive,
        {"intercept": HALF, "coefficients": TWICE[:, None], "covariance": TWICE},
    ),
}
CASES = [(kind, name) for kind, (_, arrays) in MODELS.items() for name in arrays]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_not_real_is_one_sentence(kind, name):
    build, arrays = MODELS[kind]
    build(**arrays)
    value = np.asarray(arrays[name])
    keys = jax.random.split(jax.random.key(0), value.shape)
    wrong = (value + 0j, value + 1e-3j, value.astype(str), keys, [[1], [2, 3]])
    for other in (*wrong, np.full(value.shape, None), "a", object()):
        with pytest.raises(sx.DataError, match="real numbers"):
            build(**arrays | {name: other})


def test_what_is_not_real_is_refused_inside_jit():
    with pytest.raises(sx.DataError, match=r"`transition` .* real numbers; .*complex128"):
        jax.jit(lambda A: sx.HiddenMarkovModel(HALF[0], A, HALF).initial)(HALF + 0j)
