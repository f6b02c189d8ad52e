"""The Wiener filter against dense normal equations, enumeration, the linear-Gaussian wing, and closed forms."""

import dataclasses
import functools
import math
from unittest import mock

import beliefs_oracles as oracles
import numpy as np
import process_oracles as processes
import pytest

import steerax as sx
from steerax.beliefs import second_moments, second_order, wiener

MODELS = sx.models
T = 6
PROCESSES = {
    "mess3": lambda: MODELS.mess3(),
    "mess3 (.15, .6)": lambda: MODELS.mess3(0.15, 0.6),
    "casino": lambda: MODELS.casino().started("stationary"),
    "random chain of 3": lambda: MODELS.random_hmm(3, 3, 4).started("stationary"),
    "random chain of 4": lambda: MODELS.random_hmm(4, 4, 3, 0.4).started("stationary"),
    "random chain of 5": lambda: MODELS.random_hmm(5, 5, 2).started("stationary"),
    "even": lambda: MODELS.even(0.3),
    "rrxor": lambda: MODELS.rrxor(0.4, 0.6),
    "days_of_week": lambda: MODELS.days_of_week(),
    "two_cycle": lambda: MODELS.two_cycle(4, 2, 0.3).started("stationary"),
    "mixture": lambda: MODELS.mixture([MODELS.even(0.3), MODELS.golden_mean(0.6)], [0.25, 0.75]),
    "tom_quantum": lambda: MODELS.tom_quantum(),
    "random_quantum": lambda: MODELS.random_quantum(3),
}


def quick(model, length=T):
    """The filter without the share of the exact belief, whose sampling is the slow part."""
    with mock.patch.object(second_moments, "_share_of_exact", return_value=(1.0, 0.0)):
        return wiener(model, length)


found = functools.cache(lambda name, length=T: quick(PROCESSES[name](), length))


def truth(name, length=T):
    p0, operators, w = processes.operators_of(PROCESSES[name]())
    return p0, operators, w, *oracles.dense_wiener(p0, operators, w, length)


@pytest.mark.parametrize("name", PROCESSES)
def test_weights_solve_the_dense_normal_equations(name):
    p0, operators, _, W, C = truth(name)
    V = len(operators)
    differ = (found(name).lags[::-1] - W).transpose(1, 0, 2).reshape(len(p0), -1)
    size = max(1, np.abs(W).max())
    assert np.abs(differ @ C).max() < 1e-11 * size  # as estimates, whatever tokens never happen together
    if np.linalg.matrix_rank(C, tol=1e-9) == T * (V - 1):
        np.testing.assert_allclose(differ, 0, atol=1e-10 * size)


@pytest.mark.parametrize("name", ["mess3", "even", "days_of_week", "random_quantum"])
def test_controls_of_every_query_are_the_weights_of_its_window(name):
    controls = found(name).controls
    for q in range(T):
        W = truth(name, q + 1)[3]
        np.testing.assert_allclose(controls[q, : q + 1], W, atol=1e-11)
        assert not controls[q, q + 1 :].any()
    np.testing.assert_allclose(controls[-1, ::-1], found(name).lags, atol=1e-13)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_belief_adds_what_its_tokens_weigh(name):
    model, filter = PROCESSES[name](), found(name)
    p0, operators, w = processes.operators_of(model)
    p = np.array([p0 @ M @ w for M in operators])
    strings = oracles.draw(p0, operators, w, 5, T, 1)
    belief = filter.belief(strings)
    for z, along in zip(strings, belief, strict=True):
        np.testing.assert_allclose(along[0], p0, atol=1e-12)
        for q in range(T):
            seen = [filter.controls[q, s] @ (np.eye(len(p))[z[s]] - p) for s in range(q + 1)]
            np.testing.assert_allclose(along[q + 1], p0 + sum(seen), atol=1e-11)
    np.testing.assert_allclose(belief @ w, 1, atol=1e-11)


@pytest.mark.parametrize("name", ["mess3", "casino", "even", "rrxor", "tom_quantum", "random_quantum"])
def test_what_remains_is_uncorrelated_with_the_history(name):
    length = 5 if name != "casino" else 4
    p0, operators, w = processes.operators_of(PROCESSES[name]())
    strings, odds, exact = oracles.strings_and_beliefs(p0, operators, w, length)
    remainder = exact - found(name).belief(strings)[:, -1]
    np.testing.assert_allclose(odds @ remainder, 0, atol=1e-12)
    history = np.eye(len(operators))[strings].reshape(len(strings), -1)
    np.testing.assert_allclose(np.einsum("n,ni,nk->ik", odds, history, remainder), 0, atol=1e-12)


