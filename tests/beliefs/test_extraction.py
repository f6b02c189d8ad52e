"""Machines out of predictors that are machines: the right dimension, the right probabilities of every string."""

import beliefs_oracles as oracles
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import process_oracles as processes
import pytest

import steerax as sx
from steerax.beliefs import extract, extraction
from steerax.beliefs.spectral import spectral_start
from steerax.inference.generalised.kernels.scaled import next_log_probabilities

MODELS = sx.models
# process, dimension, length of strings
EXACT = {
    "golden_mean": (lambda: MODELS.golden_mean(0.4), 2, 8),
    "casino": (lambda: MODELS.casino(), 2, 8),
    "mess3": (lambda: MODELS.mess3(), 3, 12),
    "even": (lambda: MODELS.even(0.4), 2, 12),
    "sns": (lambda: MODELS.sns(), 2, 12),
    "rrxor": (lambda: MODELS.rrxor(), 5, 12),
    "zero_one_random": (lambda: MODELS.zero_one_random(), 3, 12),
    "tom_quantum": (lambda: MODELS.tom_quantum(), 3, 12),
    "fanizza": (lambda: MODELS.fanizza(), 4, 12),
    "two_cycle": (lambda: MODELS.two_cycle(), 8, 16),
}
FAST = ["casino"]
CASES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in EXACT]


def strings_of(model, number, length, seed=0):
    return oracles.draw(*processes.operators_of(model), number, length, seed)


def after_the_first(model, z):
    """The probability of the tokens after the first, given the first."""
    p0, T, w = processes.operators_of(model)
    p = p0 @ T[z[0]]
    first = p @ w
    for token in z[1:]:
        p = p @ T[token]
    return p @ w / first


@pytest.mark.parametrize("name", CASES)
def test_the_machine_of_an_exact_predictor(name):
    make, d, length = EXACT[name]
    model = make()
    found = extract(model, strings_of(model, 300, length), 1e-6)
    assert found.reached
    assert found.best.n_states == d
    assert abs(found.excess) < 1e-6
    assert [c.n_states for c in found.candidates] == list(range(1, d + 1))
    assert all(c.excess > 1e-6 or c.model is None for c in found.candidates[:-1])
    assert (found.singular_values[:d] > 1e-4).all()
    assert (found.singular_values[d:] < 1e-6).all()
    for z in strings_of(model, 10, length, seed=9):
        assert after_the_first(found.model, z) == pytest.approx(after_the_first(model, z), rel=0.02)
    lines = found.summary().splitlines()
    assert len(lines) == d + 1
    assert lines[-1].startswith("within")


@pytest.mark.slow
def test_a_chain_with_probabilities_that_can_be_read():
    model = MODELS.casino()
    found = extract(model, strings_of(model, 300, 10), 1e-4, kind="hmm", max_states=3)
    assert found.reached
    assert found.best.n_states == 2
    assert found.model.is_classical
    assert found.kind == "hmm"


@pytest.mark.slow
def test_a_tolerance_that_is_not_reached_is_said():
    model = MODELS.rrxor()
    found = extract(model, strings_of(model, 200, 10), 1e-6, max_states=3)
    assert not found.reached
    assert found.best.model is not None
    assert found.best.excess == min(c.excess for c in found.candidates if c.model is not None)
    assert "NOT within" in found.summary()
    assert len(found.candidates) == 3


def test_the_spectral_start_alone_is_the_process():
    model = MODELS.sns(0.4, 0.7)  # the first token does not settle the belief, so the start counts
    strings = strings_of(model, 100, 8).astype(np.int32)
    starts, values = spectral_start(model, strings, 2, 4, 60, np.random.default_rng(0))
    assert values[0] == 1
    assert (values[2:] < 1e-10).all()
    p0, T, _ = (np.asarray(a) for a in extraction._free(2, 2)(jnp.asarray(starts[1])))
    w = np.eye(2)[0]
    np.testing.assert_allclose(T.sum(0) @ w, w, atol=1e-12)
    assert p0 @ w == 1
    machine = sx.GeneralisedHMM(p0, T, evaluation=w)
    for z in strings_of(model, 10, 8, seed=5):
        assert after_the_first(machine, z) == pytest.approx(after_the_first(model, z), rel=1e-7)


def test_the_loss_is_the_mean_divergence_and_its_parts():
    model = MODELS.mess3()
    p0, T, w = processes.operators_of(model)
    strings = strings_of(model, 20, 5)
    beliefs = oracles.beliefs_along(p0, T, w, strings)[:, :-1]
    q = beliefs @ (T @ w).T
    said = np.random.default_rng(0).dirichlet(np.ones(3), q.shape[:2])
    problem = extraction._Problem(jnp.asarray(strings), jnp.asarray(said))
    found = problem.loss(*(jnp.asarray(a) for a in (p0, T, w)), jnp.asarray(1.0))
    rows = (said * np.log(said / q)).sum(-1).mean(1)
    assert float(found) == pytest.approx(rows.mean(), abs=1e-12)
    excess, error = extraction._excess(p0, T, w, strings, said)
    assert excess == pytest.approx(rows.mean(), abs=1e-12)
    assert error == pytest.approx(rows.std(ddof=1) / np.sqrt(20), abs=1e-12)


