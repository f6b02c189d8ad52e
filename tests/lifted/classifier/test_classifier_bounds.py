"""Every bound of the search is below what it bounds, and the closed forms are exact, against enumeration on random columns."""

import attention_twin as twin
import numpy as np
import pytest
from test_classifier_search import problem_of

from steerax.lifted.classifier.kernels import HUGE, Costed, Sides, floors, packed, pairs, planes_of, rows
from steerax.lifted.classifier.subset import Whole, choose, one_test, two_tests, with_labels

NEVER = lambda: None


def table(seed):
    """Random columns, some nearly alike, with costs that fit one of them up to noise, and a price."""
    rng = np.random.default_rng(seed)
    N, m, K = int(rng.integers(12, 70)), int(rng.integers(2, 7)), int(rng.integers(2, 4))
    F = rng.random((m, N)) < rng.choice([0.2, 0.5])
    F[-1] = F[0] ^ (rng.random(N) < 0.05)
    F[:, 0] = False
    F = F[[i for i in range(m) if F[i].any()]]
    truth = F[0] & F[len(F) // 2] if seed % 3 == 0 else F[0]
    y = np.where(rng.random(N) < (0.03 if seed % 3 == 0 else 0.25), rng.integers(0, K, N), truth.astype(int))
    costs = (np.arange(K)[None, :] != y[:, None]) * rng.integers(1, (2, 9)[seed % 2], N)[:, None]
    if seed % 4 == 2:  # a class that costs more
        costs = costs * np.where(y == 1, 3, 1)[:, None]
    return F, costs.astype(np.int64), int(rng.integers(0, 8))


def value(F, costs, price, inside, depth):
    columns = [tuple(column[inside].tolist()) for column in F]
    return twin.least(columns, costs[inside].tolist(), price, depth) if inside.any() else 0


def costed(F, costs):
    planes = planes_of(costs)
    return Costed.create(packed(F), packed(planes.masks), planes.values), planes


def answer(tree, F, i):
    while isinstance(tree, tuple):
        tree = tree[1] if F[tree[0], i] else tree[2]
    return tree


def size_of(tree):
    return 1 + size_of(tree[1]) + size_of(tree[2]) if isinstance(tree, tuple) else 0


def cost_of(tree, F, costs, price, inside):
    return sum(costs[i, answer(tree, F, i)] for i in np.flatnonzero(inside)) + price * size_of(tree)


@pytest.mark.parametrize("seed", range(12))
def test_one_and_two_layers_are_exact(seed):
    F, costs, price = table(seed)
    tests, _ = costed(F, costs)
    everywhere = np.ones(F.shape[1], bool)
    assert one_test(tests, price).value == value(F, costs, price, everywhere, 1)
    sides, again = Sides.empty(len(F)), Sides.empty(len(F))
    pairs(tests, sides)
    rows(tests, np.arange(len(F)), again)
    assert all((a == b).all() for a, b in zip(sides[:2], again[:2], strict=True))
    best = with_labels(choose(tests, sides, price), tests)
    exact = value(F, costs, price, everywhere, 2)
    assert min(best.value, int(tests.total.min())) == exact
    assert cost_of(best.tree, F, costs, price, everywhere) == best.value
    assert size_of(best.tree) == best.tests


def known(F, costs, price):
    """What the search knows before depth 3: the tests, the value of either side with one more test, and the weights."""
    tests, planes = costed(F, costs)
    sides = Sides.empty(len(F))
    pairs(tests, sides)
    values = np.minimum(tests.leaves, price + sides.least)
    weight = (F[:, None, :] & planes.masks[None]).sum(2) @ tests.weights
    total = int(planes.masks.sum(1) @ tests.weights)
    return tests, Whole(F, planes, price, np.stack([weight, total - weight]), values)


@pytest.mark.parametrize("seed", range(40))
def test_bounds_of_both_sides_hold(seed):
    F, costs, price = table(seed)
    tests, whole = known(F, costs, price)
    cells = np.full((2, len(F)), HUGE)
    floors(tests, (whole.value[0], whole.value[1]), price, cells)
    bounds = np.minimum(tests.leaves, price + cells)
    for f in range(len(F)):
        for side, inside in enumerate((F[f], ~F[f])):
            assert whole.value[side, f] == value(F, costs, price, inside, 1)
            assert bounds[side, f] <= value(F, costs, price, inside, 2)


def test_bounds_are_more_than_the_price():
    """On most tables the bound of some side is above min(leaf, λ), the trivial one."""
    better = 0
    for seed in range(20):
        F, costs, price = table(seed)
        tests, whole = known(F, costs, price)
        cells = np.full((2, len(F)), HUGE)
        floors(tests, (whole.value[0], whole.value[1]), price, cells)
        better += (np.minimum(tests.leaves, price + cells) > np.minimum(tests.leaves, price)).any()
    assert better > 10


@pytest.mark.parametrize("seed", range(40))
def test_two_layers_on_a_subset_are_exact_below_the_budget(seed):
    F, costs, price = table(seed)
    _, whole = known(F, costs, price)
    rng = np.random.default_rng(seed)
    for inside in (F[0], ~F[-1], rng.random(F.shape[1]) < 0.6):
        if not inside.any():
            continue
        exact = value(F, costs, price, inside, 2)
        for budget in (exact, exact + 1, exact + 5, exact - 1, HUGE):
            best = two_tests(whole, inside, budget, NEVER)
            if exact < budget:
                assert best.value == exact
                assert cost_of(best.tree, F, costs, price, inside) == exact
                assert size_of(best.tree) == best.tests
            else:
                assert best.tree is None
                assert best.value <= exact
                assert best.value >= min(budget, exact)


def test_two_tests_are_found_where_one_is_worth_between_two_and_three_prices():
    """Both of A and B: one test leaves six errors, 10 with its price of 4; two cost 8, between two and three prices."""
    cells = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [20, 6, 6, 20], axis=0).astype(bool)
    F = np.concatenate([cells, ~cells[:, :1]], axis=1).T  # a complement as well, which the search counts once
    costs = np.stack([cells.all(1), ~cells.all(1)], 1).astype(np.int64)
    _, whole = known(F, costs, 4)
    for inside in (np.ones(52, bool), np.arange(52) != 3):
        assert value(F, costs, 4, inside, 1) == 10
        best = two_tests(whole, inside, HUGE, NEVER)
        assert best.value == value(F, costs, 4, inside, 2) == 8
        assert cost_of(best.tree, F, costs, 4, inside) == 8


