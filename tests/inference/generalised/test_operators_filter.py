"""The filter, scores and forecasts of operators: gaps, batches, impossible tokens, underflow, and other verbs."""

import jax
import jax.numpy as jnp
import numpy as np
import process_oracles as oracles
import pytest
from scipy.special import expit

import steerax as sx
from steerax.inference.generalised.kernels.recursions import other_operators
from steerax.inference.predictor import as_predictor
from steerax.models import as_generalised

TOM = sx.models.tom_quantum()
CHAINS = ("casino", "mess3", "two_cycle", "left_right")


def projective(angle=0.3):
    """A qubit that is measured again and again along one axis: the first outcome stays, the other is impossible."""
    a = np.array([np.cos(angle), np.sin(angle)])
    b = np.array([-np.sin(angle), np.cos(angle)])
    return sx.models.instrument([np.outer(a, a), np.outer(b, b)], np.eye(2) / 2)


@pytest.mark.parametrize("name", oracles.cases(oracles.SIGNED))
def test_a_missing_token_is_summed_over(name):
    model = oracles.SIGNED[name]()
    z = oracles.drawn(model, 8)
    gappy = z.copy()
    gappy[3] = -1
    each = [
        sx.filter(model, np.where(gappy < 0, v, gappy), on_impossible="skip").log_likelihood
        for v in range(model.n_tokens)
    ]
    found = sx.filter(model, gappy)
    np.testing.assert_allclose(found.log_likelihood, np.logaddexp.reduce(each), atol=1e-11)
    assert found.log_likelihoods[3] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["tom_quantum", "even", "mixture"]))
def test_a_batch_is_each_sequence_alone(name):
    model = oracles.ALL[name]()
    z = oracles.drawn(model, 12)
    data = sx.Sequences.from_arrays([z, z[:5], np.where(np.arange(9) == 2, -1, z[:9])])
    found, ahead = sx.filter(model, data), sx.forecast(model, data, 3)
    for i, part in enumerate(data):
        alone = sx.filter(model, part)
        np.testing.assert_allclose(found.predicted[i, : len(part) + 1], alone.predicted, atol=1e-13)
        np.testing.assert_allclose(found.next()[i], alone.next(), atol=1e-13)
        np.testing.assert_allclose(ahead.probabilities[i], sx.forecast(model, part, 3).probabilities, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(CHAINS))
