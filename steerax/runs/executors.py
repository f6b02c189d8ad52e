"""Independent computations on any executor: the same numbers wherever they run, in the order in which they were asked for."""

import concurrent.futures
import contextlib
import pickle
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import jax

from .._compiled import keep_few
from .._errors import ConfigurationError, WorkerError

_PROCESS = uuid.uuid4().hex  # another one in every process that imports this module


def sweep(
    function: Callable[[Any], Any],
    cases: Iterable[Any],
    executor: concurrent.futures.Executor | None = None,
    on_result: Callable[[int, Any], Any] | None = None,
) -> list[Any]:
    """`[function(case) for case in cases]`, computed by the workers of an executor; the order is that of the cases.

    Workers compute in the precision of the caller (`jax_enable_x64`), and arrays keep theirs on the way, so that the numbers
    are those of one process.

    **Arguments:** `function`, of a module, with one argument that can be pickled, as a tuple of what it needs (it travels whole, so of
    large data rather the path); `cases`;
    `executor`, any `concurrent.futures.Executor`: threads, processes (`ProcessPoolExecutor` with
    `mp_context=multiprocessing.get_context("spawn")`: JAX does not survive a fork), or `Client.get_executor()` of dask; `None` computes here,
    one case after the other. `on_result(i, result)` is called in this thread as soon as a result is there.

    **Raises:** what `function` raises, of the first case for which it does, after the cases that had begun have ended;
    `WorkerError` if a worker died, with what is `finished`; `ConfigurationError` for a case that cannot be sent.
    """
    cases, finished = list(cases), {}

    def take(i: int, result: Any) -> None:
        finished[i] = result
        if on_result is not None:
            on_result(i, result)

    if executor is None:
        for i, case in enumerate(cases):
            take(i, function(case))
    else:
        failures = _compute(function, [_packed(i, case) for i, case in enumerate(cases)], executor, take)
        deaths = {i for i, error in failures.items() if _is_death(error)}
        if failures.keys() - deaths:
            raise failures[min(failures.keys() - deaths)]
        if deaths:
            raise WorkerError(finished, len(cases)) from failures[min(deaths)]
    return [finished[i] for i in range(len(cases))]


def _compute(
    function: Any, packed: list[bytes], executor: concurrent.futures.Executor, take: Callable[[int, Any], None]
) -> dict[int, BaseException]:
    """Send all and take what ends; after a failure send and begin nothing more. The failures, when nothing runs any more."""
    failures: dict[int, BaseException] = {}
    here = jax.config.jax_enable_x64, _PROCESS  # pyright: ignore[reportAttributeAccessIssue]
    place: dict[concurrent.futures.Future, int] = {}
    try:
        try:
            for i, case in enumerate(packed):
                place[executor.submit(_performed, function, case, *here)] = i
        except concurrent.futures.BrokenExecutor as error:
            failures[len(place)] = error
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


def _packed(i: int, case: Any) -> bytes:
    try:
        return pickle.dumps(case, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"What computation {i} needs cannot be sent to a worker ({error}); functions have to stand in a module, and data over "
            "devices stay in their process."
        ) from None


def _performed(function: Callable[[Any], Any], packed: bytes, wide: bool, process: str) -> bytes:
    """One case, in the worker. It is unpacked here, since what the executor unpacks itself would lose its precision."""
    keep_few()
    if jax.config.jax_enable_x64 == wide:  # pyright: ignore[reportAttributeAccessIssue]
        precision = contextlib.nullcontext()
    elif process == _PROCESS:
        precision = jax.enable_x64(wide)
    else:  # a process that works for the caller, with all its threads
        precision = contextlib.nullcontext(jax.config.update("jax_enable_x64", wide))
    with precision:
        return pickle.dumps(function(pickle.loads(packed)), pickle.HIGHEST_PROTOCOL)


def _is_death(error: BaseException) -> bool:
    """Whether a worker died, as the standard library or dask says."""
    return isinstance(error, concurrent.futures.BrokenExecutor) or type(error).__name__ == "KilledWorker"