@pytest.mark.parametrize("seed", range(8))
def test_what_a_context_is_known_to_be_worth_is_what_two_layers_are_worth(seed):
    """The value of all rows, from which the bounds of sides follow, is exact for every context that is open before depth 3."""
    from steerax.lifted.classifier.heads import Sight, column, tests_of
    from steerax.lifted.classifier.search import _Search

    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (40, 3))
    y = (X[:, 0] ^ (X[:, 1] & X[:, 2])) ^ (rng.random(40) < 0.1)
    problem = problem_of(X, y, 3, (0.01, 0.03)[seed % 2], ["back:1", "first"], ["place"])
    state = _Search(problem, None, None, None, None)
    state.shallow()
    rest, plain, checked = state.problem, problem.contexts[0], 0
    for part in state.parts:
        if part.tests is not None and part.low < state.upper:
            heads = [(plain, head) for head in tests_of(plain, rest.shape)]
            heads += [(part.context, head) for head in tests_of(part.context, rest.shape) if part.context != plain]
            columns = [column(head, Sight(context, rest.shape.V, rest.codes)) for context, head in heads]
            F = np.unique(np.array(columns), axis=0)
            assert part.best == value(F, rest.costs, rest.price, np.ones(len(rest.codes), bool), 2)
            checked += 1
    assert checked


def test_similar_sides_bound_each_other():
    from steerax.lifted.classifier.contexts import Context
    from steerax.lifted.classifier.heads import Shape
    from steerax.lifted.classifier.problem import Problem
    from steerax.lifted.classifier.search import _Part, _Search

    for seed in range(30):
        F, costs, price = table(seed)
        N = F.shape[1]
        problem = Problem(np.arange(N)[:, None], costs, price, (Context("none"),), Shape(1, N, False, False, ()), 3)
        state = _Search(problem, None, None, None, None)
        tests, _ = costed(F, costs)
        part = _Part(Context("none"), 0, 0, tests=tests, floors=np.zeros((2, len(F)), np.int64))
        for inside in (F[0], ~F[0]):
            state.similar(part, inside, value(F, costs, price, inside, 2))
        assert part.floors[0, 0] == value(F, costs, price, F[0], 2)
        assert part.floors[1, 0] == value(F, costs, price, ~F[0], 2)
        for f in range(len(F)):
            for side, inside in enumerate((F[f], ~F[f])):
                assert part.floors[side, f] <= value(F, costs, price, inside, 2)
