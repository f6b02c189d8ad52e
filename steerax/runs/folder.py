"""The folder of one long computation, which one process at a time works in::

run.json                 its identity: the configuration and data hashes
progress.jsonl           one record per line, appended
checkpoints/N/           the state after N steps: state.json + arrays.safetensors; the two newest are kept
"""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._errors import CheckpointError
from .files import read_arrays, read_json, write_arrays, write_folder, write_whole

try:
    import fcntl
except ImportError:  # not on Windows, where two processes in one folder are not noticed
    fcntl = None

_KEPT = 2


class Lock:
    """A folder is this process's alone while the lock is referred to; the system frees it when the process ends.

    **Raises:** `CheckpointError` if another process holds it, with its number, machine and start.
    """

    _held: ClassVar["weakref.WeakValueDictionary[str, Lock]"] = weakref.WeakValueDictionary()

    def __new__(cls, folder: Path) -> "Lock":
        """The lock that this process has on the folder already, or a new one."""
        place = os.path.realpath(folder)
        if (held := cls._held.get(place)) is None:
            held = super().__new__(cls)
            held._take(folder)
            cls._held[place] = held
        return held

    def _take(self, folder: Path) -> None:
        made = [p for p in (folder, *folder.absolute().parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ".lock"
        while True:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115, it stays open
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                file.close()
                raise CheckpointError(
                    f"{folder} is in use by {holder}; wait for it, or choose another folder."
                ) from None
            except OSError:
                pass  # a file system without locks
            if _same(path, file):
                break
            file.close()  # its last holder removed it meanwhile
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        weakref.finalize(self, _release, path, file, made)


def discard(folder: Path) -> None:
    """Remove what a run folder holds. **Raises:** `CheckpointError` if another process works in it.

    Folders lose their name before their content, and files go last: what is left if the process dies can be used again.
    """
    if folder.exists():
        lock = Lock(folder)
        for inside in sorted(folder.iterdir(), key=lambda path: path.is_file()):
            if inside.is_dir() and not inside.is_symlink():
                hidden = inside
                if not inside.name.startswith("."):
                    hidden = Path(tempfile.mkdtemp(prefix=f".{inside.name}.", dir=folder))
                    os.replace(inside, hidden)
                shutil.rmtree(hidden)
            elif inside.name != ".lock":
                inside.unlink()
        del lock
        with contextlib.suppress(OSError):
            folder.rmdir()


def _same(path: Path, file: Any) -> bool:
    """Whether a path still names an open file."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    return False


def _release(path: Path, file: Any, made: list[Path]) -> None:
    """Give a lock back, and remove the folders made for it that are still empty."""
    with contextlib.suppress(OSError):
        if _same(path, file):
            path.unlink()
        for folder in made:
            folder.rmdir()
    file.close()


class RunFolder:
    """One long computation on disk: its identity, its progress, its two newest checkpoints.

    It is a run from its first checkpoint on; before, the folder may be used again for anything. One process at a time
    works in it (see `Lock`).

    **Arguments:** `path`; `identity`, a JSON object that says what is computed (a run is resumed only under the same
    identity); `resume`, whether an existing run may be continued; `writes`, false for all but one of several processes
    that make the same run and share the folder: they only read it; `grows`, a number of the identity that may be larger when
    the run is resumed.

    **Raises:** `CheckpointError` if the folder holds a run and `resume` is false, or holds another run, or another process
    works in it.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        identity: Mapping[str, Any],
        resume: bool = False,
        writes: bool = True,
        grows: str = "",
    ):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.writes, self._identity = writes, json.loads(json.dumps(identity))
        if not writes:
            return
        self._lock = Lock(self.path)
        record = self.path / "run.json"
        if record.exists():
            found = read_json(record)
            differing = sorted(k for k in {*found, *self._identity} if found.get(k) != self._identity.get(k))
            if not resume:
                raise CheckpointError(f"{self.path} already holds a run; pass resume=True or choose another folder.")
            before = found.get(grows)
            if differing == [grows] and isinstance(before, int) and before < self._identity[grows]:
                self._write_identity()
                differing = []
            if differing:
                raise CheckpointError(
                    f"{self.path} holds a run that differs in {', '.join(differing)}; choose another."
                )
        elif self.steps():
            raise CheckpointError(
                f"{self.path} holds checkpoints and no run.json that says of what; choose another folder."
            )
        for torn in self.checkpoints.glob(".*"):
            shutil.rmtree(torn, ignore_errors=True)

    def begin(self) -> None:
        """Write down the identity: from now on the folder is resumed under it only."""
        if not (self.path / "run.json").exists():
            self._write_identity()

    def _write_identity(self) -> None:
        write_whole(self.path / "run.json", json.dumps(self._identity, indent=1, sort_keys=True))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(int(p.name) for p in self.checkpoints.glob("*") if p.name.isdecimal())

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write checkpoint `step`, then drop all but the two newest."""
        if not self.writes:
            return
        self.begin()

        def fill(beside: Path) -> None:
            write_arrays(beside / "arrays.safetensors", arrays)
            write_whole(beside / "state.json", json.dumps({"step": step, **state}))

        write_folder(self.checkpoints / str(step), fill)
        for old in self.steps()[:-_KEPT]:
            # Removal takes several steps; the name goes first, so that whatever has a number is whole.
            hidden = self.checkpoints / f".{old}.old"
            os.replace(self.checkpoints / str(old), hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The arrays and the state of the newest checkpoint, or None. The log is cut back to that step."""
        newest, found = max(self.steps(), default=0), None
        if newest:
            folder = self.checkpoints / str(newest)
            found = read_arrays(folder / "arrays.safetensors"), read_json(folder / "state.json")
        self._cut_log(newest)
        return found

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record (with a `step`) to the progress file."""
        if not self.writes:
            return
        with open(self.path / "progress.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The records of the progress file; a line torn by a crash is left out."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "progress.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [r for r in found if isinstance(r, dict) and isinstance(r.get("step", 0), int)]

    def _cut_log(self, step: int) -> None:
        if not self.writes:
            return
        kept = [r for r in self.records() if r.get("step", 0) <= step]
        if kept or (self.path / "progress.jsonl").exists():
            write_whole(self.path / "progress.jsonl", "".join(json.dumps(r) + "\n" for r in kept))