@pytest.mark.parametrize("name", ["mess3", "tom_quantum"])
def test_the_share_of_the_exact_belief_is_that_of_all_strings(name):
    p0, operators, w = processes.operators_of(PROCESSES[name]())
    strings, odds, exact = oracles.strings_and_beliefs(p0, operators, w, T)
    filter = wiener(PROCESSES[name](), T)
    lost = odds @ ((exact - filter.belief(strings)[:, -1]) ** 2).sum(1)
    share = 1 - lost / (odds @ ((exact - p0) ** 2).sum(1))
    assert abs(filter.r2 - share) < 4 * filter.r2_error
    assert 0 < filter.r2_error < 0.02
    assert filter.beyond == 1 - filter.r2


SLOW = ["casino", "random chain of 4", "even", "days_of_week"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mess3", "rrxor", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_linear_gaussian_wing_finds_the_same(name):
    model = PROCESSES[name]()
    p0, operators, w = processes.operators_of(model)
    twin = second_order(model)
    z = oracles.draw(p0, operators, w, 1, T, 2)[0]
    said = sx.explain(twin, np.eye(len(operators))[z][:, :-1], target="state", method="control")
    emitted = operators.sum(2)  # [V d]
    pairs = [(i, a) for i in range(len(p0)) for a in range(len(operators)) if emitted[a, i] > 0 and p0[i] > 0]
    state = np.zeros((len(pairs), len(p0)))
    state[np.arange(len(pairs)), [i for i, _ in pairs]] = 1
    estimate = (np.asarray(said.prior) + np.asarray(said.weights).sum(1))[0] @ state
    np.testing.assert_allclose(estimate, found(name).belief(z)[-1], atol=1e-9)


def test_the_linear_gaussian_twin_has_the_second_moments_of_its_process():
    model = PROCESSES["days_of_week"]()
    p0, operators, w = processes.operators_of(model)
    twin = second_order(model)
    A, H, S0 = (np.asarray(a) for a in (twin.transition, twin.observation, twin.initial_covariance))
    A = A.reshape(A.shape[-2:])
    C = oracles.window_moments(p0, operators, w, 4)[0]
    V = len(operators)
    for lag in (1, 2, 3):
        expected = C[lag * V : lag * V + V - 1, : V - 1]
        np.testing.assert_allclose(H @ np.linalg.matrix_power(A, lag) @ S0 @ H.T, expected, atol=1e-13)


def closed_form(s, zeta):
    """r with |r| ≤ 1 of r + 1/r = (1+s)/ζ + (1−s)ζ."""
    middle = ((1 + s) / zeta + (1 - s) * zeta) / 2
    return middle - math.copysign(math.sqrt(middle**2 - 1), middle)


@pytest.mark.parametrize(
    ("x", "alpha"),
    [
        (0.05, 0.85),
        (0.05, 0.6),
        (0.02, 0.7),
        (0.02, 0.9),
        (0.1, 0.7),
        (0.15, 0.6),
        (0.01, 0.6),
        (0.25, 0.85),
        (0.45, 0.8),
    ],
)
def test_the_rate_of_mess3_in_closed_form(x, alpha):
    filter = quick(MODELS.mess3(x, alpha), 3)
    phi2 = ((3 * alpha - 1) / 2) ** 2
    assert filter.rate == pytest.approx(closed_form(phi2 / (1 - phi2), 1 - 3 * x), abs=1e-9)
    np.testing.assert_allclose(filter.eigenvalues, 1 - 3 * x, atol=1e-7)  # a double one


@pytest.mark.parametrize("key", range(4))
def test_the_rate_of_two_states_in_closed_form(key):
    model = MODELS.casino() if key == 0 else MODELS.random_hmm(key, 2, 2 + key)
    filter = quick(model, 3)
    A, C = np.asarray(model.dense_transition, np.float64), np.asarray(model.emission, np.float64)
    pi = oracles.stationary(np.array([A]))
    phi2 = pi[0] * pi[1] * ((C[1] - C[0]) ** 2 / (pi @ C)).sum()
    zeta = A[0, 0] + A[1, 1] - 1
    assert filter.rate == pytest.approx(closed_form(phi2 / (1 - phi2), zeta), abs=1e-9)
    assert filter.eigenvalues[0] == pytest.approx(zeta, abs=1e-12)


def test_published_rates():
    assert round(found("mess3").rate, 4) == 0.4943
    assert round(found("casino").rate, 4) == 0.7649
    rates = {(0.05, 0.6): 0.743, (0.02, 0.7): 0.787, (0.02, 0.9): 0.569, (0.01, 0.6): 0.894, (0.1, 0.95): 0.159}
    for (x, alpha), rate in rates.items():
        assert quick(MODELS.mess3(x, alpha), 3).rate == pytest.approx(rate, abs=6e-4)


def test_lags_decay_by_the_rate_once_the_gain_has_settled():
    lags = quick(MODELS.mess3(), 40).lags
    np.testing.assert_allclose(lags[1:12] / lags[:11], closed_form(0.775**2 / (1 - 0.775**2), 0.85), rtol=1e-9)
    assert found("mess3").missed[0] < 1e-4


@pytest.mark.parametrize("name", ["mess3 (.15, .6)", "days_of_week"])
def test_tokens_can_be_renamed(name):
    model = PROCESSES[name]()
    p0, operators, w = processes.operators_of(model)
    order = np.random.default_rng(0).permutation(len(operators))
    other = quick(sx.GeneralisedHMM(p0, operators[order], evaluation=w), T)
    np.testing.assert_allclose(other.lags, found(name).lags[:, :, order], atol=1e-12)
    np.testing.assert_allclose(other.rates, found(name).rates, atol=1e-9)


@pytest.mark.parametrize("name", ["tom_quantum", "random_quantum", "mess3"])
def test_predictions_of_tokens_do_not_depend_on_the_basis(name):
    model = PROCESSES[name]()
    changed, S = processes.in_another_basis(model)
    p0, operators, w = processes.operators_of(model)
    other = quick(changed)
    strings = oracles.draw(p0, operators, w, 20, T, 3)
    belief, moved = found(name).belief(strings), other.belief(strings)
    np.testing.assert_allclose(moved, belief @ S, atol=1e-9)
    weigh = np.asarray(changed.operators) @ np.asarray(changed.evaluation)
    np.testing.assert_allclose(moved @ weigh.T, belief @ (operators @ w).T, atol=1e-10)
    np.testing.assert_allclose(np.sort_complex(other.rates), np.sort_complex(found(name).rates), atol=1e-7)


def test_a_missing_token_is_no_token():
    p0, operators, w = processes.operators_of(MODELS.mess3())
    z = np.array([0, -1, 2, 1, -1, 0])
    C, cross = oracles.window_moments(p0, operators, w, T)
    kept = np.concatenate([np.arange(3 * s, 3 * s + 3) for s in range(T) if z[s] >= 0])
    W = cross[:, kept] @ np.linalg.pinv(C[np.ix_(kept, kept)], rcond=1e-11)
    seen = np.concatenate([np.eye(3)[token] - 1 / 3 for token in z if token >= 0])
    best = p0 + W @ seen
    said = found("mess3").belief(z)
    np.testing.assert_allclose(said[2], said[1] @ operators.sum(0), atol=1e-14)
    # gains were tuned for a string without gaps, so the estimate is near the best one, not equal to it
    assert np.abs(said[-1] - best).max() < 0.05
    assert found("mess3").belief(z[None])[0] == pytest.approx(said)


@pytest.mark.parametrize("length", [1, 2])
def test_short_strings(length):
    filter = quick(MODELS.mess3(), length)
    W = truth("mess3", length)[3]
    np.testing.assert_allclose(filter.lags[::-1], W, atol=1e-13)
    assert filter.rate == pytest.approx(found("mess3").rate, abs=1e-10)
    assert filter.controls.shape == (length, length, 3, 3)


def test_a_string_that_is_longer_than_the_filter_is_refused():
    with pytest.raises(sx.DataError, match="pass length=7"):
        found("mess3").belief(np.zeros((2, T + 1), int))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["coin", pytest.param("a chain that stays in one state", marks=pytest.mark.slow), "tokens that say nothing"]
)
def test_where_there_is_nothing_to_know(name):
    model = {
        "coin": MODELS.coin(0.3),
        "a chain that stays in one state": MODELS.left_right(3, 4),
        "tokens that say nothing": sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.3, 0.7], [0.3, 0.7]]),
    }[name]
    filter = quick(model, 4) if name == "tokens that say nothing" else wiener(model, 4)
    np.testing.assert_allclose(filter.lags, 0, atol=1e-14)
    assert (filter.r2, filter.r2_error) == (1.0, 0.0)
    assert filter.outside is None
    assert filter.missed.tolist() == [0, 0, 0, 0]
    assert not filter.is_identifiable


