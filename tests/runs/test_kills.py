"""Every long job, killed (kill -9) at random moments from the start of its work to its end, and gone on with as a user would, leaves
the bytes of a run that nothing disturbed.

`STEERAX_KILLS=50 pytest -m slow tests/runs/test_kills.py` kills each job fifty times. A job that ends before that starts anew, and what
each one left is compared. Times are not: `seconds` and `cpu_seconds` in JSON, the hash of the record of a certificate, which covers
them, `Time` and `Command` on a page, and the seconds in `verdicts.md`.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

KILLS = int(os.environ.get("STEERAX_KILLS", "5"))


class Job(NamedTuple):
    """A command in a folder of its own; what a user adds to go on after a stop; the file that says who works there."""

    command: str
    go_on: str
    lock: str


JOBS = {
    "compare": Job(
        "compare t.txt --states 3 --iterations 40 --length 8 --layers 1 --heads 1 --width 8 --steps 3000 --batch 8"
        " --samples 8 --out out",
        "--resume",
        "out/unfinished/.lock",
    ),
    "train": Job(
        "train t.txt --layers 1 --heads 2 --width 16 --block 16 --batch 4 --steps 3000 --every 100 --save-every 50"
        " --out out",
        "--resume",
        "out/run/.lock",
    ),
    "fit": Job(
        "fit t.txt --states 8 --cut 64 --iterations 400 --tolerance 0 --restarts 2 --save-every 0.2 --out out",
        "--resume",
        "out.unfinished/.lock",
    ),
    "fit of series": Job(
        "fit y.csv --model linear --tokens y --states 3 --iterations 300 --tolerance 0 --out out",
        "",
        "out.unfinished/.lock",
    ),
    "solve": Job("solve parity --n 5 --depth 2 --check witness --out out", "", "out.unfinished/.lock"),
    "reproduce": Job("reproduce duality --quick --seeds 3 --out out", "", "out/.lock"),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables of a user's process; compiled functions are kept for the module."""
    cache = tmp_path_factory.mktemp("cache")
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "JAX_ENABLE_X64")
    }
    return kept | {"XDG_CACHE_HOME": str(cache), "PYTHONPYCACHEPREFIX": str(cache / "pyc")}


