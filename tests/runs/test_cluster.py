"""The workers of a cluster of dask (extra `cluster`) give the numbers of one process, also when one of them is killed."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra cluster")
def test_two_workers_of_dask_of_which_one_is_killed_give_what_one_process_gives(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, str(SUPPORT / "dask_cluster.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert answers["killed"]
    assert len(answers["numbers"]) == 11
    for alone, found in answers["numbers"]:
        np.testing.assert_allclose(found, alone, rtol=1e-12)
    assert answers["reproduced"] == ["duality", True]
    assert answers["died"].startswith("A worker died")
