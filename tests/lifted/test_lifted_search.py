"""The search against enumeration, with every reduction on and off; the table of optima; what it refuses."""

import dataclasses
import time

import numpy as np
import pytest
from lifted_oracles import r1_labels, r1_optimum

from steerax import ConfigurationError, DataError
from steerax.lifted import R1, Problem, Reductions, read_table, solve, tasks
from steerax.lifted.certificate.check import CertificateError, check
from steerax.lifted.problem.alphabet import score_matrices, ternary
from steerax.lifted.search import kernels_numpy as kernels
from steerax.lifted.search import search
from steerax.lifted.search.expand import collision_bounds, expand, merge_rows, sequence_keys
from steerax.lifted.search.search import _Search
from steerax.lifted.search.tables import build_tables, build_target, closed_under_swap

FLAGS = [field.name for field in dataclasses.fields(Reductions)]


def random_problem(rng):
    """A tiny instance: a thinned-out class, a few weighted sequences, labels that may contradict each other."""
    n, V = int(rng.integers(1, 5)), int(rng.integers(2, 4))
    model = R1(
        n,
        vocabulary=V,
        matrices=rng.choice(score_matrices(up_to_scale=False), rng.integers(1, 4), replace=False),
        rows=rng.choice(ternary(2), rng.integers(1, 4), replace=False),
        directions=rng.permutation([(1, 0), (0, 1), (1, 1), (1, -1)])[: rng.integers(1, 5)],
    )
    N = int(rng.integers(1, 8))
    return Problem.create(rng.integers(0, V, (N, n)), rng.integers(0, 2, N), rng.integers(1, 6, N), model)


def agreeing(rng, number):
    """How many of so many random instances agree with enumeration."""
    done = 0
    while done < number:
        problem = random_problem(rng)
        settings = len(problem.model.matrices) * len(problem.model.rows) ** 2
        depth = int(rng.choice([d for d in (1, 2, 3) if d == 1 or settings**d <= 150]))
        optimum = r1_optimum(problem, depth)
        flags = {flag: bool(rng.integers(2)) for flag in FLAGS}
        for reductions in (Reductions(), Reductions(**flags)):
            backend = ("numpy", "numba")[int(rng.integers(2))]  # without masks there is no compiled search
            solution = solve(problem, depth, reductions=reductions, backend=backend, seed=int(rng.integers(99)))
            assert (solution.lower, solution.upper, solution.status) == (optimum, optimum, "proven"), (flags, depth)
            assert problem.errors(solution.network(problem.tokens)) == optimum
            assert problem.errors(r1_labels(problem.model, solution.weights, problem.tokens)) == optimum
        done += 1
    return done


def test_search_equals_enumeration_on_random_instances(monkeypatch):
    monkeypatch.setattr(search, "FIRST_WAVE", 1)
    assert agreeing(np.random.default_rng(0), 150) == 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_search_equals_enumeration_on_ten_thousand_random_instances():
    assert agreeing(np.random.default_rng(1), 10_000) == 10_000


@pytest.mark.parametrize("flag", FLAGS)
def test_every_reduction_alone_keeps_the_value(flag, monkeypatch):
    monkeypatch.setattr(search, "FIRST_WAVE", 1)
    for number, problem in enumerate((tasks.palindrome(3), tasks.contains(3, "101"), tasks.parity(3))):
        reduced = R1(3, matrices=problem.model.matrices[number::20], rows=ternary(2)[::2])
        problem = dataclasses.replace(problem, model=reduced)
        with_all = solve(problem, 2, backend="numpy")
        without = solve(problem, 2, backend="numpy", reductions=dataclasses.replace(Reductions(), **{flag: False}))
        assert (without.value, without.status) == (with_all.value, "proven")
        assert problem.errors(without.network(problem.tokens)) == with_all.value


OPTIMA = {"parity": (4, 0), "palindrome": (2, 0), "sorted": (1, 0), "contains_101": (3, 0), "ones_mod_3": (2, 0)}


@pytest.mark.parametrize("task", OPTIMA)
def test_optima_of_four_bits(task):
    problem = tasks.TASKS[task](4)
    found = tuple(solve(problem, depth).value for depth in (1, 2))
    assert found == OPTIMA[task]


def test_direction_classes_have_the_argmax_sets_of_their_members():
    model = R1(4)
    tables = build_tables(model, Reductions())
    assert [len(build_tables(R1(n), Reductions()).normal) for n in (4, 6, 8)] == [73, 153, 241]
    rng = np.random.default_rng(0)
    for _ in range(300):
        b, g = rng.integers(len(tables.matrices)), rng.integers(len(tables.cells))
        tokens = tables.cells[rng.integers(len(tables.cells), size=5)]
        scores = [tokens @ q for q in (tables.normal[tables.direction[b, g]], tables.cells[g] @ tables.matrices[b])]
        best = [s == s.max() for s in scores]
        assert (best[0] == best[1]).all()


