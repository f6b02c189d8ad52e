"""Census, stability and consistency; quantisers and near-optimality; generalisation."""

import itertools

import numpy as np
import pytest
from lifted_oracles import best_last_layer

from steerax import ConfigurationError
from steerax.lifted import Problem, census, check, solve, tasks
from steerax.lifted.bounds.generalisation import generalisation_bound
from steerax.lifted.bounds.near_optimality import Instance, measure
from steerax.lifted.certificate.check import embedded
from steerax.lifted.problem.quantisers import (
    binary,
    codebook,
    farthest_first,
    nearest_type,
    type_radius,
    uniform,
)
from steerax.lifted.problem.r1 import R1
from steerax.lifted.search.census import Census, uniform_distribution
from steerax.maths.lipschitz import Certified


def count_settings(model, depth: int) -> int:
    """Networks of the class as weight settings: matrices up to scale, rows of V, read-outs with thresholds and sign."""
    layer = len(model.matrices) * len(model.rows) ** 2
    thresholds = sum(2 * model.levels * (abs(int(a)) + abs(int(b))) for a, b in model.directions)
    return layer**depth * (2 * thresholds + 2)  # and the two constants


@pytest.fixture(scope="module")
def four_bits():
    return census(4, 1)


def labels_of(function, n):
    return np.array([(function >> s) & 1 for s in range(2**n)])


def test_one_layer_computes_1344_functions_of_four_bits(four_bits):
    assert len(four_bits) == 1344


def test_census_contains_exactly_the_functions_that_can_be_learnt(four_bits):
    """The distance of a function to the class is the optimum of learning it, as the checker finds it."""
    two = census(2, 1)
    for f in range(16):
        p = tasks.Problem.create(tasks.all_strings(2), labels_of(f, 2))
        assert two.distance(f) == best_last_layer(embedded(p), p)
    for task, optimum in (("parity", 4), ("palindrome", 2), ("sorted", 1), ("contains_101", 3), ("ones_mod_3", 2)):
        problem = tasks.TASKS[task](4)
        order = (problem.tokens << np.arange(4)).sum(1)
        f = sum(int(y) << int(s) for s, y in zip(order, problem.labels, strict=True))
        assert four_bits.distance(f) == optimum
        assert four_bits.value(uniform_distribution(labels_of(f, 4))) == pytest.approx(optimum / 16)


def test_value_is_concave_and_lipschitz_in_total_variation(four_bits):
    rng = np.random.default_rng(0)
    steepest = 0.0
    for _ in range(200):
        p, q = (rng.dirichlet(np.full(32, 0.3)).reshape(16, 2) for _ in range(2))
        t = rng.random()
        V = four_bits.value
        assert V(t * p + (1 - t) * q) >= t * V(p) + (1 - t) * V(q) - 1e-12
        steepest = max(steepest, abs(V(p) - V(q)) / (np.abs(p - q).sum() / 2))
    assert 0 < steepest <= 1 + 1e-12


def test_policies_from_samples_are_consistent_within_the_uniform_bound(four_bits):
    rng = np.random.default_rng(1)
    labels = labels_of(0b0110100110010110, 4)  # parity
    truth = uniform_distribution(labels)
    best, excesses = four_bits.value(truth), []
    for N in (32, 512):
        width = generalisation_bound(len(four_bits), N, 0.05).width.value
        excess = []
        for _ in range(40):
            counts = rng.multinomial(N, np.full(16, 1 / 16))
            sample = uniform_distribution(labels) * 16 * counts[:, None] / N
            excess.append(four_bits.risks(truth)[four_bits.risks(sample).argmin()] - best)
        assert np.mean(np.array(excess) <= 2 * width) >= 0.95
        excesses.append(np.mean(excess))
    assert excesses[1] < excesses[0] / 2


def test_compiled_census_equals_the_plain_one():
    from steerax.lifted.search import kernels_numba
    from steerax.lifted.search.census import mark_states
    from steerax.lifted.search.tables import Reductions, build_tables

    model = R1(3)
    tables = build_tables(model, Reductions())
    for number in (1, 2, 20):
        states = np.random.default_rng(0).integers(0, 25, (number, 8, 3)).astype(np.uint8)
        plain, fast = np.zeros(256, bool), np.zeros(256, bool)
        mark_states(states, tables, plain)
        kernels_numba.mark_all(states, tables, fast, 2)
        assert ((plain | plain[::-1]) == (fast | fast[::-1])).all()
        assert number > 2 or not plain.all()