def test_a_process_that_is_not_ergodic_keeps_its_weights():
    filter = found("mixture")
    np.testing.assert_allclose(filter.model.initial, processes.operators_of(PROCESSES["mixture"]())[0], atol=1e-12)
    assert filter.eigenvalues[0] == pytest.approx(1)
    moving = filter.model.started(np.array([1.0, 0, 0, 0]))
    with pytest.raises(sx.DataError):
        wiener(moving, 3)


def test_a_start_that_is_not_stationary_is_replaced():
    model = MODELS.mess3()
    moved = sx.HiddenMarkovModel([1.0, 0, 0], model.dense_transition, model.emission)
    np.testing.assert_allclose(quick(moved).lags, found("mess3").lags, atol=1e-14)


def test_outside():
    filter = wiener(MODELS.rrxor(), T)
    assert not filter.lags[1:].round(14).any()  # pairs of tokens are independent
    assert "blind" in filter.outside
    p0, operators, w = processes.operators_of(MODELS.rrxor())
    strings, odds, exact = oracles.strings_and_beliefs(p0, operators, w, T)
    lost = odds @ ((exact - filter.belief(strings)[:, -1]) ** 2).sum(1) / (odds @ ((exact - p0) ** 2).sum(1))
    assert filter.beyond == pytest.approx(lost, abs=4 * filter.r2_error)
    assert "count positions" in quick(MODELS.two_cycle(), 16).outside
    assert found("mess3").outside is None
    assert "blind" in dataclasses.replace(found("mess3"), r2=0.69).outside
    assert dataclasses.replace(found("mess3"), r2=0.71).outside is None