@pytest.fixture(scope="module")
def parity_wave():
    problem = tasks.parity(4)
    tables, target = build_tables(problem.model, Reductions()), build_target(problem)
    codes = problem.model.codes(problem.model.embedding)
    start = codes[np.arange(4), problem.tokens].astype(np.uint8)
    wave = expand(start, tables, target, Reductions(), closed_under_swap(problem.model))
    return problem, tables, target, wave


def test_bounds_never_exceed_the_value_and_kernels_agree(parity_wave):
    _, tables, target, wave = parity_wave
    some = wave.take(np.random.default_rng(0).permutation(len(wave))[:12])
    exact, _ = kernels.terminal(some.states, tables, target, target.total, bound=False, masks=True)
    counted, _ = kernels.terminal(some.states[:2], tables, target, target.total, bound=False, masks=False)
    assert (exact[:2] == counted).all()
    assert (some.bounds <= exact).all()
    z = kernels.attended(some.states, tables)
    by_matrix = kernels.last_layer_bounds(some.states, z, tables, target)
    assert (by_matrix.min(1) <= exact).all()
    assert (by_matrix.min(1) >= some.bounds).any()


def test_merged_states_have_the_same_value(parity_wave):
    """States that agree up to the order of the tokens behind the first, or after a swap, are worth the same."""
    _, tables, target, wave = parity_wave
    rng = np.random.default_rng(3)
    states = wave.states[rng.permutation(len(wave))[:10]]
    shuffled = states.copy()
    shuffled[:, :, 1:] = rng.permuted(states[:, :, 1:], axis=2)
    x0, x1 = np.divmod(np.arange(25), 5)
    values = [
        kernels.terminal(s, tables, target, target.total, True, True)[0]
        for s in (states, shuffled, (x1 * 5 + x0).astype(np.uint8)[states])
    ]
    assert (values[0] == values[1]).all()
    assert (values[0] == values[2]).all()


def test_a_sign_flip_is_no_symmetry(parity_wave):
    """Halves are rounded up, so negating a coordinate changes optima: it must not be used to merge states."""
    _, tables, target, wave = parity_wave
    states = wave.states[np.random.default_rng(0).permutation(len(wave))[:60]]
    x0, x1 = np.divmod(np.arange(25), 5)
    flipped = ((4 - x0) * 5 + x1).astype(np.uint8)[states]
    a, b = (kernels.terminal(s, tables, target, target.total, True, True)[0] for s in (states, flipped))
    assert (a != b).any()


def test_merging_survives_equal_fingerprints():
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6]])
    assert merge_rows(rows).tolist() == [0, 1, 3]


def test_collision_bound_is_the_minority_of_each_group(parity_wave):
    problem, tables, target, wave = parity_wave
    keys = sequence_keys(wave.states[:50], tables, True)
    for bound, row in zip(collision_bounds(keys, target), keys, strict=True):
        groups = [problem.labels[row == k] for k in np.unique(row)]
        assert bound == sum(min((g == 0).sum(), (g == 1).sum()) for g in groups)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_search_that_ends_at_any_moment_has_valid_bounds(backend, monkeypatch):
    """The clock strikes at its k-th reading, k at random; without the identity no shallower network stands in."""
    rng = np.random.default_rng(5)
    some = {"matrices": score_matrices()[::9], "directions": np.array([(1, 0), (1, 1)])}
    for depth, rows in (
        (1, ternary(2)[::3]),
        (2, ternary(2)[::3]),
        (2, np.array([(1, 0), (0, 1)])),
        (3, ternary(2)[[0, 4]]),
    ):
        problem = dataclasses.replace(tasks.parity(3), model=R1(3, rows=rows, **some))
        value, gaps = solve(problem, depth, backend="numpy").value, 0
        for last in (0, 1, 2, *rng.integers(3, 60, 10)):
            left = iter(range(int(last)))
            monkeypatch.setattr(_Search, "late", property(lambda _, left=left: next(left, None) is None))
            monkeypatch.setattr(search, "FIRST_WAVE", 1)
            solution = solve(problem, depth, time_limit=1e-6, backend=backend, seed=int(last))
            monkeypatch.undo()
            assert solution.lower <= value <= solution.upper
            assert problem.errors(r1_labels(problem.model, solution.weights, problem.tokens)) == solution.upper
            assert solution.status == ("proven" if solution.lower == solution.upper else "gap")
            check(solution, "full")
            gaps += solution.status == "gap"
        assert depth == 1 or gaps


@pytest.mark.slow
@pytest.mark.parametrize(("n", "depth", "backend"), [(8, 2, "numba"), (6, 3, "numba"), (6, 2, "numpy"), (9, 2, "auto")])
def test_time_limits_are_kept(n, depth, backend):
    solve(tasks.parity(3), 1, backend="numba")
    times = []
    for _ in range(3):
        began = time.monotonic()
        solution = solve(tasks.parity(n), depth, time_limit=4, backend=backend)
        times.append(time.monotonic() - began)
        assert solution.status == "gap"
    assert sorted(times)[1] < 1.1 * 4


