"""The search gives the optimum of plain enumeration, whatever the table; its bounds hold whenever it stops."""

import functools
import time

import attention_twin as twin
import numpy as np
import pytest

from steerax import ConfigurationError
from steerax.lifted.classifier.contexts import KINDS, contexts_of, register
from steerax.lifted.classifier.costs import integer_costs
from steerax.lifted.classifier.heads import (
    FAMILIES,
    Shape,
    Sight,
    column,
    columns,
    families_of,
    number_of_tests,
)
from steerax.lifted.classifier.heads import (
    tests_of as heads_of,
)
from steerax.lifted.classifier.problem import Problem, depth_of
from steerax.lifted.classifier.search import search
from steerax.lifted.classifier.table import alphabet_of


def problem_of(X, y, depth=2, sparsity=0.01, contexts="all", tests="all", **costs):
    alphabet = alphabet_of(X)
    classes, labels = np.unique(y, return_inverse=True)
    found = integer_costs(labels, classes, sparsity, **costs)
    shape = Shape(
        alphabet.length, alphabet.size, alphabet.ragged, alphabet.by_column, families_of(tests, alphabet.by_column)
    )
    allowed = contexts_of(contexts, alphabet.length, alphabet.size, alphabet.by_column)
    return Problem(alphabet.read(X), found.of * found.multiple, found.price, allowed, shape, depth)


def random_problem(rng, depth, most_rows=24):
    """Any shape: names, lengths, classes, weights, costs, prices, contexts and families."""
    V, n, K, N = rng.integers(1, 4), rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, most_rows)
    X = [list(map(int, rng.integers(0, V, n if rng.random() < 0.6 else rng.integers(0, n + 1)))) for _ in range(N)]
    X[0] = [0] * n
    y = rng.integers(0, K, N)
    contexts = list(rng.choice(KINDS, rng.integers(1, 4), replace=False))
    tests = list(rng.choice(FAMILIES, rng.integers(1, 5), replace=False))
    costs = {}
    if rng.random() < 0.3:
        costs["sample_weight"] = rng.integers(1, 6, N)
    k = len(np.unique(y))
    if rng.random() < 0.3:
        costs["cost_matrix"] = rng.integers(0, 4, (k, k))
    sparsity = float(rng.choice([0, 0.01, 0.05, 0.1]))
    return problem_of(X, y, depth, sparsity, contexts, tests, **costs)


def compare(seed, depth, most_rows=24):
    problem = random_problem(np.random.default_rng(seed), depth, most_rows)
    best, found = twin.optimum(problem, functools.partial(heads_of, shape=problem.shape)), search(problem)
    assert found.lower == found.upper == best, seed
    assert problem.objective(found.context, found.tree) == best
    assert depth_of(found.tree) <= depth
    assert found.stopped == ""


@pytest.mark.parametrize("depth", [1, 2])
def test_the_optimum_is_that_of_plain_enumeration(depth):
    for seed in range(60):
        compare(1000 * depth + seed, depth, 16)


def test_the_optimum_of_depth_three_is_that_of_plain_enumeration():
    for seed in range(25):
        compare(3000 + seed, 3, 9)


@pytest.mark.parametrize("seed", range(24))
def test_three_tests_in_a_row_on_random_columns(seed):
    """Names that belong to columns are columns of bits as one likes: rules that need all three tests, prices that matter."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (50, 5))
    X[0], X[1] = 0, 1
    truth = (X[:, 0] & X[:, 1] & X[:, 2]) if seed % 3 == 0 else (X[:, 0] ^ (X[:, 1] & X[:, 2]))
    y = np.where(rng.random(50) < 0.1, rng.integers(0, 3 if seed % 2 else 2, 50), truth)
    table = {f"c{j}": [f"{j}{v}" for v in column] for j, column in enumerate(X.T)}
    weights = rng.integers(1, 5, 50) if seed % 4 == 1 else None
    alphabet = alphabet_of(table)
    costs = integer_costs(np.unique(y, return_inverse=True)[1], np.unique(y), (0, 0.01, 0.03)[seed % 3], weights)
    shape = Shape(5, alphabet.size, False, True, ("place",), tuple(name[0] for name in alphabet.names))
    problem = Problem(
        alphabet.read(table), costs.of * costs.multiple, costs.price, contexts_of("auto", 5, 10, True), shape, 3
    )
    columns = [tuple(column.astype(bool).tolist()) for column in X.T]
    found = search(problem)
    assert found.lower == found.upper == twin.least(columns, problem.costs.tolist(), problem.price, 3)


@pytest.mark.parametrize("seed", range(8))
def test_sides_with_and_without_the_context_are_joined(seed):
    """The first test and that of one side look at no context, that of the other side does."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (60, 3))
    y = np.where(X[:, 0] == 0, X[:, 2] == 1, X[:, 1] == X[:, 0]).astype(int)
    problem = problem_of(X, y, 2, 0.01, ["repeat"], ["place"])
    found = search(problem)
    assert found.lower == found.upper == twin.optimum(problem, functools.partial(heads_of, shape=problem.shape))


