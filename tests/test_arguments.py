"""Every number that a public function of Python takes is compared with its bounds: one sentence, or an answer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_number_out_of_bounds_is_one_sentence():
    script = Path(__file__).parent / "support" / "argument_sweep.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["tried"]) > 500
    assert not found["faults"]
    assert not [case for case in found["accepted"] if case[2] in ("nan", "inf", "-inf", "'2'")]
