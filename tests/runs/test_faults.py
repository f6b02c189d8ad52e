"""A disk that fails at the n-th call, and a process that dies there: old or new, nothing else; nothing left where it lives on."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

import steerax as sx
from steerax import lifted
from steerax.runs import files, folder

OLD, NEW = sx.models.two_cycle(), sx.models.casino()


class Died(BaseException):
    """The process is no more: what comes after it in the code does not happen."""


class Disk:
    """Counts the calls that change a disk; the `at`-th fails, or is the last one that is made."""

    CALLS = ((os, "replace"), (os, "fsync"), (os, "chmod"), (os, "unlink"), (os, "rename"), (os, "mkdir"), (os, "rmdir"),
             (tempfile, "mkstemp"), (tempfile, "mkdtemp"), (shutil, "rmtree"), (files, "_exchange"))  # fmt: skip

    def __init__(self, monkeypatch, at, dies):
        self.count, self.at, self.dies, self.dead, self.failed = 0, at, dies, False, ""
        for module, name in self.CALLS:
            real = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *a, real=real, name=name, **k: self.call(real, a, k, name))
        real_fdopen = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *a, **k: self.call(real_fdopen, a, k))
        if dies:  # the system closes the files of a process that is no more
            monkeypatch.setattr(folder, "_release", lambda path, file, made: file.close())

    def call(self, real, arguments, options, name=""):
        self.count += 1
        if self.dead:
            raise Died
        if self.count == self.at:
            if self.dies:
                self.dead = True
                raise Died
            self.failed = name
            if options.get("ignore_errors"):
                return None
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)


def save_model(place, new):
    sx.save(NEW if new else OLD, place, overwrite=True)


def read_model(place):
    return sx.load(place).n_tokens


def save_file(place, new):
    files.write_whole(place, "new" if new else "old")


def read_file(place):
    return place.read_text()


def save_step(place, new):
    run = folder.RunFolder(place, {"a": 1}, resume=True)
    for step in (2, 3) if new else (1,):
        run.save(step, {"x": np.full(3, step)}, {})


def read_step(place):
    arrays, state = folder.RunFolder(place, {"a": 1}, resume=True).latest()
    assert (arrays["x"] == state["step"]).all()
    return state["step"]


CERTIFICATES = [lifted.solve(lifted.tasks.parity(n), 1) for n in (2, 3)]


def save_certificate(place, new):
    CERTIFICATES[new].save(place, overwrite=True)


def read_certificate(place):
    return lifted.Certificate.load(place).problem.model.length


OPERATIONS = {
    "a file": (save_file, read_file, {"old", "new"}),
    "a model": (save_model, read_model, {2, 6}),
    "a checkpoint": (save_step, read_step, {1, 2, 3}),
    "a certificate": (save_certificate, read_certificate, {2, 3}),
}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("dies", [False, True], ids=["fails", "dies"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_that_fails_at_any_call_leaves_old_or_new(tmp_path, operation, dies, exchange):
    save, read, allowed = OPERATIONS[operation]
    at, seen = 0, set()
    while True:
        at += 1
        here = tmp_path / str(at)
        here.mkdir()
        save(here / "x", False)
        with pytest.MonkeyPatch.context() as patch:
            if not exchange:
                patch.setattr(files, "_exchange", lambda one, other: False)
            disk = Disk(patch, at, dies)
            with contextlib.suppress(OSError, Died):
                save(here / "x", True)
        if disk.count < at:
            break
        left = {p.name for p in here.iterdir()} - {"x"}
        seen.add(read(here / "x"))
        assert seen <= allowed
        if not dies and disk.failed not in ("rmtree", "unlink", "rmdir"):
            assert not left, (at, left)
        for strange in here.glob(".x.*-*"):  # as if the process were gone
            strange.rename(strange.with_name(strange.name.replace(f"-{os.getpid()}-", "-4194305-")))
        save(here / "x", True)
        assert read(here / "x") in allowed
        assert {p.name for p in here.iterdir()} == {"x"}
    assert len(seen) > 1
    assert at > 5


def test_a_folder_is_one_processs_alone_and_a_kill_frees_it(tmp_path):
    script = textwrap.dedent(f"""
        import sys, time
        from steerax.runs.folder import RunFolder
        run = RunFolder({str(tmp_path / "run")!r}, {{"a": 1}}, resume=True)
        print("here", flush=True)
        time.sleep(100)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "here\n"
        with pytest.raises(sx.CheckpointError, match=f"in use by process {other.pid} on .* since"):
            folder.RunFolder(tmp_path / "run", {"a": 1}, resume=True)
        with pytest.raises(sx.CheckpointError, match="in use"):
            folder.discard(tmp_path / "run")
        other.kill()
        other.wait()
    run = folder.RunFolder(tmp_path / "run", {"a": 1}, resume=True)
    run.save(1, {"x": np.ones(2)}, {})
    folder.RunFolder(tmp_path / "run", {"a": 1}, resume=True)  # the same process may
    del run
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_start_that_fails_leaves_nothing(tmp_path):
    data = sx.Sequences.from_arrays([np.array([0, 1, 1, 0])])
    with pytest.raises(sx.SteeraxError):
        sx.fit(sx.HMM(2), data, run_folder=tmp_path / "a" / "run", pseudocounts=float("nan"))
    run = folder.RunFolder(tmp_path / "a" / "run", {"a": 1})
    del run
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/under", "folder"])
def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(sx.ConfigurationError, match=r"is a|cannot be written"):
        files.try_place(tmp_path / place, folder=place != "folder")
    files.try_place(tmp_path / "new" / "place", folder=True)
    files.try_place(tmp_path / "new" / "place.csv")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "empty").mkdir()
    files.free_place(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for name in ("file", "link"):
        with pytest.raises(sx.ConfigurationError, match="exists already"):
            files.free_place(tmp_path / name)
        files.free_place(tmp_path / name, overwrite=True)


def test_a_model_is_read_from_within_its_folder(tmp_path, monkeypatch):
    sx.save(OLD, tmp_path / "m")
    monkeypatch.chdir(tmp_path / "m")
    assert sx.load(".").n_tokens == OLD.n_tokens
    with pytest.raises(sx.ConfigurationError, match="the folder you are in"):
        sx.save(NEW, ".", overwrite=True)
    assert sx.load(".").n_tokens == OLD.n_tokens


def test_names_change_places_in_one_step_with_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system has no such step")
    assert files._exchange(Path("a"), Path("b"))
    assert (tmp_path / "a" / "a").exists()
    assert files._exchange(Path("a"), Path("b"))
    assert (tmp_path / "a" / "b").exists()


def test_files_and_folders_can_be_read_by_others(tmp_path):
    sx.save(OLD, tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "m" / "model.json").stat().st_mode & 0o777 == 0o644


def test_what_another_machine_or_a_living_process_writes_is_not_swept(tmp_path):
    mark = files._mark()
    kept = [f".x.{mark}a", f".x.{'0' * 8}-4194305-a", ".x.other", f".y.{mark[:9]}4194305-a", ".x.a-b-c"]
    old = f".x.{'0' * 8}-4194305-b"
    for name in (*kept, old, f".x.{mark[:9]}4194305-a"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / old, (0, 0))
    files.write_whole(tmp_path / "x", "new")
    assert {p.name for p in tmp_path.iterdir()} == {"x", *kept}
