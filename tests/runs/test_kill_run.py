"""kill -9 at any moment, also while a checkpoint is being written or removed, tears nothing."""

import subprocess
import sys
import time
from pathlib import Path

import counting
import numpy as np
import pytest

from steerax.runs.files import read_arrays, read_json
from steerax.runs.folder import RunFolder


def steps(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdecimal())


@pytest.mark.slow
def test_twenty_kills_leave_the_run_as_if_undisturbed(tmp_path):
    folder, rng, reached = tmp_path / "run", np.random.default_rng(0), [0]
    for _ in range(20):
        victim = subprocess.Popen([sys.executable, counting.__file__, str(folder), "1000000"])
        while max(steps(folder), default=0) <= reached[-1]:
            assert victim.poll() is None
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        victim.kill()
        victim.wait()
        for step in steps(folder):  # whatever has a number is whole
            place = folder / "checkpoints" / str(step)
            assert read_json(place / "state.json")["step"] == step
            assert len(read_arrays(place / "arrays.safetensors")["metric:sum"]) == step
        reached.append(max(steps(folder)))
    end = reached[-1] + 10
    done = counting.run(folder, end)
    state, metrics = counting.advance(np.arange(counting.SIZE), 0, end)
    np.testing.assert_array_equal(done.state, state)
    np.testing.assert_array_equal(done.metrics["sum"], metrics["sum"])
    log = RunFolder(Path(folder), {"size": counting.SIZE}, resume=True).records()
    assert [r["step"] for r in log] == list(range(1, end + 1))
    assert not list((folder / "checkpoints").glob(".*"))
