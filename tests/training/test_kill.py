"""kill -9 at any moment, also while a checkpoint is being written, loses at most the last few steps."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from steerax.runs.files import read_json
from steerax.runs.folder import RunFolder

VICTIM = Path(__file__).parents[1] / "support" / "victim.py"
STEPS = 1000


def start(folder):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, str(VICTIM), str(folder), str(STEPS)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_leave_the_losses_of_an_undisturbed_run(tmp_path):
    undisturbed = start(tmp_path / "whole")
    rng = np.random.default_rng(0)
    folder = tmp_path / "run"
    reached = []
    for _ in range(5):
        victim = start(folder)
        before = reached[-1] if reached else 0
        # Let it get at least one checkpoint further, then strike at a random moment; saving is most of what it does.
        while victim.poll() is None and max(steps(folder), default=0) <= before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        victim.kill()
        victim.communicate()
        reached.append(max(steps(folder)))
        for step in steps(folder):  # whatever has a name is whole
            assert read_json(folder / "checkpoints" / str(step) / "state.json")["step"] == step
        assert RunFolder(folder, read_json(folder / "run.json"), resume=True).latest() is not None
    assert reached == sorted(reached)
    assert reached[-1] < STEPS
    last, error = start(folder).communicate(timeout=400)
    assert last, error.decode()
    whole, error = undisturbed.communicate(timeout=400)
    assert whole, error.decode()
    np.testing.assert_array_equal(np.load(io.BytesIO(last)), np.load(io.BytesIO(whole)))


def steps(folder):
    found = folder / "checkpoints"
    return [int(p.name) for p in found.iterdir() if p.name.isdecimal()] if found.exists() else []
