"""Every verb of both wings under `jit`, `vmap` and `grad`: the same numbers, errors in place of clamped tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx

HMM = sx.models.random_hmm(jax.random.key(0), 3, 4)
TOKENS = jnp.asarray([0, 1, 3, -1, 2, 0, 1])
LINEAR = sx.LinearGaussianModel(
    [0.3, -0.2], [[1.0, 0.2], [0.2, 2.0]], [[[0.9, 0.1], [0.0, 0.5]], [[-0.2, 0.0], [0.1, 0.1]]],
    [[1.0, 0.3]], [[0.5, 0.1], [0.1, 0.4]], [[1.0]], [0.5],
)  # fmt: skip
SERIES = jnp.asarray([1.0, 2.0, np.nan, 0.5, 0.3, -1.0])

CHAIN = {
    "filter": lambda m, z: sx.filter(m, z).predicted,
    "filtered": lambda m, z: sx.filter(m, z).filtered,
    "log-likelihood": lambda m, z: sx.filter(m, z).log_likelihood,
    "smooth": lambda m, z: sx.smooth(m, z).smoothed,
    "dual_filter": lambda m, z: sx.dual_filter(m, z).predicted,
    "dual_filter from the prior": lambda m, z: sx.dual_filter(m, z, initial="prior").predicted,
    "two layers": lambda m, z: sx.dual_filter(m, z, layers=2).predicted,
    "history": lambda m, z: sx.dual_filter(m, z, layers=3, keep=True).history,
    "explain": lambda m, z: sx.explain(m, z, "all", method="control").weights,
    "forecast": lambda m, z: jax.tree.leaves(eqx.filter(sx.forecast(m, z, 3), eqx.is_inexact_array))[0],
    "most_likely_states": lambda m, z: sx.most_likely_states(m, z),
}
SERIES_VERBS = {
    "filter": lambda m, z: sx.filter(m, z).predicted.mean,
    "log-likelihood": lambda m, z: sx.filter(m, z).log_likelihood,
    "smooth": lambda m, z: sx.smooth(m, z).smoothed.covariance,
    "dual_filter": lambda m, z: sx.dual_filter(m, z).predicted.mean,
    "dual_filter, all": lambda m, z: sx.dual_filter(m, z, "all").predicted.covariance,
    "explain": lambda m, z: sx.explain(m, z).weights,
    "forecast": lambda m, z: sx.forecast(m, z, 3).covariance,
    "recalibrate": lambda m, z: sx.recalibrate(m, z, 3).process_noise,
}
ALL = [(HMM, TOKENS, f) for f in CHAIN.values()] + [(LINEAR, SERIES, f) for f in SERIES_VERBS.values()]
NAMES = [*CHAIN, *(f"linear {name}" for name in SERIES_VERBS)]
OFTEN = ("most_likely_states",)
CASES = [
    pytest.param(*case, id=name, marks=() if name in OFTEN else pytest.mark.slow)
    for case, name in zip(ALL, NAMES, strict=True)
]
NO_GRADIENT = ("dual_filter", "dual_filter from the prior", "most_likely_states")


@pytest.mark.parametrize(("model", "data", "verb"), CASES)
def test_traced_is_eager_and_mapped_is_a_loop(model, data, verb):
    eager = verb(model, data)
    np.testing.assert_allclose(jax.jit(lambda d: verb(model, d))(data), eager, atol=1e-12)
    np.testing.assert_allclose(eqx.filter_jit(verb)(model, data), eager, atol=1e-12)
    two = jnp.stack([data, data[::-1]])
    mapped = jax.vmap(lambda d: verb(model, d))(two)
    np.testing.assert_allclose(mapped, jnp.stack([eager, verb(model, data[::-1])]), atol=1e-12)
    models = jax.tree.map(lambda a: jnp.stack([a, a]), model)
    mapped = eqx.filter_vmap(lambda m: verb(m, data))(models)
    np.testing.assert_allclose(mapped, jnp.stack([eager, eager]), atol=1e-12)


@pytest.mark.parametrize(("model", "data", "verb"), [case for case in CASES if case.id not in NO_GRADIENT])
def test_gradients_are_slopes(model, data, verb):
    # along one direction that keeps rows probabilities and covariances symmetric
    leaves, structure = jax.tree.flatten(model)
    rng = np.random.default_rng(0)
    moves = [rng.normal(size=a.shape) for a in leaves]
    if isinstance(model, sx.HiddenMarkovModel):
        moves = [m - m.mean(-1, keepdims=True) for m in moves]
    else:
        moves = [m + m.T if m.ndim == 2 and m.shape[0] == m.shape[1] else m for m in moves]
    weights = rng.normal(size=np.shape(verb(model, data)))

    def value(step):
        moved = jax.tree.unflatten(structure, [a + step * jnp.asarray(m) for a, m in zip(leaves, moves, strict=True)])
        return jnp.sum(weights * verb(moved, data))

    slope = float(jax.jit(jax.grad(value))(0.0))
    central = float((value(jnp.asarray(1e-5)) - value(jnp.asarray(-1e-5))) / 2e-5)
    np.testing.assert_allclose(slope, central, rtol=1e-5, atol=1e-6)


def test_a_number_of_layers_that_depends_on_values_has_no_gradient_and_says_so():
    with pytest.raises(sx.ConfigurationError, match="pass layers="):
        eqx.filter_grad(lambda m: jnp.sum(sx.dual_filter(m, TOKENS).predicted ** 2))(HMM)
    with pytest.raises(sx.ConfigurationError, match="outside jit"):
        jax.jit(lambda z: sx.score(HMM, z))(TOKENS)
    with pytest.raises(sx.ConfigurationError, match="model with values"):
        eqx.filter_jit(lambda m: sx.dual_filter(m, TOKENS, initial="stationary").predicted)(HMM)
    with pytest.raises(sx.ConfigurationError, match="use ClosedLoop"):
        jax.jit(lambda z: sx.dual_filter(LINEAR, z, solver=sx.solvers.OpenLoop()).predicted.mean)(SERIES)


@pytest.mark.parametrize("verb", [CHAIN[name] for name in ("filter", "most_likely_states")])
def test_what_is_no_token_is_an_error_inside_jit_too(verb):
    traced = eqx.filter_jit(lambda z: verb(HMM, z))
    for tokens in ([0, 7, 1], [0, 10**6, 1], [0, -2, 1], [4, 0, 0]):
        with pytest.raises(Exception, match="not a code of the model"):
            jax.block_until_ready(traced(jnp.asarray(tokens)))
    with pytest.raises(sx.DataError, match="one per position"):
        traced(jnp.zeros((2, 3), int))
    with pytest.raises(sx.DataError, match="integer codes"):
        traced(jnp.asarray([0.0, 1.0]))


@pytest.mark.parametrize("verb", [SERIES_VERBS[name] for name in ("filter", "dual_filter")])
def test_what_is_no_series_is_an_error_inside_jit_too(verb):
    traced = eqx.filter_jit(lambda z: verb(LINEAR, z))
    with pytest.raises(Exception, match="infinite"):
        jax.block_until_ready(traced(jnp.asarray([1.0, np.inf, 2.0])))
    for wrong in (jnp.zeros((3, 2)), jnp.zeros((2, 3, 1)), jnp.zeros(4, complex)):
        with pytest.raises(sx.DataError, match="numbers"):
            traced(wrong)


@pytest.mark.slow
def test_a_result_inside_jit_is_that_outside():
    impossible = sx.HiddenMarkovModel([1.0, 0.0], np.eye(2), [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    for model, data in ((HMM, TOKENS), (LINEAR, SERIES)):
        for verb in (sx.filter, sx.smooth, sx.dual_filter, sx.explain):
            assert bool(jax.jit(lambda d, v=verb, m=model: v(m, d).result == sx.RESULTS.successful)(data))
    assert bool(jax.jit(lambda z: sx.filter(impossible, z).result == sx.RESULTS.impossible_token)(jnp.asarray([0, 2])))
    silent = sx.LinearGaussianModel([0.0], [[1.0]], [[0.9]], [[1.0]], [[0.0]], [[0.0]])
    for verb in (sx.filter, lambda m, z: sx.forecast(m, z, 2)):
        assert bool(jax.jit(lambda z, v=verb: v(silent, z).result == sx.RESULTS.breakdown)(jnp.asarray([1.0, 0.9])))


@pytest.mark.slow
def test_masked_arrays_are_missing_values():
    y = np.ma.masked_array([1.0, 2.0, 50.0, 1.0, 0.5], mask=[0, 0, 1, 0, 0])
    z = np.ma.masked_array([0, 1, 1, 0], mask=[0, 1, 0, 0], dtype=np.uint8)
    for verb in (sx.filter, sx.smooth):
        assert verb(LINEAR, y).log_likelihood == verb(LINEAR, y.filled(np.nan)).log_likelihood
        assert verb(HMM, z).log_likelihood == verb(HMM, np.array([0, -1, 1, 0])).log_likelihood
    parts = [sx.represent(sx.next_token_predictor(HMM, 1), a, 4).values for a in (z, np.array([0, -1, 1, 0]))]
    np.testing.assert_array_equal(*parts)
    with pytest.raises(sx.DataError, match="inputs"):
        sx.fit(
            sx.LinearGaussian(1, inputs=np.ma.masked_array(np.ones((20, 1)), mask=[[1]] + [[0]] * 19)), np.arange(20.0)
        )
    assert sx.Sequences.from_arrays([z]).n_observed == 3
    assert sx.Sequences.from_arrays([y]).n_observed == 4
    with pytest.raises(sx.DataError, match="complex"):
        sx.filter(LINEAR, np.array([1.0 + 1j, 2.0]))
    with pytest.raises(sx.DataError, match="complex"):
        sx.Sequences.from_arrays([np.array([1.0 + 1j, 2.0])])
