"""The loop makes every step once, in order, however it is cut, stopped or resumed."""

import os
import signal

import numpy as np
import pytest

from steerax._results import RESULTS
from steerax.runs import loop
from steerax.runs.folder import RunFolder

STEPS = 57


def advance(state, first, count):
    """A recursion that notices a step that is lost, doubled or out of order."""
    made = []
    for n in range(first, first + count):
        state = (state * 31 + n) % 1_000_003
        made.append(state)
    return state, {"x": np.asarray(made)}


def store(tmp_path, resume=False):
    folder = RunFolder(tmp_path / "run", {"a": 1}, resume)
    return loop.Store(folder, lambda s: {"state": np.asarray(s)}, lambda a: int(a["state"]), every=10)


WHOLE = advance(1, 0, STEPS)


@pytest.mark.parametrize("options", [{}, {"every": 7}, {"largest": 3}, {"seconds": 0.0}, {"every": 100}])
def test_the_cut_into_chunks_does_not_matter(options):
    done = loop.run(advance, 1, STEPS, **options)
    assert (done.state, done.step) == (WHOLE[0], STEPS)
    assert done.result == RESULTS.successful
    np.testing.assert_array_equal(done.metrics["x"], WHOLE[1]["x"])


def test_hooks_are_called_on_time_and_see_every_metric_once():
    seen = []
    loop.run(advance, 1, STEPS, every=10, hooks=[lambda s: seen.append((s.step, s.metrics["x"]))])
    assert [step for step, _ in seen] == [10, 20, 30, 40, 50, 57]
    np.testing.assert_array_equal(np.concatenate([x for _, x in seen]), WHOLE[1]["x"])


def test_a_stopped_run_resumes_to_the_same_end(tmp_path):
    stop = lambda s: {"stop": s.step >= 28}
    first = loop.run(advance, 1, STEPS, every=7, hooks=[stop], store=store(tmp_path))
    assert first.step == 28
    assert first.result == RESULTS.stopped
    made = []
    counted = lambda state, first, count: (made.append(first), advance(state, first, count))[1]
    done = loop.run(counted, 1, STEPS, store=store(tmp_path, resume=True))
    assert made[0] == 28  # what was done is not done again
    assert done.state == WHOLE[0]
    np.testing.assert_array_equal(done.metrics["x"], WHOLE[1]["x"])


@pytest.mark.parametrize("every", [7, 15, 23, 100])
def test_hooks_of_a_resumed_run_see_what_those_of_an_undisturbed_one_see(tmp_path, every):
    seen = []
    note = lambda s: seen.append((s.step, s.metrics["x"].tolist()))
    loop.run(advance, 1, STEPS, every=every, hooks=[note])
    whole = [*seen]
    seen.clear()

    def dies(state, first, count):
        if first >= 30:
            raise MemoryError
        return advance(state, first, count)

    with pytest.raises(MemoryError):
        loop.run(dies, 1, STEPS, every=every, hooks=[note], store=store(tmp_path))
    seen[:] = [call for call in seen if call[0] <= 30]  # the log is cut back to the checkpoint too
    loop.run(advance, 1, STEPS, every=every, hooks=[note], store=store(tmp_path, resume=True))
    assert seen == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_after_the_step_and_leaves_a_checkpoint(tmp_path, number):
    def interrupt(state, first, count):
        if first >= 20:
            os.kill(os.getpid(), number)
        return advance(state, first, count)

    before = signal.getsignal(number)
    first = loop.run(interrupt, 1, STEPS, largest=4, store=store(tmp_path))
    assert first.result == RESULTS.interrupted
    assert 20 < first.step < STEPS
    assert signal.getsignal(number) is before
    assert store(tmp_path, resume=True).folder.steps()[-1] == first.step
    done = loop.run(advance, 1, STEPS, store=store(tmp_path, resume=True))
    assert done.state == WHOLE[0]


def test_an_error_in_a_step_is_not_swallowed_and_the_handler_comes_back():
    def fail(state, first, count):
        raise RuntimeError("inside")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="inside"):
        loop.run(fail, 1, STEPS)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_hooks_return_is_logged(tmp_path):
    place = store(tmp_path)
    loop.run(advance, 1, STEPS, every=20, hooks=[lambda s: {"twice": 2 * s.step}], store=place)
    assert place.folder.records() == [{"step": s, "twice": 2 * s} for s in (20, 40, 57)]


def test_no_steps_is_a_run_too():
    done = loop.run(advance, 1, 0)
    assert (done.state, done.step, done.metrics) == (1, 0, {})
