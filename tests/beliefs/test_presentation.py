"""Mixed states against beliefs in exact fractions, entropies of all strings, and counts of the literature."""

import beliefs_oracles as oracles
import numpy as np
import process_oracles as processes
import pytest

import steerax as sx
from steerax.beliefs import mixed_states
from steerax.models import entropy_rate

MODELS = sx.models
HALVES = {
    "golden_mean": lambda: MODELS.golden_mean(0.5),
    "even": lambda: MODELS.even(0.5),
    "even (.3)": lambda: MODELS.even(0.3),
    "zero_one_random": lambda: MODELS.zero_one_random(0.5),
    "rrxor": lambda: MODELS.rrxor(0.5, 0.5),
    "sns": lambda: MODELS.sns(0.5, 0.5),
    "mess3": lambda: MODELS.mess3(0.05, 0.85),
    "parentheses": lambda: MODELS.parentheses((1.0, 0.5, 0.5)),
    "two_cycle": lambda: MODELS.two_cycle(3, 1, 0.5),
}


def exact_levels(name, depth):
    p0, T, _ = processes.operators_of(HALVES[name]())
    p0 = oracles.as_fractions(p0)
    total = sum(p0)
    return oracles.exact_beliefs([p / total for p in p0], oracles.as_fractions(T), depth)


@pytest.mark.parametrize("name", HALVES)
def test_levels_are_those_of_exact_fractions(name):
    depth = 4 if name == "mess3" else 6
    levels = exact_levels(name, depth)
    found = mixed_states(HALVES[name](), depth)
    assert found.counts.tolist() == [len(level) for level in levels]
    every = list(dict.fromkeys(belief for level in levels for belief in sorted(level)))
    assert len(found.beliefs) == len(every)
    numbers = np.array([[float(x) for x in belief] for belief in every])
    for belief in found.beliefs:
        assert np.abs(numbers - belief).max(1).min() < 1e-12
    first = {belief: n for n, level in reversed(list(enumerate(levels))) for belief in level}
    for belief, n in first.items():
        at = np.abs(found.beliefs - [float(x) for x in belief]).max(1).argmin()
        assert found.depths[at] == n
    assert found.new.tolist() == [sum(n == depth for n in first.values()) for depth in range(depth + 1)]


def test_counts_of_the_literature():
    assert mixed_states(MODELS.mess3(), 3).counts.tolist() == [1, 3, 9, 27]
    found = mixed_states(MODELS.rrxor())
    assert (len(found.beliefs), found.closed) == (36, True)  # 31 transient and 5 recurrent [CrutchfieldFeldman2003]
    chain = np.linalg.matrix_power(found.transitions, 300)
    chain = (chain + chain @ found.transitions + chain @ found.transitions @ found.transitions) / 3
    assert (chain[0] > 1e-9).sum() == 5
    even = mixed_states(MODELS.even(0.5))
    assert (len(even.beliefs), even.closed) == (4, True)  # the start, the start after ones, and two that are certain
    golden = mixed_states(MODELS.golden_mean(0.5))
    assert (len(golden.beliefs), golden.closed) == (3, True)
    sns = mixed_states(MODELS.sns(0.5, 0.5), max_beliefs=50)
    assert not sns.closed
    assert (sns.new[2:] <= 2).all()  # one more after another zero, and one more where ones came first
    assert mixed_states(MODELS.coin(0.3)).beliefs.tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["mess3", "even", "rrxor", "casino", "tom_quantum", "fanizza"])
def test_entropies_are_differences_of_block_entropies(name):
    model = processes.ALL[name]()
    p0, T, w = processes.operators_of(model)
    longest = 4 if name == "casino" else 6
    blocks = oracles.block_entropies(p0, T, w, longest)
    np.testing.assert_allclose(mixed_states(model, longest - 1).entropy, np.diff(blocks), atol=1e-10)


@pytest.mark.parametrize("name", ["golden_mean", "even (.3)", "rrxor", "zero_one_random"])
def test_the_chain_of_beliefs_has_the_entropy_rate(name):
    model = HALVES[name]()
    found = mixed_states(model)
    assert found.closed
    chain, size = found.transitions, len(found.beliefs)
    np.testing.assert_allclose(chain.sum(1), 1, atol=1e-12)
    system = np.vstack([chain.T - np.eye(size), np.ones(size)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(size), 1), rcond=None)[0]
    _, T, w = processes.operators_of(model)
    q = found.beliefs @ (T @ w).T
    h = -(q * np.log(np.where(q > 0, q, 1))).sum(1)
    assert stationary @ h == pytest.approx(entropy_rate(model).mean, abs=1e-10)


