"""The one loop behind every long run: advance, report, save, stop, resume. It holds no mathematics."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._compiled import keep_few
from .._results import RESULTS, name_of
from .folder import RunFolder
from .progress import Progress

# advance(state, first, count) -> (state, metrics): `count` steps from step `first`; metrics name -> array [count]
Advance = Callable[[Any, int, int], tuple[Any, dict[str, np.ndarray]]]


class Snapshot(NamedTuple):
    """What a hook sees: steps done, the state after them, metrics of the steps since the hook's last call.

    The next step may reuse the memory of the state: a hook that keeps arrays of it keeps copies.
    """

    step: int
    state: Any
    metrics: dict[str, np.ndarray]


# A hook may return a record (JSON values), written to the run folder's log; a true "stop" in it ends the run.
Hook = Callable[[Snapshot], dict[str, Any] | None]


class Finished(NamedTuple):
    """What a loop reached, and its `result`: `successful`, `stopped` (a hook asked for it) or `interrupted` (Ctrl-C)."""

    state: Any
    step: int
    metrics: dict[str, np.ndarray]
    result: RESULTS


class Store(NamedTuple):
    """How a state goes to disk and back: `pack(state) -> arrays`, `unpack(arrays) -> state`."""

    folder: RunFolder
    pack: Callable[[Any], dict[str, np.ndarray]]
    unpack: Callable[[dict[str, np.ndarray]], Any]
    every: int


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that a step is never cut in two; the second one acts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(signum, frame):
        asked.set()
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        restore()


def _resumed(state: Any, store: Store | None) -> tuple[Any, int, dict[str, np.ndarray]]:
    """The state, the step and the metrics of the newest checkpoint, or `state` itself at step 0."""
    found = store.folder.latest() if store else None
    if store is None or found is None:
        return state, 0, {}
    arrays, record = found
    metrics = {name.removeprefix("metric:"): a for name, a in arrays.items() if name.startswith("metric:")}
    rest = {name: a for name, a in arrays.items() if not name.startswith("metric:")}
    return store.unpack(rest), int(record["step"]), metrics


def run(
    advance: Advance,
    state: Any,
    steps: int,
    *,
    every: int = 100,
    hooks: Sequence[Hook] = (),
    store: Store | None = None,
    title: str = "",
    shown: bool = True,
    describe: Callable[[dict[str, np.ndarray], float], str] | None = None,
    seconds: float = 0.5,
    largest: int = 1024,
) -> Finished:
    """Advance a state `steps` times, in chunks that end where a hook or a checkpoint is due.

    Chunks are sized to take about `seconds`, so that Ctrl-C answers quickly and hooks cost nothing; `advance` must
    give the same result however the steps are cut. Ctrl-C saves a checkpoint (if there is a store) and returns.

    **Arguments:** `every`, steps between calls of the hooks; `describe(metrics, seconds_per_step)`, the text beside
    the bar; `largest`, the longest chunk. **Returns** `Finished` with the metrics of all steps, resumed ones too.
    """
    keep_few()
    state, step, done = _resumed(state, store)
    pieces = [done] if done else []
    into = step % every  # a resumed run tells its hooks what an undisturbed one does
    since = [{name: values[len(values) - into :] for name, values in done.items()}] if into and done else []
    result, count, saved = RESULTS.successful, 1, step
    with interruptible() as interrupted, Progress(title, steps, step, shown) as bar:
        while step < steps and result == RESULTS.successful:
            due = [every - step % every, steps - step, count, largest]
            if store:
                due.append(store.every - step % store.every)
            started = time.perf_counter()
            state, metrics = advance(state, step, min(due))
            each = (time.perf_counter() - started) / min(due)
            step += min(due)
            # The first chunks hold compilation; growing at most fourfold keeps one bad estimate harmless.
            count = max(1, min(4 * count, int(seconds / max(each, 1e-9))))
            pieces.append(metrics)
            since.append(metrics)
            bar.update(step, describe(metrics, each) if describe else "")
            if step % every == 0 or step == steps:
                if _call_hooks(hooks, Snapshot(step, state, _join(since)), store):
                    result = RESULTS.stopped
                since = []
            if interrupted() and step < steps:
                result = RESULTS.interrupted
            if store and step != saved and (step % store.every == 0 or step == steps or result != RESULTS.successful):
                arrays = {f"metric:{name}": value for name, value in _join(pieces).items()}
                store.folder.save(step, store.pack(state) | arrays, {"result": name_of(result)})
                saved = step
    return Finished(state, step, _join(pieces), result)


def _call_hooks(hooks: Sequence[Hook], snapshot: Snapshot, store: Store | None) -> bool:
    """Call every hook, log what it returns; whether one of them asked to stop."""
    stop = False
    for hook in hooks:
        answer = hook(snapshot)
        if answer and store:
            store.folder.log({"step": snapshot.step, **answer})
        stop = stop or bool(answer and answer.get("stop"))
    return stop


def _join(pieces: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metrics of consecutive chunks as one array per name."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in (pieces[0] if pieces else {})}