def test_a_chain_and_its_operators_have_the_same_numbers(name):
    model = oracles.CLASSICAL[name]()
    other = as_generalised(model)
    z = oracles.drawn(model, 30)
    z[[4, 9]] = -1
    data = sx.Sequences.from_arrays([z, z[:7]])
    one, two = sx.filter(model, data), sx.filter(other, data)
    for field in ("predicted", "filtered", "log_likelihoods", "log_likelihood"):
        np.testing.assert_allclose(getattr(one, field), getattr(two, field), atol=1e-12)
    np.testing.assert_allclose(one.next_all(), two.next_all(), atol=1e-13)
    ahead = [sx.forecast(m, data, 4) for m in (model, other)]
    np.testing.assert_allclose(ahead[0].probabilities, ahead[1].probabilities, atol=1e-13)
    np.testing.assert_allclose(ahead[0].states, ahead[1].states, atol=1e-13)
    np.testing.assert_array_equal(ahead[0].interval(0.8), ahead[1].interval(0.8))
    tokens = np.array(z[:4])
    for reference in ("uniform", None, "own"):
        shown = [
            sx.represent(sx.next_token_predictor(m, 1), tokens, m.n_tokens, m if reference == "own" else reference)
            for m in (model, other)
        ]
        np.testing.assert_allclose(shown[0].values, shown[1].values, atol=1e-9)
        assert shown[0].method == shown[1].method
    scores = [sx.score(m, data) for m in (model, other)]
    np.testing.assert_allclose(scores[0].log_likelihoods, scores[1].log_likelihoods, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", oracles.cases(["even", "mr_name", "mess3"]))
def test_filtered_distributions_are_those_given_the_token_itself(name):
    model = as_generalised(oracles.CLASSICAL[name]())
    z = oracles.drawn(model, 6)
    z[2] = -1
    T = oracles.operators_of(model)[1]
    beliefs, _ = oracles.by_paths(model, z)
    for t, token in enumerate(z):
        joint = np.array([b * (1 if token < 0 else T[token, i].sum()) for i, b in enumerate(beliefs[t])])
        np.testing.assert_allclose(sx.filter(model, z).filtered[t], joint / joint.sum(), atol=1e-13)
    np.testing.assert_allclose(
        jax.jit(lambda z: sx.filter(model, z).filtered)(z), sx.filter(model, z).filtered, atol=1e-14
    )


def test_a_belief_with_signs_has_no_filtered_distribution():
    with pytest.raises(sx.ConfigurationError, match="not distributions of a hidden state"):
        _ = sx.filter(TOM, [0, 1]).filtered
    with pytest.raises(Exception, match="not distributions of a hidden state"):
        jax.block_until_ready(jax.jit(lambda m: sx.filter(m, jnp.array([0, 1])).filtered)(TOM))
    twice = sx.GeneralisedHMM([0.5], [[[0.5]], [[0.5]]], evaluation=[2.0])
    with pytest.raises(sx.ConfigurationError, match="use `predicted`"):
        _ = sx.filter(twice, [0, 1]).filtered


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0.0, 0.3, 1.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_impossible_token_of_rounding_size_is_impossible(angle, dtype):
    model = projective(angle)
    model = sx.GeneralisedHMM(
        *(np.asarray(a, dtype) for a in model.arrays[:2]), evaluation=np.asarray(model.arrays[2], dtype)
    )
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.filter(model, sx.Sequences.from_arrays([[0, 0, 0], [1, 1, 0]]))
    assert (error.value.sequence, error.value.position, error.value.token) == (1, 2, 0)
    found = sx.filter(model, np.array([1, 1, 0, 1]), on_impossible="skip")
    np.testing.assert_array_equal(found.tokens, [1, 1, -1, 1])
    np.testing.assert_array_equal(found.next_all()[1:, 0], 0)
    assert found.log_likelihood == -np.inf
    assert found.result == sx.RESULTS.impossible_token
    traced = jax.jit(lambda z: (sx.filter(model, z).log_likelihood, sx.filter(model, z).predicted))(
        np.array([1, 1, 0, 1])
    )
    assert traced[0] == -np.inf
    np.testing.assert_allclose(traced[1], found.predicted, atol=1e-6)
    scores = sx.score(model, sx.Sequences.from_arrays([[1, 1, 0, 1]]), on_impossible="skip")
    assert scores.log_likelihoods[0, 2] == -np.inf
    data = sx.Sequences.from_arrays([[0, 0]] * 300 + [[0, 1]])
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.score(model, data)
    assert (error.value.sequence, error.value.position) == (300, 1)


def test_a_rare_token_is_not_impossible():
    q = 1e-12
    model = sx.models.instrument([np.diag([np.sqrt(1 - q), 0.6]), np.diag([np.sqrt(q), 0.8])], np.diag([1.0, 0.0]))
    np.testing.assert_allclose(sx.filter(model, [1]).log_likelihood, np.log(q), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
def test_no_mass_underflows_for_good(dtype):
    """Two coins of which one is tossed for ever: evidence that has turned against one of them can turn again."""
    model = sx.models.mixture([sx.models.coin(0.1), sx.models.coin(0.9)])
    model = sx.GeneralisedHMM(*(np.asarray(a, dtype) for a in model.arrays[:2]))
    z = np.repeat([0, 1, 0], [700, 1200, 100])
    log_odds = np.cumsum(np.where(z == 0, np.log(0.9 / 0.1), np.log(0.1 / 0.9)))
    for found in (sx.filter(model, z), jax.jit(lambda z: sx.filter(model, z))(z)):
        assert found.lost_mass
        np.testing.assert_allclose(found.predicted[1:, 0], expit(log_odds), atol=1e-3 if dtype == np.float32 else 1e-9)
    q = np.asarray(sx.filter(model, z).next_all())
    np.testing.assert_allclose(q[:, 0], 0.1 + 0.8 * np.asarray(sx.filter(model, z).predicted[:, 0]), atol=1e-6)
    np.testing.assert_allclose(np.exp(as_predictor(model).log_probabilities(z[None])[0]), q, atol=1e-6)
    np.testing.assert_allclose(sx.filter(model, z).filtered.sum(-1), 1, atol=1e-6)
    s = sx.dual_filter(model, z, layers=1, initial="filter")
    np.testing.assert_allclose(s.predicted, sx.filter(model, z).predicted, atol=1e-3 if dtype == np.float32 else 1e-8)
    e = sx.explain(model, z, [1900], "state", "control")
    np.testing.assert_allclose(
        e.prior[0] + e.weights[0].sum(0),
        sx.filter(model, z).predicted[1900],
        atol=1e-2 if dtype == np.float32 else 1e-9,
    )


def test_a_token_that_only_a_lost_state_emits_is_possible():
    operators = [np.diag([0.5, 1e-3, 0]), np.diag([0.5, 0, 0.5]), np.diag([0, 0.999, 0.5])]
    model = sx.GeneralisedHMM([0.5, 0.25, 0.25], operators)
    found = sx.filter(model, np.repeat([0, 2], [400, 3]))  # underflows: (1/500)^400
    np.testing.assert_allclose(found.predicted[-1], [0, 1, 0], atol=1e-14)
    wanted = np.log(0.25) + 400 * np.log(1e-3) + 3 * np.log(0.999)
    np.testing.assert_allclose(found.log_likelihood, wanted, rtol=1e-9)


@pytest.mark.parametrize("name", oracles.cases(["tom_quantum", "even", "post_quantum"]))
def test_forecasts_are_sums_over_strings(name):
    model = oracles.ALL[name]()
    _, T, w = oracles.operators_of(model)
    z = oracles.drawn(model, 4)
    found = sx.forecast(model, z, 3)
    p = oracles.by_products(model, z)[0][-1]
    for j in range(3):
        total = np.zeros(len(T))
        for string in np.ndindex(*(len(T),) * (j + 1)):
            row = p
            for token in string:
                row = row @ T[token]
            total[string[-1]] += row @ w
        np.testing.assert_allclose(found.probabilities[j], total, atol=1e-13)
    assert found.interval(0.9).shape == (3, model.n_tokens)
    assert found.result == sx.RESULTS.successful


@pytest.mark.slow
def test_a_process_is_a_predictor():
    data = sx.sample_sequences(TOM, 0, 6, 9)
    log_p = np.asarray(as_predictor(TOM).log_probabilities(data.values))
    assert log_p.shape == (6, 10, 4)
    np.testing.assert_allclose(log_p, np.log(sx.filter(TOM, data).next_all()), atol=1e-14)
    scores = sx.score(TOM, data)
    np.testing.assert_allclose(scores.log_likelihoods, sx.filter(TOM, data).log_likelihoods, atol=1e-14)
    other = sx.models.tom_quantum(1.0, 3.0)
    excess = sx.compare_predictors({"a": TOM, "b": other}, data).excess["b"][0]
    np.testing.assert_allclose(excess, sx.score(other, data).cross_entropy - scores.cross_entropy, atol=1e-13)
    gappy = data.values.copy()
    gappy[:, 2] = -1
    assert sx.score(TOM, gappy).scored.sum() == 48


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["uniform", None, "own", "support"])
def test_a_representation_of_a_process_with_signs_adds_up(reference):
    model = oracles.SIGNED["random_quantum"]()
    z = oracles.drawn(model, 6)
    z[2] = -1
    given = {"own": model, "support": sx.support(model)}.get(reference, reference)
    found = sx.represent(sx.next_token_predictor(model, 1), z, 3, given)
    assert found.method == "enumeration"
    q = np.asarray(sx.filter(model, z).next_all())
    np.testing.assert_allclose(found.values[0] + found.contributions.sum(), q[-1, 1], atol=1e-12)
    assert found.contributions[2] == 0
    if reference == "own":  # the news: differences of forecasts
        ahead = [sx.forecast(model, z[:t], 7 - t).probabilities[-1, 1] for t in range(7)]
        np.testing.assert_allclose(found.values, ahead, atol=1e-12)
    drawn = sx.represent(sx.next_token_predictor(model, 1), z, 3, given, samples=64)
    assert (np.abs(drawn.values - found.values) <= 6 * drawn.standard_error + 1e-12).all()


def test_a_reference_of_operators_forbids_what_is_impossible():
    even = sx.models.even().started([1.0, 0.0])
    with pytest.raises(sx.ImpossibleTokenError):
        sx.represent(sx.next_token_predictor(even, 1), [1, 0], 2, sx.support(even))
    found = sx.represent(sx.next_token_predictor(even, 1), [0, 1, 1, 1], 2, sx.support(even))
    assert found.method == "merged beliefs"
    assert found.contributions[2] == 0  # the second of two ones has no alternative
    assert found.values[-1] == 1
    with pytest.raises(sx.ImpossibleTokenError):
        sx.represent(sx.next_token_predictor(projective(), 1), [0, 1], 2, projective())


def test_others_are_sums_without_cancellation():
    T = np.array([[[1e-20]], [[0.25]], [[0.75]]])
    np.testing.assert_allclose(other_operators(jnp.asarray(T))[:, 0, 0], [0, 1, 0.75 + 1e-20, 0.25], rtol=1e-15)
    small = np.array([[[1.0]], [[1e-20]], [[3e-25]]])
    np.testing.assert_allclose(other_operators(jnp.asarray(small))[1, 0, 0], 1e-20 + 3e-25, rtol=1e-15)


def test_what_this_room_lacks_is_said_in_a_sentence():
    z, data = [0, 1], [[0, 1], [1, 0, 2]]
    for verb, said in (
        (lambda: sx.smooth(TOM, z), "smooth does not take a GeneralisedHMM. Its belief"),
        (lambda: sx.fit(TOM, data), "fit does not take a GeneralisedHMM. The matrices"),
        (lambda: sx.select([TOM], data), "fit does not take a GeneralisedHMM"),
        (lambda: sx.most_likely_states(TOM, z), "most_likely_states does not take a GeneralisedHMM. Its states"),
        (lambda: sx.explain_norms(TOM, np.array(z)), "explain_norms takes a HiddenMarkovModel"),
        (lambda: sx.optimal_control(TOM, 2, np.ones(3)), "optimal_control takes a HiddenMarkovModel"),
        (
            lambda: sx.fit_online(TOM, [sx.Sequences.from_arrays([np.array([0, 1])])]),
            "fit_online takes a HiddenMarkovModel",
        ),
        (
            lambda: sx.smooth("a model", z),
            "smooth takes a HiddenMarkovModel or a HiddenMarkovModel of numbers or a conditionally Markov model or a linear-Gaussian model, not a str",
        ),
        (lambda: sx.filter(TOM, z, flavour=1), "filter of a GeneralisedHMM has no option 'flavour'"),
    ):
        with pytest.raises(sx.ConfigurationError, match=said):
            verb()
    with pytest.raises(sx.DataError, match="codes are 0 … 3"):
        sx.filter(TOM, [0, 4])