def test_compiled_last_layer_equals_numpy_on_weights_and_many_words():
    from steerax.lifted.search import kernels_numba, kernels_numpy
    from steerax.lifted.search.tables import Reductions, build_tables, build_target

    rng = np.random.default_rng(2)
    model = R1(7, 2, matrices=R1(7, 2).matrices[::40])
    tokens = rng.permutation(tasks.all_strings(7))[:70]
    for weights in (np.ones(70, int), rng.integers(1, 9, 70)):
        problem = tasks.Problem.create(tokens, rng.integers(0, 2, 70), weights, model)
        tables, target = build_tables(model, Reductions()), build_target(problem)
        states = rng.integers(0, 25, (3, 70, 7)).astype(np.uint8)
        for upper in (target.total, target.total // 3):
            a, tried = kernels_numpy.terminal(states, tables, target, upper, True, True)
            b, tried_too = kernels_numba.terminal(states, tables, target, upper, True, 2)
            assert (a == b).all()
            assert tried == tried_too


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_layers_compute_all_but_four_functions_of_four_bits():
    two = census(4, 2)
    assert len(two) == 65532
    assert {two.distance(int(f)) for f in two.missing} == {1}
    bits = tasks.all_strings(4)
    labels = int(two.missing[0]) >> np.arange(16) & 1
    solution = solve(Problem.create(bits, labels, model=tasks.parity(4).model), 2)
    assert (solution.value, solution.status) == (1, "proven")
    assert check(solution, "full").examined > 10_000


def test_quantisers_stay_within_their_radii():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (500, 1))
    for quantiser in (uniform(1), uniform(4), binary(), codebook(x, 7)):
        moved = np.abs(quantiser(x) - x).max()
        assert isinstance(quantiser.radius, Certified)
        assert quantiser.radius.value / 3 < moved <= quantiser.radius.value * (1 + 1e-12)
    assert set(uniform(3).codebook.ravel()) < set(uniform(4).codebook.ravel())
    assert uniform(1).codebook.ravel().tolist() == [-1, 0, 1]


def test_lloyd_improves_on_its_start():
    x = np.random.default_rng(1).normal(size=(200, 2))
    start = x[farthest_first(x, 6)]
    error = lambda c: ((x[:, None] - c) ** 2).sum(-1).min(1).mean()
    assert error(codebook(x, 6).codebook) < error(start)


def test_nearest_type_is_nearest_and_within_its_radius():
    rng = np.random.default_rng(2)
    for _ in range(30):
        p, m = rng.dirichlet(np.ones(3)), int(rng.integers(1, 7))
        counts = nearest_type(p, m)
        distance = lambda c, p=p, m=m: np.abs(np.array(c) / m - p).sum() / 2
        types = [c for c in itertools.product(range(m + 1), repeat=3) if sum(c) == m]
        assert counts.sum() == m
        assert distance(counts) == pytest.approx(min(map(distance, types)))
        assert distance(counts) <= type_radius(3, m).value


def test_near_optimality_bound_holds_with_the_right_order():
    instance = Instance.random()
    gaps = [measure(instance, bits) for bits in range(1, 6)]
    assert instance.cost(instance.teacher) == 0
    for g in gaps:
        assert g.gap <= g.bound.value
        assert g.loss <= 2 * g.bound.value
        assert isinstance(g.bound, Certified)
    mesh = np.log2([g.mesh for g in gaps])
    for side in ([g.gap for g in gaps], [g.bound.value for g in gaps]):
        assert 0.8 <= np.polyfit(mesh, np.log2(side), 1)[0] <= 1.2
    nested = [g.actions_only for g in gaps]
    assert all(b <= a for a, b in itertools.pairwise(nested))


def test_generalisation_bounds_know_when_they_say_nothing():
    model = R1(2)
    assert count_settings(model, 2) == (273 * 81) ** 2 * (2 * (4 + 4 + 8 + 8) + 2)
    assert count_settings(model, 1) >= len(census(2, 1))
    assert generalisation_bound(2**16, 4).vacuous
    assert not generalisation_bound(1344, 1000).vacuous
    assert generalisation_bound(1344, 1000, realisable=True).width.value < generalisation_bound(1344, 1000).width.value


def test_rejects_impossible_requests():
    with pytest.raises(ConfigurationError, match="census"):
        census(5, 1)
    with pytest.raises(ConfigurationError, match="distribution of strings"):
        Census(1, 1, np.array([0], np.uint64), 1).value(np.ones((4, 2)))
    with pytest.raises(ConfigurationError, match="one bit"):
        uniform(0)
    with pytest.raises(ConfigurationError, match="bound > 0"):
        binary(-1.0)
    with pytest.raises(ConfigurationError, match="k=0"):
        codebook(np.zeros((3, 1)), 0)
    with pytest.raises(ConfigurationError, match="add up to 1"):
        nearest_type(np.array([0.5, 0.2]), 4)
    with pytest.raises(ConfigurationError, match="bits=0"):
        measure(Instance.random(), 0)
    with pytest.raises(ConfigurationError, match="error probability"):
        generalisation_bound(10, 10, 2.0)
