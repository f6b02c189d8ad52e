"""Independent computations on any executor: the same numbers wherever they run, in the order in which they were asked for."""

import concurrent.futures
import pickle
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import jax

from .._compiled import keep_few
from .._errors import ConfigurationError, WorkerError

_PROCESS = uuid.uuid4().hex  # another one in every process that imports this module


def sweep(
    function: Callable[[Any], Any] | Any,
    cases: Iterable[Any] | Any,
    executor: concurrent.futures.Executor | Any = None,
    on_result: Callable[[int, Any], Any] | Any = None,
) -> list[Any]:
    """`[function(case) for case in cases]`, computed by the workers of an executor; the order is that of the cases.

    Workers compute in the precision of the caller (`jax_enable_x64`), and arrays keep theirs on the way, so that the numbers
    are those of one process.

    **Arguments:** `function`, of a module, with one argument that can be pickled, as a tuple of what it needs (it travels whole, so of
    large data rather the path); `cases`;
    `executor`, any `concurrent.futures.Executor`: threads, processes (`ProcessPoolExecutor` with
    `mp_context=multiprocessing.get_context("spawn")`: JAX does not survive a fork), or `Client.get_executor()` of dask; `None` computes here,
    one case after the other. `on_result(i, result)` is called in this thread as soon as a result is there.

    **Raises:** what `function` raises, of the first case for which it does, after the cases that had begun have ended (a
    `RuntimeError` that names it, if it cannot be sent); `WorkerError` if a worker died, with what is `finished`; `ConfigurationError` for a
    function, a case or a result that cannot be sent, an executor that takes no more work, and arguments of another kind.
    """
    _check(function, cases, on_result)
    check_executor(executor)
    cases, finished = list(cases), {}

    def take(i: int, result: Any) -> None:
        finished[i] = result
        if on_result is not None:
            on_result(i, result)

    if executor is None:
        for i, case in enumerate(cases):
            take(i, function(case))
    else:
        calls = [_packed(i, function, case, executor) for i, case in enumerate(cases)]
        failures = _compute(calls, executor, take)
        deaths = {i for i, error in failures.items() if _is_death(error)}
        if failures.keys() - deaths:
            raise failures[min(failures.keys() - deaths)]
        if deaths:
            raise WorkerError(finished, len(cases)) from failures[min(deaths)]
    return [finished[i] for i in range(len(cases))]


def check_executor(executor: Any) -> None:
    """Raises `ConfigurationError` for what is neither `None` nor a `concurrent.futures.Executor`."""
    if executor is not None and not isinstance(executor, concurrent.futures.Executor):
        raise ConfigurationError(
            f"executor={executor!r} needs to be a concurrent.futures.Executor, such as ThreadPoolExecutor(2), or None."
        )


def _check(function: Any, cases: Any, on_result: Any) -> None:
    if not callable(function):
        raise ConfigurationError(f"sweep takes a function of one argument, not {function!r}.")
    if not isinstance(cases, Iterable):
        raise ConfigurationError(f"sweep takes several cases, in a list for instance, not {cases!r}.")
    if on_result is not None and not callable(on_result):
        raise ConfigurationError(f"on_result={on_result!r} needs to be a function of a number and a result, or None.")


def _compute(
    calls: list[tuple[Any, bytes]], executor: concurrent.futures.Executor, take: Callable[[int, Any], None]
) -> dict[int, BaseException]:
    """Send all and take what ends; after a failure send and begin nothing more. The failures, when nothing runs any more."""
    failures: dict[int, BaseException] = {}
    here = jax.config.jax_enable_x64, _PROCESS  # pyright: ignore[reportAttributeAccessIssue]
    place: dict[concurrent.futures.Future, int] = {}
    try:
        try:
            for i, (function, case) in enumerate(calls):
                place[executor.submit(_performed, i, function, case, *here)] = i
        except concurrent.futures.BrokenExecutor as error:
            failures[len(place)] = error
        except RuntimeError as error:  # so the standard library says that it was shut down
            raise ConfigurationError(f"The executor is closed ({error}); open a new one.") from None
        open_futures = set(place)
        while open_futures:
            done, open_futures = concurrent.futures.wait(open_futures, return_when="FIRST_COMPLETED")
            for future in sorted(done, key=place.__getitem__):
                if (error := future.exception()) is not None:
                    failures[place[future]] = error
                else:
                    take(place[future], pickle.loads(future.result()))
            if failures:
                open_futures = {future for future in open_futures if not future.cancel()}
    except BaseException:
        for future in place:
            future.cancel()
        raise
    return failures


def _packed(i: int, function: Any, case: Any, executor: concurrent.futures.Executor) -> tuple[Any, bytes]:
    """A function and its case as they are sent. Processes get the function in bytes, since a worker that cannot unpack what its pool
    sends dies without a word; others send it in ways of their own."""
    try:
        case = pickle.dumps(case, pickle.HIGHEST_PROTOCOL)
        if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
            function = pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever an object raises that is taken apart
        raise _not_sent(f"What computation {i} needs cannot be sent to a worker", error) from None
    return function, case


def _not_sent(what: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{what} ({error}); functions and classes have to stand in a module, and data over devices stay in their process."
    )


def _performed(i: int, function: Any, packed: bytes, wide: bool, process: str) -> bytes:
    """One case, in the worker. It is unpacked here, since what the executor unpacks itself would lose its precision."""
    keep_few()
    if process != _PROCESS:  # a process that works for the caller, with all its threads
        jax.config.update("jax_enable_x64", wide)
    with jax.enable_x64(wide):
        try:
            function = pickle.loads(function) if isinstance(function, bytes) else function
            case = pickle.loads(packed)
        except Exception as error:
            raise _not_sent(f"What computation {i} needs cannot be unpacked by a worker", error) from None
        try:
            result = function(case)
        except Exception as error:
            if process == _PROCESS or _can_be_sent(error):
                raise
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        try:
            return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise _not_sent(f"The result of computation {i} cannot be sent back", error) from None


def _can_be_sent(error: Exception) -> bool:
    """Whether an error arrives: what cannot be put together again would look like a worker that died."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


def _is_death(error: BaseException) -> bool:
    """Whether a worker died, as the standard library or dask says."""
    return isinstance(error, concurrent.futures.BrokenExecutor) or type(error).__name__ == "KilledWorker"