@pytest.mark.parametrize("x", [0.05, 0.15])
def test_refusals(x):
    with pytest.raises(sx.ConfigurationError, match="not to a LinearGaussianModel"):
        wiener(second_order(MODELS.mess3(x)))
    with pytest.raises(sx.ConfigurationError, match="heads is 5"):
        wiener(MODELS.mess3(x), heads=5)
    with pytest.raises(sx.ConfigurationError, match="length is 0"):
        wiener(MODELS.mess3(x), 0)
    with pytest.raises(sx.ConfigurationError, match="negative entries"):
        second_order(MODELS.tom_quantum())


def test_the_spectrum_of_the_closed_loop():
    _, operators, w = processes.operators_of(PROCESSES["random chain of 4"]())
    filter = found("random chain of 4")
    values = sorted(np.linalg.eigvals(filter.closed_loop), key=lambda x: abs(x - 1))
    assert values[0] == pytest.approx(1, abs=1e-10)  # of the mass
    np.testing.assert_allclose(np.sort_complex(np.array(values[1:])), np.sort_complex(filter.rates), atol=1e-9)
    long = quick(PROCESSES["random chain of 4"](), 60)
    np.testing.assert_allclose(filter.closed_loop, operators.sum(0).T - long.gains[-1] @ (operators @ w), atol=1e-10)


def test_shares_of_a_process_without_hidden_states_do_not_depend_on_the_basis():
    process = sx.models.random_quantum(1)
    S = np.random.default_rng(0).normal(size=(process.n_states,) * 2)
    inverse = np.linalg.inv(S)
    p0, T, w = (np.asarray(a) for a in process.arrays)
    other = sx.GeneralisedHMM(p0 @ S, inverse @ T @ S, evaluation=inverse @ w)
    one, two = sx.beliefs.wiener(process, 8), sx.beliefs.wiener(other, 8)
    np.testing.assert_allclose(one.missed, two.missed, atol=1e-7)
    assert one.r2 == pytest.approx(two.r2, abs=1e-9)