def test_a_finished_search_has_listed_every_state_and_a_false_list_is_found_by_samples():
    rows, some = ternary(2)[[2, 4, 6]], score_matrices()[::90]
    problem = dataclasses.replace(tasks.parity(4), model=R1(4, rows=rows, matrices=some))
    solution = solve(problem, 2, backend="numpy")
    assert solution.lower > 0
    assert check(solution, "sample", samples=200).level == "sample"
    half = dataclasses.replace(solution, nodes=solution.nodes[::2], node_bounds=solution.node_bounds[::2])
    with pytest.raises(CertificateError, match="not listed"):
        check(half, "sample", samples=200)


def test_data_that_contradict_themselves_prove_their_errors_at_every_level():
    problem = Problem.create([[0, 1, 1], [0, 1, 1], [1, 0, 1]], [0, 1, 1], [2, 3, 5], R1(3, rows=np.array([(1, 0)])))
    solution = solve(problem, 2, time_limit=1e-9)
    assert solution.lower == 2
    assert [check(solution, level).level for level in ("witness", "sample", "full")] == ["witness", "sample", "full"]


@pytest.mark.parametrize("reductions", [Reductions(), Reductions(masks=False)])
def test_constant_labels_are_available_in_every_class(reductions):
    """A threshold beyond all scores, even where the only scores are diagonal ones."""
    model = R1(1, vocabulary=3, matrices=score_matrices()[:2], rows=np.array([(1, -1)]), directions=np.array([(1, 1)]))
    problem = Problem.create([[0], [1], [2]], [0, 0, 0], [1, 4, 9], model)
    assert solve(problem, 2, reductions=reductions, backend="numpy").value == 0
    ones = dataclasses.replace(problem, labels=np.ones_like(problem.labels))
    assert solve(ones, 2, reductions=reductions, backend="numpy").value == 0


def test_contradicting_labels_are_the_unavoidable_error():
    problem = Problem.create([[0, 1], [0, 1], [1, 1]], [0, 1, 1], [2, 3, 5])
    assert solve(problem, 1).value == 2


def test_progress_reports_bounds_that_close():
    seen = []
    solution = solve(tasks.contains(3, "101"), 2, backend="numpy", progress=seen.append)
    assert all(r.lower <= solution.value <= r.upper and r.done <= r.total for r in seen)


def test_reads_user_tables(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,label,times\nlow,high,yes,2\nhigh,low,no,1\nlow,low,no,4\n")
    problem = read_table(path, weight="times")
    assert (problem.total, problem.model.length, problem.model.vocabulary) == (7, 2, 2)
    assert solve(problem, 1).value == 0
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("a,label\n10,1\n9,0\n2,0\n")
    assert read_table(numbers).tokens.ravel().tolist() == [0, 1, 2]  # by value, not by text


def test_texts_of_a_table_stay_as_they_stand(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,label\n007,no\n7,yes\n 7,no\n")
    problem = read_table(path)
    assert set(problem.symbols) == {"007", "7", " 7"}
    path.write_text("a,label\nNA,no\nb,yes\n")
    assert read_table(path, missing=()).symbols == ("NA", "b")
    with pytest.raises(DataError, match="row 1 has no value in column 'a' \\('NA'\\)"):
        read_table(path)


def test_rejects_bad_tables_and_problems(tmp_path):
    def refused(text, match, **options):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=match):
            read_table(path, **options)

    refused("a,b\n0,1\n", "needs a column label")
    refused("a,label\n", "no row")
    refused("a,label\n,1\n", "knows no gaps")
    refused("a,label\n0,1\n0,2\n0,3\n", "3 different values")
    refused("a,label,w\n0,1,x\n", "integers", weight="w")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="one label"):
        Problem.create([[0, 1]], [2])
    with pytest.raises(DataError, match="integers > 0"):
        Problem.create([[0, 1]], [1], [0])
    with pytest.raises(DataError, match="array"):
        Problem.create([[0.5, 1]], [1])
    with pytest.raises(ConfigurationError, match="another length"):
        Problem.create([[0, 1]], [1], model=R1(3))


def test_rejects_impossible_requests():
    problem = tasks.parity(3)
    with pytest.raises(ConfigurationError, match="depth is 0"):
        solve(problem, 0)
    with pytest.raises(ConfigurationError, match="time_limit"):
        solve(problem, 1, time_limit=-1)
    with pytest.raises(ConfigurationError, match="memory limit"):
        solve(problem, 2, memory_limit=1000)
    with pytest.raises(ConfigurationError, match="64-bit key"):
        solve(tasks.parity(10), 1)


@pytest.mark.slow
def test_a_limit_that_is_not_reached_changes_nothing(monkeypatch):
    """With looks at the clock after every few states."""
    labels = np.random.default_rng(0).integers(0, 2, 32)
    problem = Problem.create(tasks.all_strings(5), labels, model=R1(5, 2))
    free, start = solve(problem, 2, backend="numpy"), _Search.__init__

    def sliced(self, *arguments):
        start(self, *arguments)
        self.slice = 1e-9

    monkeypatch.setattr(_Search, "__init__", sliced)
    limited = solve(problem, 2, time_limit=1e6, backend="numpy")
    assert (limited.lower, limited.upper, limited.status) == (free.lower, free.upper, "proven")
    assert free.upper > 0
