"""Sweeps give the same numbers on every executor; what workers finished is kept when one of them dies."""

import concurrent.futures
import multiprocessing
import os
import sys
import threading
import types

import jax
import numpy as np
import pytest
from worker_cases import Unlike, deadly, impossible, precise, unlike, unsendable

import steerax as sx
from steerax.runs.executors import sweep

X = jax.numpy.asarray([1.0, 1e-12, -1.0])
CASES = [(X, 10.0**i) for i in range(3)]


def spawned(workers=1):
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        for name in ("x", "sum", "made"):
            assert a[name].dtype == b[name].dtype == np.float64
            assert np.array_equal(a[name], b[name])


def test_threads_give_what_a_loop_gives_in_the_order_of_the_cases():
    expected = [precise(case) for case in CASES]
    seen = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        same(sweep(precise, CASES, pool, lambda i, result: seen.append(i)), expected)
    assert sorted(seen) == [0, 1, 2]
    same(sweep(precise, CASES), expected)
    assert sweep(precise, []) == []


def test_results_come_in_the_order_of_the_cases_whichever_is_ready_first():
    second_is_taken, order = threading.Event(), []

    def slow_first(case):
        assert case == 1 or second_is_taken.wait(10)
        return case

    def take(i, _):
        order.append(i)
        second_is_taken.set()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert sweep(slow_first, [0, 1], pool, take) == [0, 1]
    assert order == [1, 0]


def test_a_thread_computes_in_the_precision_of_its_caller():
    with jax.enable_x64(False), concurrent.futures.ThreadPoolExecutor(1) as pool:
        (found,) = sweep(precise, [(np.float32([1, 2]), 1.0)], pool)
        assert found["made"].dtype == np.float32
    assert jax.numpy.ones(1).dtype == np.float64


def test_the_first_error_is_raised_when_what_had_begun_has_ended():
    ended = []

    def fails(case):
        if case in (1, 2):
            raise sx.DataError(f"case {case}")
        ended.append(case)
        return case

    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(sx.DataError, match="case 1"):
        sweep(fails, range(3), pool)
    assert ended == [0]


class Torn:
    """Cannot be taken apart."""

    def __reduce__(self):
        raise OSError("torn")


@pytest.mark.parametrize("case", [lambda: 0, Torn(), threading.Lock()], ids=["a function", "torn", "a lock"])
def test_rejects_what_cannot_be_sent(case):
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(sx.ConfigurationError, match="computation 1"):
        sweep(precise, [1, case], pool)


def test_says_what_cannot_be_sent_back():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(sx.ConfigurationError, match="result of computation 0"):
            sweep(unsendable, [1], pool)
        with pytest.raises(Unlike, match="1 and another"):  # which stays in its process
            sweep(unlike, [1], pool)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((5, [1]), "function"),
        ((precise, 5), "cases"),
        ((precise, [1], 5), "executor=5"),
        ((precise, [1], concurrent.futures.ThreadPoolExecutor), "executor"),
        ((precise, [1], None, 5), "on_result"),
    ],
)
def test_rejects_arguments_of_another_kind(arguments, said):
    with pytest.raises(sx.ConfigurationError, match=said):
        sweep(*arguments)


def test_says_that_a_pool_is_closed():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(sx.ConfigurationError, match="closed"):
        sweep(precise, CASES, pool)


def test_a_function_that_cannot_be_sent_is_refused_by_processes_before_they_start():
    with spawned() as pool, pytest.raises(sx.ConfigurationError, match="function"):
        sweep(lambda case: case, [1], pool)


@pytest.mark.slow
def test_processes_give_what_a_loop_gives_in_the_precision_of_the_caller():
    with spawned() as pool:
        found = sweep(precise, CASES, pool)
        same(found, [precise(case) for case in CASES])
        assert {result["process"] for result in found}.isdisjoint({os.getpid()})
        with pytest.raises(sx.ImpossibleTokenError) as error:
            sweep(impossible, [1], pool)
        assert (error.value.sequence, error.value.position, error.value.token) == (0, 1, 1)
        with pytest.raises(sx.ConfigurationError, match="result of computation 0"):
            sweep(unsendable, [1], pool)
        with pytest.raises(RuntimeError, match="Unlike: 1 and another"):
            sweep(unlike, [1], pool)
        here = types.ModuleType("only_here")  # as of a notebook
        exec("def only(case): return case", vars(here))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "only_here", here)
            with pytest.raises(sx.ConfigurationError, match="computation 0"):
                sweep(here.only, [1], pool)
        assert sweep(abs, [-1], pool) == [1]  # the pool lives


@pytest.mark.slow
def test_what_was_finished_before_a_worker_died_is_kept(tmp_path):
    kept = {}
    with spawned(2) as pool, pytest.raises(sx.WorkerError, match=r"A worker died .* 3 results") as error:
        sweep(deadly, [(i, tmp_path, "after the others") for i in range(3)], pool, kept.__setitem__)
    assert error.value.finished == kept == {1: 1, 2: 2}
    with pytest.raises(sx.WorkerError, match="the 0 that were ready"):  # an executor that is broken already
        sweep(deadly, [(1, tmp_path, "")], pool)


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_rejects_processes_that_were_forked():
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
    with pool, pytest.raises(sx.ConfigurationError, match="spawn"):
        sweep(precise, CASES, pool)
