"""Every process of the zoo against sums over paths, density matrices and plain products; entropies; what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import process_oracles as oracles
import pytest

import steerax as sx
from steerax.maths import beliefs as cloud
from steerax.models import as_generalised, conditional_entropy, entropy_rate

SHORT = {"days_of_week": 3, "leaky_rrxor": 4, "product": 5}


def entropy(*p):
    return -sum(x * math.log(x) for x in p if x > 0)


@pytest.mark.parametrize("name", oracles.CLASSICAL)
def test_beliefs_of_a_chain_are_sums_over_its_paths(name):
    model = oracles.CLASSICAL[name]()
    z = oracles.drawn(model, SHORT.get(name, 6))
    gappy = np.where(np.arange(len(z)) == 1, -1, z)
    for tokens in (z, gappy):
        beliefs, following = oracles.by_paths(model, tokens)
        found = sx.filter(as_generalised(model), tokens)
        np.testing.assert_allclose(found.predicted, beliefs, atol=1e-12)
        np.testing.assert_allclose(found.next_all(), following, atol=1e-12)


@pytest.mark.parametrize("name", oracles.ALL)
def test_beliefs_are_products_of_operators(name):
    model = oracles.ALL[name]()
    z = oracles.drawn(model, 25, key=1)
    z[[3, 11]] = -1
    beliefs, following = oracles.by_products(model, z)
    found = sx.filter(as_generalised(model), z)
    np.testing.assert_allclose(found.predicted, beliefs, atol=1e-12 * np.abs(beliefs).max())
    np.testing.assert_allclose(found.next_all(), following, atol=1e-12)
    log_q = [np.log(q[token]) if token >= 0 else 0 for q, token in zip(following[:-1], z, strict=True)]
    np.testing.assert_allclose(found.log_likelihoods, log_q, atol=1e-11)


@pytest.mark.parametrize("name", oracles.ALL)
def test_strings_have_probabilities_that_are_consistent(name):
    model = as_generalised(oracles.ALL[name]())
    length = max(1, int(math.log(3000) / math.log(model.n_tokens)))
    short, long = (dict(oracles.string_probabilities(model, n)) for n in (length - 1, length))
    assert min(long.values()) > -1e-12
    assert sum(long.values()) == pytest.approx(1, abs=1e-12)
    for z, q in short.items():
        assert sum(long[(*z, token)] for token in range(model.n_tokens)) == pytest.approx(q, abs=1e-12)


@pytest.mark.parametrize(("n_levels", "n_tokens"), [(2, 3), (3, 2), (4, 2)])
def test_a_measured_quantum_system_is_its_density_matrix(n_levels, n_tokens, monkeypatch):
    taken = []
    instrument = sx.models.instrument
    monkeypatch.setattr(
        "steerax.models.quantum.instrument", lambda kraus: taken.append(np.array(kraus)) or instrument(kraus)
    )
    model = sx.models.random_quantum(5, n_levels, n_tokens)
    kraus, B = taken[0], sx.models.hermitian_basis(n_levels)
    np.testing.assert_allclose(np.einsum("aij,bji->ab", B, B), np.eye(n_levels**2), atol=1e-14)
    z = oracles.drawn(model, 12)
    as_matrix = lambda p: np.einsum("...a,aij->...ij", np.asarray(p), B)
    start = as_matrix(model.initial)
    density, following = oracles.by_density(kraus, start, z)
    found = sx.filter(model, z)
    np.testing.assert_allclose(as_matrix(found.predicted), density, atol=1e-12)
    np.testing.assert_allclose(found.next_all(), following, atol=1e-12)
    moved = sum(K @ start @ K.conj().T for K in kraus)
    np.testing.assert_allclose(moved, start, atol=1e-12)  # stationary
    pure = np.zeros((n_levels, n_levels))
    pure[0, 0] = 1
    given = instrument(kraus, pure)
    density, following = oracles.by_density(kraus, pure.astype(complex), z)
    np.testing.assert_allclose(as_matrix(sx.filter(given, z).predicted), density, atol=1e-12)


def test_the_bloch_walk_is_the_measurement_of_its_docstring():
    alpha, beta = 1.0, math.sqrt(51)
    x, zed, one = np.array([[0, 1], [1, 0]]), np.diag([1, -1]), np.eye(2)
    scale = 2 * math.sqrt(alpha**2 + beta**2)
    kraus = [(alpha * one + s * beta * m) / scale for m in (zed, x) for s in (1, -1)]
    model = sx.models.tom_quantum()
    z = oracles.drawn(model, 30)
    density, following = oracles.by_density(kraus, np.eye(2) / 2, z)
    found = sx.filter(model, z)
    np.testing.assert_allclose(found.next_all(), following, atol=1e-12)
    coordinates = [[np.trace(m @ rho).real for m in (one, x, zed)] for rho in density]
    np.testing.assert_allclose(found.predicted, coordinates, atol=1e-12)


def test_days_of_week_are_the_weights_of_the_docstring():
    T, names = np.asarray(sx.models.days_of_week().operators), sx.models.days_of_week().vocabulary.symbols
    at = {name: i for i, name in enumerate(names)}
    np.testing.assert_allclose(T[at["Tue"], 0, 1], 5 / 15)
    np.testing.assert_allclose(T[at["Fri"], 0, 4], 1 / 15)
    np.testing.assert_allclose(T[at["tomorrow"], 6, 0], 1 / 15)
    np.testing.assert_allclose(T[at["yesterday"], 0, 6], 1 / 15)
    np.testing.assert_allclose(T[at["weekend"], 2], [0, 0, 0, 0, 0, 1 / 30, 1 / 30])
    np.testing.assert_allclose(T[at["weekday"], 2], [1 / 75] * 5 + [0, 0])
    np.testing.assert_allclose(T.sum((0, 2)), 1)


RATES = {
    "coin": (lambda: sx.models.coin(0.3), entropy(0.3, 0.7), 1),
    "zero_one_random": (lambda: sx.models.zero_one_random(0.3), entropy(0.3, 0.7) / 3, 7),
    "golden_mean": (lambda: sx.models.golden_mean(0.3), entropy(0.3, 0.7) / 1.3, 3),
    "even": (lambda: sx.models.even(0.3), entropy(0.3, 0.7) / 1.3, 4),
    "rrxor": (lambda: sx.models.rrxor(), 2 / 3 * math.log(2), 36),
    "two_cycle": (lambda: as_generalised(sx.models.two_cycle(8, 4, 0.3)), entropy(0.3, 0.7) / (0.3 * 8 + 0.7 * 5), None),
    "independent": (
        lambda: sx.models.product(sx.models.coin(0.2), sx.models.golden_mean(0.3)),
        entropy(0.2, 0.8) + entropy(0.3, 0.7) / 1.3,
        3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_entropy_rates_are_their_closed_forms(name):
    build, wanted, n_beliefs = RATES[name]
    found = entropy_rate(build())
    assert found.exact
    assert found.mean == pytest.approx(wanted, abs=1e-12)
    p0, T, w = oracles.operators_of(build())
    beliefs, edges, closed = cloud.reachable(p0[None], T, w)
    assert closed
    assert n_beliefs in (None, len(beliefs))
    for at, z, to, odds in edges:
        after = beliefs[at] @ T[z]
        assert odds == pytest.approx(after @ w, abs=1e-15)
        np.testing.assert_allclose(after / odds, beliefs[to], atol=1e-10)
    leaving = np.zeros(len(beliefs))
    np.add.at(leaving, [at for at, *_ in edges], [odds for *_, odds in edges])
    np.testing.assert_allclose(leaving, 1, atol=1e-13)


@pytest.mark.parametrize("name", ["even", "sns", "tom_quantum", "random_quantum", "post_quantum", "fanizza"])
def test_conditional_entropies_add_up_to_the_entropy_of_all_strings(name):
    model = oracles.ALL[name]()
    found = conditional_entropy(model, 4)
    q = [q for _, q in oracles.string_probabilities(model, 4)]
    assert found.exact
    np.testing.assert_allclose(found.per_token.sum(), entropy(*(x for x in q if x > 1e-14)), atol=1e-12)
    assert (np.diff(found.per_token) < 1e-12).all()  # from the stationary belief it never grows


@pytest.mark.parametrize("name", ["casino", "mess3", "two_cycle"])
def test_a_chain_and_its_operators_have_the_same_entropies(name):
    model = oracles.CLASSICAL[name]()
    other = as_generalised(model)
    np.testing.assert_allclose(
        conditional_entropy(model, 5).per_token, conditional_entropy(other, 5).per_token, atol=1e-13
    )
    options = {"samples": 200, "max_beliefs": 1}
    one, two = (conditional_entropy(m, 20, **options) for m in (model, other))
    assert abs(one.mean - two.mean) < 5 * math.hypot(one.standard_error, two.standard_error)


def test_a_simulated_entropy_is_the_exact_one_within_its_standard_error():
    model = sx.models.tom_quantum()
    exact, simulated = conditional_entropy(model, 4), conditional_entropy(model, 4, max_beliefs=1, samples=4000)
    assert exact.exact
    assert not simulated.exact
    assert 0 < simulated.standard_error < 0.01
    assert abs(simulated.mean - exact.mean) < 5 * simulated.standard_error


def test_a_search_for_beliefs_stops_where_it_is_told():
    p0, T, w = oracles.operators_of(sx.models.tom_quantum())
    beliefs, edges, closed = cloud.reachable(p0[None], T, w, max_beliefs=50)
    assert not closed
    assert 10 < len(beliefs) <= 50
    assert all(at < len(beliefs) and to < len(beliefs) for at, _, to, _ in edges)
    start = np.stack([p0, beliefs[3]])
    again, _, _ = cloud.reachable(start, T, w, max_beliefs=50)
    np.testing.assert_array_equal(again[:2], start)
    p0, T, w = oracles.operators_of(sx.models.even(0.3))
    both = cloud.reachable(np.stack([p0, p0 * (1 + 1e-14)]), T, w)
    assert len(both[0]) == 4
    p0, T, w = oracles.operators_of(sx.models.sns())
    assert not cloud.reachable(p0[None], T, w, max_beliefs=200)[2]
    assert cloud.reachable(p0[None], T, w, max_beliefs=200, tolerance=0.01)[2]


def test_beliefs_on_the_line_of_a_grid_are_one():
    half = 0.5 * (1 + 1e-11)  # two roundings apart, on either side of a line of the grid of logarithms
    line = math.exp((round(math.log(half) / 1e-11) + 0.5) * 1e-11)
    points = np.array([[line * (1 - 1e-15), 1 - line], [line * (1 + 1e-15), 1 - line]])
    found = cloud.reachable(points, np.eye(2)[None], np.ones(2))[0]
    assert len(found) == 1


@pytest.mark.parametrize("name", ["even", "tom_quantum", "post_quantum", "mixture"])
def test_samples_have_the_probabilities_of_their_strings(name):
    model = oracles.ALL[name]()
    n = 4000
    beliefs, z = sx.sample(model, 0, 3, n)
    assert beliefs.shape == (n, 3, model.n_states)
    for string, q in oracles.string_probabilities(model, 3):
        share = (np.asarray(z) == string).all(1).mean()
        assert abs(share - q) < 5 * math.sqrt(max(q, 1e-9) / n)
        assert q > 1e-13 or share == 0
    np.testing.assert_allclose(sx.filter(model, z[0]).predicted[:-1], beliefs[0], atol=1e-12)


@pytest.mark.parametrize("name", ["days_of_week", "tom_quantum", "mixture of quantum processes"])
def test_a_saved_process_is_the_same_process(name, tmp_path):
    model = oracles.ALL[name]()
    sx.save(model, tmp_path / "model")
    loaded = sx.load(tmp_path / "model")
    assert loaded.vocabulary == model.vocabulary
    for one, other in zip(loaded.arrays, model.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_processes_speak_with_their_symbols():
    model = sx.models.parentheses()
    found = sx.filter(model, ["(", "(", ")"])
    np.testing.assert_array_equal(found.predicted, sx.filter(model, [0, 0, 1]).predicted)
    data = sx.sample_sequences(model, 0, 3, 8)
    assert data.vocabulary == model.vocabulary
    names = sx.models.product(sx.models.even(), model).vocabulary.symbols
    assert names == ("0|(", "0|)", "1|(", "1|)")


def test_the_stationary_belief_and_other_starts():
    for name in ("even", "tom_quantum", "post_quantum", "qutrit", "fanizza"):
        model = oracles.ALL[name]()
        p, A = np.asarray(model.stationary()), np.asarray(model.operators).sum(0)
        np.testing.assert_allclose(p @ A, p, atol=1e-13 * np.abs(p).max())
        assert p @ np.asarray(model.evaluation) == pytest.approx(1, abs=1e-13)
    even = sx.models.even().started([1.0, 0.0])
    np.testing.assert_array_equal(even.initial, [1, 0])
    np.testing.assert_allclose(even.started("stationary").initial, sx.models.even().initial)
    with pytest.raises(sx.ConfigurationError, match="initial='warm'"):
        even.started("warm")
    mixture = oracles.CLASSICAL["mixture"]()
    np.testing.assert_allclose(mixture.initial[:2], 0.25 * np.asarray(sx.models.even(0.3).initial))
    assert mixture.is_classical
    assert not sx.models.tom_quantum().is_classical


def test_processes_of_classes_that_are_known():
    assert sx.models.golden_mean().n_states == 2
    strings = dict(oracles.string_probabilities(sx.models.golden_mean(), 6))
    assert all((q > 0) == ("11" not in "".join(map(str, z))) for z, q in strings.items())
    for z, q in oracles.string_probabilities(sx.models.even().started([1.0, 0.0]), 7):
        runs = [len(run) for run in "".join(map(str, z)).split("0")]
        assert (q > 0) == all(n % 2 == 0 for n in runs[:-1])
    pairs = dict(oracles.string_probabilities(sx.models.rrxor(), 2))
    np.testing.assert_allclose(list(pairs.values()), 0.25)  # pairs are independent, triples are not
    triples = list(dict(oracles.string_probabilities(sx.models.rrxor(), 3)).values())
    assert np.ptp(triples) > 0.05


def test_one_precision_and_a_kept_one():
    T = np.asarray(sx.models.even().operators, np.float32)
    model = sx.GeneralisedHMM(None, T)
    assert {a.dtype for a in model.arrays} == {jnp.dtype("float32")}
    assert sx.filter(model, [0, 1, 1]).predicted.dtype == jnp.float32


EVEN = np.asarray(sx.models.even().operators)
QUBIT = [np.diag([1.0, 0]), np.diag([0, 1.0])]
REFUSED = {
    "operators of no matrix": (lambda: sx.GeneralisedHMM(None, np.ones((2, 2))), r"\[V d d\]"),
    "operators that are not square": (lambda: sx.GeneralisedHMM(None, np.ones((2, 2, 3))), "square"),
    "no operator": (lambda: sx.GeneralisedHMM(None, np.ones((0, 2, 2))), "shape"),
    "a NaN": (lambda: sx.GeneralisedHMM(None, np.where(EVEN == 1, np.nan, EVEN)), "not finite"),
    "an infinite start": (lambda: sx.GeneralisedHMM([np.inf, 0], EVEN), "not finite"),
    "a start of another size": (lambda: sx.GeneralisedHMM([1.0, 0, 0], EVEN), "`initial` has shape"),
    "an evaluation of another size": (
        lambda: sx.GeneralisedHMM(None, EVEN, evaluation=np.ones(3)), "`evaluation` has shape|mass|shape"),
    "a start of another mass": (lambda: sx.GeneralisedHMM([0.5, 0.4], EVEN), "mass 0.9"),
    "no eigenvalue one": (lambda: sx.GeneralisedHMM(None, 0.5 * EVEN), "eigenvalue 1"),
    "an evaluation that is not kept": (lambda: sx.GeneralisedHMM([1.0, 0], EVEN, evaluation=[1.0, 0]), "keep"),
    "several evaluations": (lambda: sx.GeneralisedHMM([1.0, 0], [np.diag([2.0, 1]), np.diag([-1.0, 0])]), "probability -1"),
    "several evaluations of one": (lambda: sx.GeneralisedHMM(None, [[[1, 1.0, 0], [0, 1, 0], [0, 0, 1]]]), "several"),
    "a negative string": (
        lambda: sx.GeneralisedHMM([1.0, 0], [np.diag([1.2, 0.5]), np.diag([-0.2, 0.5])]),
        "string .* would have probability -"),
    "a vocabulary of another size": (
        lambda: sx.GeneralisedHMM(None, EVEN, vocabulary=sx.Vocabulary(("a", "b", "c"))), "3 symbols"),
    "a mixture of other vocabularies": (
        lambda: sx.models.mixture([sx.models.parentheses(), sx.models.even()]), "same tokens"),
    "a mixture of other numbers of tokens": (
        lambda: sx.models.mixture([sx.models.coin(), sx.models.casino()]), "same tokens"),
    "weights that are no distribution": (
        lambda: sx.models.mixture([sx.models.coin(), sx.models.even()], [0.5, 0.6]), "probabilities with sum one"),
    "a negative weight": (lambda: sx.models.mixture([sx.models.coin(), sx.models.even()], [1.5, -0.5]), "sum one"),
    "weights of another number": (lambda: sx.models.mixture([sx.models.coin()], [0.5, 0.5]), "weights of 1"),
    "Kraus operators that do not add up": (lambda: sx.models.instrument([QUBIT[0], 0.5 * QUBIT[1]]), "add up to one"),
    "Kraus operators of other shapes": (lambda: sx.models.instrument(np.ones((2, 2))), r"\[V n n\]"),
    "Kraus operators with a NaN": (lambda: sx.models.instrument([QUBIT[0], np.nan * QUBIT[1]]), "add up to one"),
    "no density matrix": (lambda: sx.models.instrument(QUBIT, np.diag([1.5, -0.5])), "density"),
    "a density matrix of another size": (lambda: sx.models.instrument(QUBIT, np.eye(3) / 3), "density"),
    "a density matrix of another trace": (lambda: sx.models.instrument(QUBIT, np.eye(2)), "mass 2"),
}  # fmt: skip
MISUSED = {
    "no process in a product": (lambda: sx.models.product(), "at least one"),
    "no process in a mixture": (lambda: sx.models.mixture([]), "at least one"),
    "another model": (lambda: as_generalised(np.eye(2)), "not to a ndarray"),
    "open probabilities": (lambda: sx.models.parentheses((0.5, 0.5)), "1 first"),
    "alpha + beta": (lambda: sx.models.post_quantum(math.log(1.5), 0.5), "alpha"),
    "p + q": (lambda: sx.models.mr_name(0.9, 0.2), "p \\+ q <= 1"),
    "a probability": (lambda: sx.models.even(1.5), "p"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_process_is_refused_in_a_sentence(name):
    build, said = REFUSED[name]
    with pytest.raises(sx.DataError, match=said) as error:
        build()
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_a_sentence(name):
    build, said = MISUSED[name]
    with pytest.raises(sx.ConfigurationError, match=said):
        build()


def test_inside_jit_nothing_is_guessed():
    with pytest.raises(sx.ConfigurationError, match="Inside jit"):
        jax.jit(lambda T: sx.GeneralisedHMM(None, T).initial)(EVEN)
    p0, T, w = sx.models.tom_quantum().arrays
    found = jax.jit(
        lambda p0, T, w: sx.filter(sx.GeneralisedHMM(p0, T, evaluation=w), jnp.array([0, 1])).log_likelihood
    )
    np.testing.assert_allclose(found(p0, T, w), sx.filter(sx.models.tom_quantum(), [0, 1]).log_likelihood)


@pytest.mark.slow
def test_the_evaluation_of_a_process_without_ones_is_found():
    for name in oracles.SIGNED:
        p0, T, w = (np.asarray(a) for a in oracles.SIGNED[name]().arrays)
        if "mixture" in name:
            continue
        found = sx.GeneralisedHMM(p0, T)
        z = oracles.drawn(found, 6)
        np.testing.assert_allclose(
            sx.filter(found, z).next_all(), sx.filter(sx.GeneralisedHMM(p0, T, evaluation=w), z).next_all(), atol=1e-12
        )
