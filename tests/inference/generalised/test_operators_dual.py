"""Layers of operators against the plain formula, the filter, and the layers of hidden Markov models."""

import jax.numpy as jnp
import numpy as np
import process_oracles as oracles
import pytest

import steerax as sx
from steerax.inference.generalised.kernels.layers import gains, layer
from steerax.inference.generalised.kernels.scaled import gains_scaled, layer_scaled
from steerax.inference.hmm.kernels.scaled import Scaled
from steerax.models import as_generalised

OPEN = (
    "leaky_rrxor",
    "mess3",
    "casino",
    "tom_quantum",
    "random_quantum",
    "qutrit",
    "post_quantum",
)  # nothing is certain


def example(name, length=12, gaps=(2, 7)):
    model = as_generalised(oracles.ALL[name]())
    z = oracles.drawn(model, length)
    z[list(gaps)] = -1
    return model, z


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(OPEN))
def test_a_layer_is_the_formula_of_the_theorem(name):
    model, z = example(name)
    p0, T, w = oracles.operators_of(model)
    pi = np.asarray(sx.filter(model, z).predicted)
    rho = 0.9 * pi + 0.1 * pi[::-1]
    wanted = oracles.plain_layer(p0, T, w, z, rho)
    found = layer(jnp.asarray(rho), *model.arrays, z)
    np.testing.assert_allclose(found, wanted, atol=1e-11 * np.abs(wanted).max())
    assert np.abs(wanted - pi).max() > 1e-4
    pair = layer(jnp.stack([rho, pi], 1), *model.arrays, jnp.stack([z, z], 1))
    np.testing.assert_allclose(pair, np.stack([wanted, pi], 1), atol=1e-11 * np.abs(wanted).max())
    np.testing.assert_allclose(found @ w, 1, atol=1e-12)
    if model.is_classical:
        scaled = layer_scaled(Scaled.of(jnp.asarray(rho)), *model.arrays, z).linear
        np.testing.assert_allclose(scaled, wanted, atol=1e-12)


@pytest.mark.parametrize("name", oracles.cases(oracles.ALL))
def test_layers_are_exact_after_as_many_as_there_are_tokens(name):
    model, z = example(name, 12)
    pi = np.asarray(sx.filter(model, z).predicted)
    near = lambda found: np.testing.assert_allclose(found.predicted, pi, atol=2e-12 * np.abs(pi).max())
    near(sx.dual_filter(model, z))
    assert sx.dual_filter(model, z).layers == 1
    near(sx.dual_filter(model, z, layers=12))
    rng = np.random.default_rng(0)
    anywhere = rng.dirichlet(np.ones(model.n_states), 13) if model.is_classical else pi + rng.normal(size=pi.shape)
    near(sx.dual_filter(model, z, layers=13, initial=anywhere))
    free = sx.dual_filter(model, z, initial="prior")
    near(free)
    assert free.layers <= 13
    assert free.result == sx.RESULTS.successful
    history = np.asarray(sx.dual_filter(model, z, layers=12, keep=True).history)
    for n, beliefs in enumerate(history):
        np.testing.assert_allclose(beliefs[: n + 1], pi[: n + 1], atol=2e-12 * np.abs(pi).max())
        np.testing.assert_array_equal(beliefs[: n + 1], history[-1, : n + 1])
    assert np.isfinite(history).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["casino", "mess3", "two_cycle", "left_right"]))
@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 3, "keep": True}, {"initial": "uniform", "max_layers": 2}, {"layers": 2, "initial": "stationary"}],
)
def test_layers_of_a_chain_are_those_of_its_operators(name, options):
    hmm = oracles.CLASSICAL[name]()
    z = oracles.drawn(hmm, 15)
    z[4] = -1
    data = sx.Sequences.from_arrays([z, z[:6]])
    for tokens in (z, data):
        one, two = (sx.dual_filter(m, tokens, **options) for m in (hmm, as_generalised(hmm)))
        np.testing.assert_allclose(one.predicted, two.predicted, atol=1e-12)
        np.testing.assert_allclose(one.residuals, two.residuals, atol=1e-12)
        assert one.layers == two.layers
        assert one.result == two.result
        if one.history is not None:
            np.testing.assert_allclose(one.history, two.history, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["even", "tom_quantum", "mixture"]))
def test_a_batch_is_each_sequence_alone(name):
    model, z = example(name)
    data = sx.Sequences.from_arrays([z, z[:8]])
    found = sx.dual_filter(model, data, layers=3, keep=True)
    assert found.history.shape == (4, 2, 13, model.n_states)
    for i, part in enumerate(data):
        alone = sx.dual_filter(model, part, layers=3, keep=True)
        np.testing.assert_allclose(found.history[:, i, : len(part) + 1], alone.history, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["tom_quantum", "fanizza", "post_quantum", "random_quantum", "even"]))
