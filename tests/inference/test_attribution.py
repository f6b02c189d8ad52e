"""Attributions of chains and operators, against their definitions; they add up, belong to the past and to what was seen."""

import attribution_oracles as oracles
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import process_oracles
import pytest
from scipy import integrate

import steerax as sx
from steerax.models import as_generalised, random_order_k
from steerax.models.generalised import token_columns

CHAIN = sx.models.random_hmm(jax.random.key(0), 3, 4, concentration=0.6)
Z = np.array([0, 1, 3, -1, 2, 0, 1])
QUBIT = as_generalised(process_oracles.ALL["random_quantum"]())
SIGNS = process_oracles.drawn(QUBIT, 7)
SIGNS[2] = -1
MODELS = {"chain": (CHAIN, Z), "operators with signs": (QUBIT, SIGNS)}
ADDITIVE = ("integrated", "control", "news", "shapley")
DEFINED = {
    "news": oracles.news,
    "deletion": oracles.deletion,
    "integrated": oracles.integrated,
    "shapley": lambda m, z, F: oracles.shapley(lambda S: oracles.of_subset(m, z, F, S), len(z)),
}


@pytest.mark.parametrize("method", DEFINED)
@pytest.mark.parametrize("name", MODELS)
def test_a_method_is_its_definition(name, method):
    model, z = MODELS[name]
    F = np.asarray(token_columns(model))
    e = sx.explain(model, z, method=method)
    np.testing.assert_allclose(e.weights[0], DEFINED[method](model, z, F).astype(float), atol=2e-14)
    np.testing.assert_allclose(e.prior[0], oracles.prior(model, z, F).astype(float), atol=1e-14)
    assert e.result == sx.RESULTS.successful
    assert e.method == method
    np.testing.assert_array_equal(np.asarray(e.weights)[0, z < 0], 0)


@pytest.mark.parametrize("method", [*ADDITIVE, "deletion"])
def test_terms_and_remainder_add_up_at_every_query_and_belong_to_its_past(method):
    found = sx.filter(CHAIN, Z)
    every = sx.explain(CHAIN, Z, "all", method=method)
    np.testing.assert_allclose(every.prediction, found.next_all(), atol=1e-14)
    np.testing.assert_allclose(every.norms, jnp.abs(every.weights).sum(-1), atol=1e-15)
    if method in ADDITIVE:
        np.testing.assert_allclose(every.remainder, 0, atol=1e-14)
    else:
        assert jnp.abs(every.remainder).max() > 1e-3
    for q in range(8):
        np.testing.assert_array_equal(every.weights[q, q:], 0)
    few = sx.explain(CHAIN, Z, [5, -1, 2], method=method)
    np.testing.assert_allclose(few.weights, every.weights[jnp.array([5, 7, 2])], atol=1e-14)
    np.testing.assert_allclose(few.prior, every.prior[jnp.array([5, 7, 2])], atol=1e-14)


@pytest.mark.parametrize("method", [*ADDITIVE, "deletion"])
def test_a_chain_is_its_operators_in_any_basis_and_an_order_k_chain_its_dense_form(method):
    wanted = sx.explain(CHAIN, Z, method=method)
    operators = as_generalised(CHAIN)
    other, _ = process_oracles.in_another_basis(operators)
    for model in (operators, other):
        np.testing.assert_allclose(sx.explain(model, Z, method=method).weights, wanted.weights, atol=1e-11)
    tuples = random_order_k(jax.random.key(2), 2, 4, 2)
    dense = sx.HiddenMarkovModel(tuples.initial, tuples.transition.dense(), tuples.emission)
    one, two = (sx.explain(m, Z, method=method).weights for m in (tuples, dense))
    np.testing.assert_allclose(one, two, atol=1e-14)


@pytest.mark.parametrize("method", [*ADDITIVE, "deletion"])
def test_a_batch_is_each_sequence_alone(method):
    data = sx.Sequences.from_arrays([Z, Z[:5]])
    last, every = sx.explain(CHAIN, data, method=method), sx.explain(CHAIN, data, "all", method=method)
    for i, part in enumerate(data):
        alone, n = sx.explain(CHAIN, part, method=method), len(part)
        np.testing.assert_allclose(last.weights[i, :, :n], alone.weights, atol=1e-14)
        np.testing.assert_allclose(every.weights[i, n, :n], alone.weights[0], atol=1e-14)
        np.testing.assert_allclose(last.prior[i], alone.prior, atol=1e-14)
        assert (last.weights[i, :, n:] == 0).all()