def test_a_context_that_saves_less_than_a_test_is_found():
    """One label costs three errors, a context and a test 2.4: between two and three prices."""
    X = np.array(twin.all_rows(3, 3))
    problem = problem_of(X, (X[:, :1] == X).all(1).astype(int), 2, 0.0445, ["back"], ["count"])
    found = search(problem)
    assert 2 * problem.price < 3 * problem.costs.max() < 3 * problem.price
    assert (found.context.kind, found.upper) == ("back", 2 * problem.price)


@pytest.mark.nightly
@pytest.mark.parametrize("block", range(20))
def test_ten_thousand_optima_are_those_of_plain_enumeration(block):
    for seed in range(500):
        compare(10_000 + 500 * block + seed, 1 + seed % 3, 24 if seed % 3 < 2 else 10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_test_is_attention_token_by_token(kind):
    rng = np.random.default_rng(1)
    V, n = 2, 4
    rows = [row[:m] for m in (4, 3, 1) for row in twin.all_rows(V, n)[:: 1 if m == 4 else 3]]
    codes = np.array([[*row, *[V] * (n - len(row))] for row in rows])
    codes[rng.integers(0, len(codes), 3), 0] = V + 1  # a name that training did not show
    shape = Shape(n, V, True, False, FAMILIES)
    for context in contexts_of([kind], n, V, False)[-2:]:
        u = register(context, codes, V)
        assert [[twin.register(context, row, i, V) for i in range(n) if row[i] != V] for row in codes.tolist()] == [
            [x for x, s in zip(us, row, strict=True) if s != V]
            for us, row in zip(u.tolist(), codes.tolist(), strict=True)
        ]
        heads = heads_of(context, shape)
        together = np.concatenate(list(columns(context, shape, codes)))
        assert len(heads) == len(together)
        assert len(heads) + (context.kind != "none") * number_of_tests(
            contexts_of("none", n, V, False)[0], shape
        ) == number_of_tests(context, shape)
        sight = Sight(context, V, codes)
        for head, bits in zip(heads, together, strict=True):
            assert bits.tolist() == [bool(twin.bit(head, context, row, V)) for row in codes.tolist()], head
            assert (column(head, sight) == bits).all()


def sequences(N=300, V=4, n=10, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, V, (N, n))
    y = ((X[:, :-1] == 0) & (X[:, 1:] == 1)).any(1) ^ (rng.random(N) < noise)
    return X, y.astype(int)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_renaming_changes_nothing_but_names(depth):
    X, y = sequences(150, 3, 5)
    one = search(problem_of(X, y, depth))
    for names in (["b", "a", "c"], [7, 3, 5]):
        two = search(problem_of(np.array(names)[X], y, depth))
        assert (one.context, one.tree, one.upper) == (two.context, two.tree, two.upper)


def test_bounds_hold_at_any_interruption():
    for seed in range(12):
        problem = random_problem(np.random.default_rng(seed), 3, 10)
        best = twin.optimum(problem, functools.partial(heads_of, shape=problem.shape))
        calls = 0

        def stop(_, after=seed):
            nonlocal calls
            calls += 1
            if calls > after:
                raise KeyboardInterrupt

        found = search(problem, progress=stop)
        assert found.lower <= best <= found.upper == problem.objective(found.context, found.tree)
        assert found.stopped == ("interrupted" if calls > seed else "")


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.3, 1.0, 3.0])
def test_the_time_limit_is_kept(limit):
    X, y = sequences(2000, noise=0.5)
    search(problem_of(X[:20], y[:20], 2))  # compiled
    problem = problem_of(X, y, 3)
    started = time.monotonic()
    found = search(problem, time_limit=limit)
    assert time.monotonic() - started < 1.1 * limit
    assert found.stopped == "time"
    assert found.lower < found.upper


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "seconds"), [(1000, 5), (10_000, 60)])
def test_depth_two_is_proven_in_seconds(rows, seconds):
    X, y = sequences(rows, 4, 12)
    search(problem_of(X[:20], y[:20], 2))  # compiled
    problem, started = problem_of(X, y, 2, contexts="auto", tests="auto"), time.monotonic()
    found = search(problem, threads=2)
    assert time.monotonic() - started < seconds
    assert found.lower == found.upper


def test_threads_change_nothing():
    one, two = (search(problem_of(*sequences(), 2), threads=threads) for threads in (1, 2))
    assert (one.context, one.tree, one.upper, one.lower) == (two.context, two.tree, two.upper, two.lower)


def test_the_memory_limit_is_kept():
    with pytest.raises(ConfigurationError, match="memory_limit=1000 bytes; raise it"):
        search(problem_of(*sequences()), memory_limit=1000)


def test_progress_is_told_in_order():
    told = []
    found = search(problem_of(*sequences(120)), progress=told.append)
    assert all(p.lower <= found.upper <= p.upper for p in told)
    assert [p.depth for p in told] == sorted(p.depth for p in told)
