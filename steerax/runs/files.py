"""Files that are whole or absent: everything is written beside its place, flushed to disk and renamed.

A *run folder* holds one long computation::

    run.json                 its identity: the configuration and data hashes
    progress.jsonl           one record per line, appended
    checkpoints/N/           the state after N steps: state.json + arrays.safetensors; the two newest are kept
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError

_KEPT = 2


def _flush_folder(folder: Path) -> None:
    """Make the names inside a folder durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError, PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a mixture."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _flush_folder(path.parent)


def write_folder(path: str | os.PathLike, fill: Callable[[Path], None]) -> None:
    """Write a folder in one step: `fill(beside)` writes the files, then the folder takes its name.

    An existing folder of that name is moved out of the way first and removed afterwards.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = beside.with_name(beside.name + ".old")
    try:
        os.chmod(beside, 0o755)
        fill(beside)
        for file in beside.iterdir():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        _flush_folder(beside)
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    _flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Named arrays as one safetensors file."""
    from safetensors.numpy import save

    # Not ascontiguousarray, which would turn a scalar into an array of one element.
    write_whole(path, save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name. **Raises:** `CheckpointError` if it is absent, torn or malformed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}; check the path.") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{path} is not readable ({error}); it may be cut short, so copy it again.") from None


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object from a file. **Raises:** `CheckpointError` if it is absent or no JSON object."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); it may be cut short, so copy it again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__} where an object is expected.")
    return content


def content_hash(*parts: Any) -> str:
    """SHA-256 of arrays (dtype, shape, bytes) and JSON values, in order; sixty-four hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype.str} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
        else:
            digest.update(("json " + json.dumps(part, sort_keys=True, default=str)).encode())
        digest.update(b"\0")
    return digest.hexdigest()


class RunFolder:
    """One long computation on disk: its identity, its progress, its two newest checkpoints.

    **Arguments:** `path`; `identity`, a JSON object that says what is computed (a run is resumed only under the same
    identity); `resume`, whether an existing run may be continued; `writes`, false for all but one of several processes
    that make the same run and share the folder: they only read it.

    **Raises:** `CheckpointError` if the folder holds a run and `resume` is false, or holds another run.
    """

    def __init__(self, path: str | os.PathLike, identity: Mapping[str, Any], resume: bool = False, writes: bool = True):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.writes = writes
        if not writes:
            return
        identity = json.loads(json.dumps(identity))
        record = self.path / "run.json"
        if record.exists():
            found = read_json(record)
            differing = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
            if not resume:
                raise CheckpointError(f"{self.path} already holds a run; pass resume=True or choose another folder.")
            if differing:
                raise CheckpointError(
                    f"{self.path} holds a run that differs in {', '.join(differing)}; choose another."
                )
        else:
            write_whole(record, json.dumps(identity, indent=1, sort_keys=True))
        self.checkpoints.mkdir(exist_ok=True)
        for torn in self.checkpoints.glob(".*"):
            shutil.rmtree(torn, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(int(p.name) for p in self.checkpoints.glob("*") if p.name.isdecimal())

    def save(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write checkpoint `step`, then drop all but the two newest."""
        if not self.writes:
            return

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
            for line in (self.path / "progress.jsonl").read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def _cut_log(self, step: int) -> None:
        if not self.writes:
            return
        kept = [r for r in self.records() if r.get("step", 0) <= step]
        if kept or (self.path / "progress.jsonl").exists():
            write_whole(self.path / "progress.jsonl", "".join(json.dumps(r) + "\n" for r in kept))