def test_a_machine_that_is_no_process_is_said_to_be_none():
    p0, w = np.array([1.0, 0.5]), np.array([1.0, 0.0])
    T = np.array([[[0.5, 1.0], [0.9, 0.5]], [[0.5, -1.0], [-0.9, 0.2]]])
    assert extraction._model(p0, T, w, None) is None
    assert extraction._model(p0, np.full_like(T, np.nan), w, None) is None
    said = np.full((3, 3, 2), 0.5)
    strings = np.zeros((3, 4), int)
    assert extraction._excess(p0, np.full_like(T, np.nan), w, strings, said)[0] == float("inf")
    assert np.isfinite(extraction._excess(p0, T, w, strings, said)[0])
    negative = sum(max(0, -x) for x in [p0 @ A @ w for A in T])
    for A in T:
        negative += sum(max(0, -(p0 @ A @ C @ w)) for C in T)
    with_short = pytest.MonkeyPatch()
    with_short.setattr(extraction, "_SHORT", 4)
    assert float(extraction._short_by(*(jnp.asarray(a) for a in (p0, T, w)), jnp.zeros(()))) == pytest.approx(negative)
    with_short.undo()


TOKENS = np.zeros((20, 6), int)


@pytest.mark.parametrize(
    ("data", "given", "said"),
    [
        (TOKENS, {"kind": "quantum"}, "kind='quantum' is unknown"),
        (TOKENS[:15], {}, "at least 16 strings"),
        (TOKENS[:, :3], {}, "4 tokens"),
        (TOKENS - (np.arange(6) == 2), {}, "without gaps"),
        ([*TOKENS[1:], np.zeros(5, int)], {}, "one length"),
        (TOKENS + 3, {}, "token 3"),
        (TOKENS, {"tolerance": 0.0}, "tolerance is 0.0"),
        (TOKENS, {"tolerance": float("nan")}, "tolerance is nan"),
        (TOKENS, {"max_states": 0}, "max_states is 0"),
        (TOKENS, {"histories": 1.5}, "histories is 1.5"),
        (TOKENS, {"iterations": -1}, "iterations is -1"),
        (TOKENS, {"key": "a"}, "random key"),
    ],
)
def test_refusals(data, given, said):
    with pytest.raises(sx.SteeraxError, match=said):
        extract(MODELS.mess3(), data, **given)


def test_predictors_that_give_no_numbers_are_refused():
    with np.errstate(invalid="ignore"), pytest.raises(sx.DataError, match="not a number"):
        extract(lambda z: np.full((len(z), 2), np.nan), TOKENS)
    with pytest.raises(sx.ConfigurationError, match="does not predict"):
        extract(3, TOKENS)


def test_the_shortest_strings_are_taken():
    strings = np.random.default_rng(0).integers(0, 3, (40, 4))
    found = extract(MODELS.mess3(), strings, 1.0, max_states=1)
    assert [c.n_states for c in found.candidates] == [1]
    assert found.reached


@pytest.mark.slow
def test_below_a_ten_thousandth_the_loss_goes_on_as_the_tangent():
    strings, said = np.zeros((2, 3), int), np.full((2, 2, 2), 0.5)
    problem = extraction._Problem(jnp.asarray(strings), jnp.asarray(said))
    for q in (1e-6, 5e-5):
        found = problem.loss(jnp.ones(1), jnp.array([[[1 - q]], [[q]]]), jnp.ones(1), jnp.asarray(1.0))
        tangent = np.log(1e-4) + (q - 1e-4) / 1e-4
        assert float(found) == pytest.approx(np.log(0.5) - 0.5 * (np.log(1 - q) + tangent), abs=1e-12)


@pytest.mark.slow
def test_a_predictor_near_a_process_with_impossible_strings_becomes_a_process():
    """A trained network gives impossible tokens a little; the nearest operators give some of their strings less than nothing."""
    model = MODELS.parentheses()
    found = extract(_Noisy(model), strings_of(model, 400, 12), 1e-3)
    assert found.reached
    assert found.best.n_states == 4
    assert found.model is not None


class _Noisy(eqx.Module):
    """The exact predictor of a process, and a little of something that depends on the time and the last two tokens."""

    model: sx.GeneralisedHMM

    def __call__(self, tokens):
        exact = jnp.exp(next_log_probabilities(*self.model.arrays, tokens[:, None])[1:, 0])
        noise = jnp.asarray(np.random.default_rng(0).dirichlet(np.full(2, 0.5), (4, 2, 2)))
        before = jnp.concatenate([jnp.zeros(1, int), tokens[:-1]])
        return jnp.log(0.998 * exact + 0.002 * noise[jnp.arange(len(tokens)) % 4, tokens, before])
