"""`steerax reproduce --workers`: a worker that is killed ends the command with a sentence, and the same command goes on."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'steerax'; from steerax.cli.main import main; main()",
    *["reproduce", "layers", "--quick", "--seeds", "5", "--workers", "2", "--out", "out"],
]


def children(parent: int) -> list[int]:
    """The workers that a process has started."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            ancestor = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if ancestor == parent and "spawn_main" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:  # it has ended meanwhile
            continue
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_a_worker_that_is_killed_ends_in_a_sentence_and_what_is_finished_is_kept(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    options = {"cwd": tmp_path, "env": environment, "text": True, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(COMMAND, **options) as process:
        while not any((tmp_path / "out").glob("layers*.json")):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "steerax: A worker died" in error
    assert "Traceback" not in error
    finished = len(list((tmp_path / "out").glob("layers*.json")))
    assert 1 <= finished < 5
    done = subprocess.run(COMMAND, timeout=600, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count(", kept:") == finished
    assert len(list((tmp_path / "out").glob("layers*.json"))) == 5