@pytest.mark.parametrize("name", HALVES)
def test_edges_are_steps_of_bayes(name):
    found = mixed_states(HALVES[name](), 4)
    _, T, w = processes.operators_of(HALVES[name]())
    for (i, z, j), q in zip(found.edges, found.probabilities, strict=True):
        after = found.beliefs[i] @ T[z]
        assert after @ w == pytest.approx(q, abs=1e-12)
        np.testing.assert_allclose(after / q, found.beliefs[j], atol=1e-11)
    assert len(np.unique(found.edges[:, :2], axis=0)) == len(found.edges)
    mass = found.transitions.sum(1)
    followed = np.unique(found.edges[:, 0])
    np.testing.assert_allclose(mass[followed], 1, atol=1e-12)
    assert not np.delete(mass, followed).any()
    assert set(np.flatnonzero(found.depths < 4)) == set(followed) & set(np.flatnonzero(found.depths < 4))


def test_depth_zero_and_limits():
    found = mixed_states(MODELS.mess3(), 0)
    assert (found.counts.tolist(), len(found.beliefs), len(found.edges)) == ([1], 1, 0)
    assert not found.closed
    assert found.entropy == pytest.approx([np.log(3)])
    assert found.transitions.tolist() == [[0.0]]
    limited = mixed_states(MODELS.mess3(), max_beliefs=13)
    assert limited.counts.tolist() == [1, 3, 9]
    assert not limited.closed
    assert mixed_states(MODELS.mess3(), max_beliefs=12).counts.tolist() == [1, 3]
    assert len(mixed_states(MODELS.mess3(), 3, max_beliefs=2).beliefs) == 40  # a depth counts, not the limit


def test_a_coarse_tolerance_merges_neighbours():
    fine, coarse = (len(mixed_states(MODELS.sns(0.5, 0.5), 40, tolerance=t).beliefs) for t in (1e-12, 0.05))
    assert coarse < fine
    assert len(mixed_states(MODELS.golden_mean(0.5), tolerance=0.9).beliefs) <= 3


def test_different_strings_that_lead_to_one_belief_are_merged():
    # order does not matter here: the belief is a function of how many ones came
    bias = np.array([0.2, 0.8])
    model = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), np.stack([bias, 1 - bias]))
    found = mixed_states(model, 9)
    assert found.counts.tolist() == list(range(1, 11))
    assert len(found.beliefs) == 19


def test_beliefs_with_tiny_entries_stay_apart():
    tiny = 1e-12
    T = np.zeros((2, 3, 3))
    T[0, 0], T[1, 0] = [0.5 * (1 - tiny), 0.5 * tiny, 0], [0.5 * (1 - 1.2 * tiny), 0.5 * 1.2 * tiny, 0]
    T[:, 1, 1], T[:, 2, 2] = 0.5, 0.5
    model = sx.GeneralisedHMM([1.0, 0, 0], T)
    found = mixed_states(model, 1)
    assert found.counts.tolist() == [1, 2]
    np.testing.assert_allclose(np.sort(found.beliefs[1:, 1]), [tiny, 1.2 * tiny], rtol=1e-9)
    assert mixed_states(model, 1, tolerance=0.9).counts.tolist() == [1, 1]


def test_signed_beliefs_are_merged_too():
    found = mixed_states(MODELS.tom_quantum(), 3)
    _, _, exact = oracles.strings_and_beliefs(*processes.operators_of(MODELS.tom_quantum()), 3)
    assert found.counts[3] == len(np.unique(exact.round(9), axis=0))


@pytest.mark.parametrize(
    "given", [{"depth": -1}, {"max_beliefs": 0}, {"tolerance": 0.0}, {"tolerance": float("nan")}, {"depth": 1.5}]
)
def test_refusals(given):
    with pytest.raises(sx.ConfigurationError, match="must be"):
        mixed_states(MODELS.mess3(), **given)
    with pytest.raises(sx.ConfigurationError, match="not to a int"):
        mixed_states(3)