def test_layers_move_with_the_basis(name):
    model, z = example(name, 10, (3,))
    other, S = oracles.in_another_basis(model)
    for layers in (1, 3, 10):
        one, two = (sx.dual_filter(m, z, layers=layers).predicted for m in (model, other))
        if layers == 10 or not model.is_classical:
            np.testing.assert_allclose(
                np.asarray(two), np.asarray(one) @ S, atol=1e-8 * np.abs(np.asarray(one) @ S).max()
            )


@pytest.mark.slow
def test_a_token_that_the_input_thinks_impossible_raises_nothing():
    even = sx.models.even()
    z = np.array([0, 1, 1, 0, 1, 1])
    impossible = np.tile([0.0, 1.0], (7, 1))  # state 1 does not emit 0
    one = sx.dual_filter(even, z, layers=1, initial=impossible)
    assert np.isfinite(one.predicted).all()
    p0, T, w = oracles.operators_of(even)  # the posterior is taken under p itself
    plus, minus = p0 @ T[0] / (p0 @ T[0] @ w), impossible[0] @ T[1]
    np.testing.assert_allclose(one.predicted[1], p0 @ T.sum(0) + (p0 @ T[1] @ w) * (plus - minus), atol=1e-15)
    found = sx.dual_filter(even, z, initial=impossible)
    np.testing.assert_allclose(found.predicted, sx.filter(even, z).predicted, atol=1e-14)
    B = sx.models.tom_quantum()
    wild = np.zeros((7, 3))  # of mass zero: every token is impossible
    found = sx.dual_filter(B, z, layers=7, initial=wild)
    np.testing.assert_allclose(found.predicted, sx.filter(B, z).predicted, atol=1e-13)


def test_gains_at_their_limits():
    T = jnp.asarray([np.diag([1.0, 0.0, 0.0]), np.diag([0.0, 0.5, 0.5]), np.diag([0.0, 0.5, 0.5])])
    w, rho = jnp.ones(3), jnp.asarray([[1.0, 0, 0], [1.0, 0, 0], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [1.0, 0, 0]])
    z = jnp.asarray([0, 1, -1, 0])
    for k in (gains(rho, T, w, z), gains_scaled(Scaled.of(rho), T, w, z)):
        np.testing.assert_array_equal(k[:3], 0)  # certain, impossible, missing
        np.testing.assert_allclose(2 * k[3], [1, -0.5, -0.5])


@pytest.mark.slow
def test_far_from_the_filter_layers_stay_finite():
    for name in ("tom_quantum", "post_quantum", "qutrit", "fanizza"):
        model = oracles.SIGNED[name]()
        z = oracles.drawn(model, 300)
        history = np.asarray(sx.dual_filter(model, z, layers=4, keep=True, initial="prior").history)
        assert np.isfinite(history).all()
    mess3 = as_generalised(sx.models.mess3())
    history = np.asarray(sx.dual_filter(mess3, oracles.drawn(mess3, 300), layers=4, keep=True).history)
    assert history.min() >= 0
    np.testing.assert_allclose(history.sum(-1), 1, atol=1e-12)


@pytest.mark.slow
def test_single_precision():
    model = sx.models.tom_quantum()
    small = sx.GeneralisedHMM(*(np.asarray(a, np.float32) for a in model.arrays[:2]), evaluation=np.float32([1, 0, 0]))
    z = oracles.drawn(model, 20)
    found = sx.dual_filter(small, z, layers=20)
    assert found.predicted.dtype == jnp.float32
    np.testing.assert_allclose(found.predicted, sx.filter(model, z).predicted, atol=2e-5)
    e = sx.explain(small, z, "all", method="control")
    np.testing.assert_allclose(e.prior + e.weights.sum(1), sx.filter(model, z).next_all(), atol=2e-5)


def test_options_that_cannot_work_are_refused():
    model, z = example("tom_quantum")
    for options, said in (
        ({"initial": "warm"}, "initial='warm'"),
        ({"layers": -1}, "layers is -1"),
        ({"keep": True}, "keep"),
        ({"initial": "uniform"}, "of which none is uniform"),
    ):
        with pytest.raises(sx.ConfigurationError, match=said):
            sx.dual_filter(model, z, **options)
    with pytest.raises(sx.DataError, match="shape"):
        sx.dual_filter(model, z, initial=np.ones((3, 4)))
    few = sx.dual_filter(model, z, initial="prior", max_layers=2)
    assert few.layers == 2
    assert few.result == sx.RESULTS.max_steps_reached
    even = sx.models.even().started([1.0, 0.0])
    with pytest.raises(sx.ImpossibleTokenError):
        sx.dual_filter(even, [1, 0])
    skipped = sx.dual_filter(even, np.array([1, 0, 1]), on_impossible="skip")
    np.testing.assert_allclose(skipped.predicted, sx.filter(even, np.array([1, -1, 1])).predicted, atol=1e-15)