def test_evidence_has_no_scale():
    """A token that says twice as little of everything is the same evidence: half of C goes to a token that never comes."""
    C = np.asarray(CHAIN.emission)
    diluted = sx.HiddenMarkovModel(
        CHAIN.initial, CHAIN.transition, np.concatenate([C * 1e-3, np.full((3, 1), 0.999)], 1)
    )
    for method in ("integrated", "news", "deletion", "shapley"):
        one, two = sx.explain(CHAIN, Z, method=method), sx.explain(diluted, Z, -1, C, method=method)
        np.testing.assert_allclose(two.weights, one.weights, atol=1e-13)


def test_a_contrast_is_a_difference_of_two_columns_by_symbol_or_code():
    named = sx.HiddenMarkovModel(*CHAIN.arrays, vocabulary=sx.Vocabulary(("a", "b", "c", "d")))
    for method in ("integrated", "deletion"):
        e = sx.explain(CHAIN, Z, method=method)
        for model, pair in (
            (CHAIN, (2, 0)),
            (named, ("c", "a")),
            (CHAIN, ("2", "0")),
            (as_generalised(named), ("c", "a")),
        ):
            why = sx.explain(model, Z, method=method, contrast=pair)
            np.testing.assert_allclose(why.weights[..., 0], e.weights[..., 2] - e.weights[..., 0], atol=1e-12)
            np.testing.assert_allclose(why.prior[..., 0], e.prior[..., 2] - e.prior[..., 0], atol=1e-12)
    assert why.columns == ("c − a",)


def test_deleting_a_token_keeps_digits_where_it_is_rare_and_never_makes_a_string_impossible():
    e = 1e-13
    hmm = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[1 - e, e], [1 - 3 * e, 3 * e]])
    z = np.array([0, 1, 1, 0])
    found = sx.explain(hmm, z, target="state", method="deletion")
    np.testing.assert_allclose(
        found.weights[0], oracles.deletion(hmm, z, np.eye(2)).astype(float), rtol=1e-9, atol=1e-16
    )
    forced = sx.models.two_cycle()  # most strings are impossible
    z = np.asarray(sx.sample(forced, 3, 30)[1])
    found = sx.explain(forced, z, target="state", method="deletion")
    np.testing.assert_allclose(
        found.weights[0], oracles.deletion(forced, z, np.eye(forced.n_states)).astype(float), atol=1e-13
    )


def lost(dtype, zeros, ones):
    """A chain that cannot move: a class whose posterior falls below the smallest number and comes back."""
    C = np.array([[0.7, 0.3], [0.3, 0.7]], dtype)
    return sx.HiddenMarkovModel(np.array([0.5, 0.5], dtype), np.eye(2, dtype=dtype), C), np.r_[
        np.zeros(zeros, int), np.ones(ones, int)
    ]


@pytest.mark.slow  # three functions of scaled numbers to compile
@pytest.mark.parametrize("form", [lambda m: m, as_generalised], ids=["chain", "operators"])
def test_no_mass_underflows_for_good(form):
    hmm, z = lost(
        np.float32, 130, 150
    )  # the odds are (7/3)^(-20); on the way they were (7/3)^130, beyond single precision
    model = form(hmm)
    assert sx.filter(model, z).lost_mass
    step = np.log(7 / 3) * np.where(z == 0, 1, -1)
    odds = np.concatenate([[0], np.cumsum(step)])
    state = 1 / (1 + np.exp(-odds))
    C = np.asarray(hmm.emission, float)
    q = state[:-1] * C[0, z] + (1 - state[:-1]) * C[1, z]

    def slope(alpha, t):  # of the first state's probability, by its odds
        soft = np.log(1 - alpha + alpha * C[:, z] / q)
        p = 1 / (1 + np.exp(soft[1].sum() - soft[0].sum()))
        own = (C[:, z[t]] / q[t] - 1) / (1 - alpha + alpha * C[:, z[t]] / q[t])
        return p * (1 - p) * (own[0] - own[1])

    at = [0, 129, 130, 279]
    wanted = {
        "news": np.diff(state)[at],
        "deletion": [state[-1] - 1 / (1 + np.exp(-(odds[-1] - step[t]))) for t in at],
        "integrated": [integrate.quad(slope, 0, 1, t, epsabs=1e-12, limit=500)[0] for t in at],
    }
    for method, terms in wanted.items():
        e = sx.explain(model, z, target="state", method=method)
        np.testing.assert_allclose(np.asarray(e.weights)[0, at, 0], terms, atol=1e-5)
        np.testing.assert_allclose(e.prediction[0], [state[-1], 1 - state[-1]], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", process_oracles.cases(process_oracles.ALL))
def test_integrated_evidence_adds_up_for_every_process(name):
    model = process_oracles.ALL[name]()
    z = process_oracles.drawn(as_generalised(model), 60)
    e = sx.explain(model, z)
    assert e.result == sx.RESULTS.successful
    np.testing.assert_allclose(e.remainder, 0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*ADDITIVE, "deletion"])