def start(job, folder, environment, go_on=False):
    """The command in its folder, as a process."""
    words = [*job.command.split(), *(job.go_on.split() if go_on else [])]
    run = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'steerax'; from steerax.cli.main import main; main()",
        *words,
    ]
    return subprocess.Popen(
        run, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def at_work(process, lock):
    """Wait until the process works, or has ended."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if lock.read_text().startswith(f"process {process.pid} "):
                return True
        time.sleep(0.002)
    return False


def prepared(folder):
    """A folder with a text and a series."""
    folder.mkdir()
    draw = random.Random(0)
    (folder / "t.txt").write_text(
        "".join(draw.choice(["the cat ", "sat on ", "the mat. ", "a dog "]) for _ in range(600))
    )
    x, rows = 0.0, ["y"]
    for _ in range(300):
        x = 0.9 * x + draw.gauss(0, 1)
        rows.append(f"{x + draw.gauss(0, 1):.4f}")
    (folder / "y.csv").write_text("\n".join(rows) + "\n")
    return folder


def left_in(folder):
    """What every file holds, but for times."""
    return {str(path.relative_to(folder)): without_times(path) for path in sorted(folder.rglob("*"))}


def without_times(path):
    if path.is_dir():
        return None
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(
            _without(json.loads(content), ("seconds", "cpu_seconds", *(["record"] * ("certificate" in path.name))))
        )
    if path.suffix == ".html":
        return re.sub(rb"<dt>(Time|Command)</dt>\s*<dd>[^<]*</dd>", b"", content)
    if path.name == "verdicts.md":
        return re.sub(rb"\d+ s\.\n", b"", content)
    return content


def _without(value, names):
    if isinstance(value, dict):
        return {key: _without(inside, names) for key, inside in value.items() if key not in names}
    return [_without(inside, names) for inside in value] if isinstance(value, list) else value


def undisturbed(job, folder, environment):
    """What one run leaves, and the seconds that it works."""
    seconds = 0.0
    for _ in range(2):  # the first one compiles
        shutil.rmtree(folder, ignore_errors=True)
        process = start(job, prepared(folder), environment)
        assert at_work(process, folder / job.lock), process.communicate()[0]
        began = time.monotonic()
        said = process.communicate()[0]
        seconds = time.monotonic() - began
        assert process.returncode == 0, said
    return left_in(folder), seconds


def killed(job, folder, environment, kills, seconds, draw):
    """Kill one job at most so often; how often it was, and the seconds that it works, if less is known now."""
    prepared(folder)
    done = 0
    while True:
        process = start(job, folder, environment, go_on=done > 0)
        working, began = at_work(process, folder / job.lock), time.monotonic()
        if working and done < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, 1.2 * seconds))
            process.kill()
        said = process.communicate()[0]
        if process.returncode >= 0:
            # all was written before the kill: a user is told so, and has the result
            assert process.returncode == 0 or (process.returncode == 2 and "exists already" in said), said
            assert "Traceback" not in said
            assert "Warning" not in said
            return done, min(seconds, time.monotonic() - began) if working and not done else seconds
        done += 1


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * KILLS)
@pytest.mark.parametrize("name", JOBS)
def test_kills_leave_the_bytes_of_an_undisturbed_run(name, tmp_path, environment):
    job, draw = JOBS[name], random.Random(name)
    right, seconds = undisturbed(job, tmp_path / "whole", environment)
    done, runs = 0, 0
    while done < KILLS:
        folder = tmp_path / f"run{runs}"
        more, seconds = killed(job, folder, environment, KILLS - done, seconds, draw)
        done, runs = done + more, runs + 1
        found = left_in(folder)
        assert found.keys() == right.keys()
        assert [path for path in right if found[path] != right[path]] == []
        shutil.rmtree(folder)
    print(f"{name}: {done} kills in {runs} runs of {seconds:.1f} s")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", JOBS)
def test_a_second_process_in_the_folder_is_told_who_works_there(name, tmp_path, environment):
    job, folder = JOBS[name], prepared(tmp_path / "here")
    first = start(job, folder, environment)
    assert at_work(first, folder / job.lock), first.communicate()[0]
    first.send_signal(signal.SIGSTOP)  # it stays at work
    try:
        second = start(job, folder, environment, go_on=True)
        said = second.communicate()[0]
        without = start(job, folder, environment)
        also = without.communicate()[0]
    finally:
        first.send_signal(signal.SIGCONT)
    assert (second.returncode, without.returncode) == (2, 2), (said, also)
    sentence = said.strip().splitlines()[-1]
    assert f"is in use by process {first.pid} on {socket.gethostname()} since" in sentence
    assert (
        "is in use by" in also or "unfinished" in also
    )  # a comparison, or a fit, says first that it can be gone on with
    out = first.communicate()[0]
    assert first.returncode == 0, out
    assert not (folder / job.lock).exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_functions_that_a_kill_tore_are_compiled_again(tmp_path, environment):
    environment = environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    job = Job("fit y.csv --model linear --tokens y --states 1 --iterations 3 --overwrite --out out", "", "")
    prepared(tmp_path / "here")

    def answer():
        process = start(job, tmp_path / "here", environment)
        said = process.communicate()[0]
        assert process.returncode == 0, said
        return said, [path for path in (tmp_path / "cache").rglob("*-cache") if path.stat().st_size < 1000]

    right, torn = answer()
    assert not torn
    for size in (0, 1, 700):
        for path in (tmp_path / "cache").rglob("*-cache"):
            os.truncate(path, size)
        assert answer() == (right, [])
