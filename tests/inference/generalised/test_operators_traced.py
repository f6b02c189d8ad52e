"""The verbs of operators under `jit`, `vmap` over data and over models, and `grad`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx

TOKENS = jnp.asarray([0, 1, 3, -1, 2, 0, 1])
VERBS = {
    "filter": lambda m, z: sx.filter(m, z).predicted,
    "next": lambda m, z: sx.filter(m, z).next_all(),
    "log-likelihood": lambda m, z: sx.filter(m, z).log_likelihood,
    "dual_filter": lambda m, z: sx.dual_filter(m, z).predicted,
    "two layers": lambda m, z: sx.dual_filter(m, z, layers=2).predicted,
    "history": lambda m, z: sx.dual_filter(m, z, layers=3, keep=True).history,
    "explain": lambda m, z: sx.explain(m, z, "all", method="control").weights,
    "forecast": lambda m, z: sx.forecast(m, z, 3).probabilities,
}
MODELS = {"quantum": sx.models.tom_quantum(), "chain": sx.models.as_generalised(sx.models.random_hmm(0, 3, 4))}
OFTEN = [("filter", "chain")]
CASES = [
    pytest.param(name, kind, marks=() if (name, kind) in OFTEN else pytest.mark.slow)
    for kind in MODELS
    for name in VERBS
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_traced_is_eager_mapped_is_a_loop_and_gradients_are_slopes(name, kind):
    verb, model = VERBS[name], MODELS[kind]
    eager = verb(model, TOKENS)
    np.testing.assert_allclose(jax.jit(lambda z: verb(model, z))(TOKENS), eager, atol=1e-12)
    np.testing.assert_allclose(eqx.filter_jit(verb)(model, TOKENS), eager, atol=1e-12)
    mapped = jax.vmap(lambda z: verb(model, z))(jnp.stack([TOKENS, TOKENS[::-1]]))
    np.testing.assert_allclose(mapped, jnp.stack([eager, verb(model, TOKENS[::-1])]), atol=1e-12)
    models = jax.tree.map(lambda a: jnp.stack([a, a]), model)
    mapped = eqx.filter_vmap(lambda m: verb(m, TOKENS))(models)
    np.testing.assert_allclose(mapped, jnp.stack([eager, eager]), atol=1e-12)
    if name == "dual_filter":
        with pytest.raises(sx.ConfigurationError, match="pass layers="):
            eqx.filter_grad(lambda m: jnp.sum(verb(m, TOKENS)))(model)
        return
    leaves, structure = jax.tree.flatten(model)
    rng = np.random.default_rng(0)
    moves, weights = [rng.normal(size=a.shape) for a in leaves], rng.normal(size=np.shape(eager))

    def value(step):
        moved = jax.tree.unflatten(structure, [a + step * jnp.asarray(m) for a, m in zip(leaves, moves, strict=True)])
        return jnp.sum(weights * verb(moved, TOKENS))

    slope = float(jax.jit(jax.grad(value))(0.0))
    central = float((value(jnp.asarray(1e-5)) - value(jnp.asarray(-1e-5))) / 2e-5)
    np.testing.assert_allclose(slope, central, rtol=1e-4, atol=1e-6)