def test_traced_is_eager_mapped_is_a_loop_and_gradients_are_slopes(method):
    terms = lambda m, z: sx.explain(m, z, method=method).weights
    z = jnp.asarray(Z)
    eager = terms(CHAIN, z)
    np.testing.assert_allclose(jax.jit(lambda z: terms(CHAIN, z))(z), eager, atol=1e-12)
    if method == "integrated":
        mapped = jax.vmap(lambda z: terms(CHAIN, z))(jnp.stack([z, z[::-1]]))
        np.testing.assert_allclose(mapped, jnp.stack([eager, terms(CHAIN, z[::-1])]), atol=1e-12)
    move = np.array([0.3, -0.5, 0.2])
    of = lambda x: jnp.sum(terms(eqx.tree_at(lambda m: m.initial, CHAIN, CHAIN.initial + x * move), z)[0, :, 1] ** 2)
    slope = jax.jit(jax.grad(of))(0.0)
    np.testing.assert_allclose(slope, (of(jnp.asarray(1e-5)) - of(jnp.asarray(-1e-5))) / 2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("control", "shapley")]
    + ["integrated", "news", "deletion"],
)
def test_single_precision_stays_single_and_nothing_is_nothing(method):
    single = jax.tree.map(lambda a: a.astype(jnp.float32), CHAIN)
    e, wide = sx.explain(single, Z, method=method), sx.explain(CHAIN, Z, method=method)
    assert e.weights.dtype == e.prior.dtype == jnp.float32
    np.testing.assert_allclose(e.weights, wide.weights, atol=2e-6)
    assert e.result == sx.RESULTS.successful
    assert sx.explain(CHAIN, Z, method=method, dtype=jnp.float32).weights.dtype == jnp.float32
    missing = sx.explain(CHAIN, np.full(7, -1), method=method)
    np.testing.assert_array_equal(missing.weights, 0)
    assert sx.explain(CHAIN, np.zeros(0, int), method=method).weights.shape == (1, 0, 4)


def test_explain_rejects_methods_contrasts_and_orders_that_do_not_fit():
    refused = lambda words, error=sx.ConfigurationError: pytest.raises(error, match=words)
    with refused("choose one of 'integrated', 'control', 'news', 'deletion', 'shapley'"):
        sx.explain(CHAIN, Z, method="saliency")
    with refused("orders=5 is of method='shapley'"):
        sx.explain(CHAIN, Z, orders=5)
    with refused("orders is 0"):
        sx.explain(CHAIN, Z, method="shapley", orders=0)
    with refused("none of the tokens '0', '1', '2', '3'", sx.DataError):
        sx.explain(CHAIN, Z, contrast=(0, 4))
    with refused("none of the tokens", sx.DataError):
        sx.explain(QUBIT, SIGNS, contrast=("x", 0))
    with refused("a pair of tokens"):
        sx.explain(CHAIN, Z, contrast="01")
    with refused('leave target="next"'):
        sx.explain(CHAIN, Z, target="state", contrast=(0, 1))
    with refused("has no option 'nodes'"):
        sx.explain(CHAIN, Z, nodes=3)
    impossible = sx.models.two_cycle()
    for method in (*ADDITIVE, "deletion"):
        with pytest.raises(sx.ImpossibleTokenError):
            sx.explain(impossible, np.array([1, 1]), method=method)
        stepped = sx.explain(impossible, np.array([1, 1, 0]), method=method, on_impossible="skip")
        np.testing.assert_array_equal(stepped.weights[0, 1], 0)
