"""Files that are whole or absent: everything is written beside its place, flushed to disk and renamed."""

import contextlib
import ctypes
import errno
import functools
import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError, ConfigurationError


def free_place(path: str | os.PathLike, overwrite: bool = False) -> Path:
    """A path that nothing has yet, unless that may be replaced. **Raises:** `ConfigurationError`."""
    path = Path(path)
    if path.absolute() == Path.cwd():
        raise ConfigurationError(f"{path} is the folder you are in; give the name of one inside it.")
    if not overwrite and os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigurationError(f"{path} exists already; choose another place, or pass overwrite=True to replace it.")
    return path


def try_place(path: str | os.PathLike, folder: bool = False) -> None:
    """See whether a file, or files in a folder, could be written there; leaves nothing behind.

    **Raises:** `ConfigurationError` if not, with the reason.
    """
    path = Path(path)
    if path.exists() and path.is_dir() != folder:
        is_, wanted = ("a folder", "file") if path.is_dir() else ("a file", "folder")
        raise ConfigurationError(f"{path} is {is_}; give the name of a {wanted} to write.")
    try:
        there = next(p for p in (path if folder else path.absolute().parent, *path.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); choose another place.") from None


def _flush_folder(folder: Path) -> None:
    """Make the names inside a folder durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError, PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@functools.cache
def _system() -> str:
    """Eight digits of where process numbers mean the same: the machine, since its start, and its container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def _mark() -> str:
    """What names of files in the making hold: this system and this process."""
    return f"{_system()}-{os.getpid()}-"


def _sweep(path: Path) -> None:
    """Remove what processes of this system that are no more, or any a day ago, have left beside a path."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*-*"):
        system, process, _ = left.name.removeprefix(f".{path.name}.").split("-", 2)
        if len(system) != 8 or not process.isdecimal():
            continue
        with contextlib.suppress(OSError):  # another process may sweep too
            if left.stat().st_mtime > time.time() - 86_400 and (system != _system() or _lives(int(process))):
                continue
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether there may be a process of that number."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a mixture."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.{_mark()}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
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

    Where the system can, it changes places with a folder of that name, which is then removed; elsewhere that one is moved
    away first, and `recover` brings it back if the process ends between the two steps.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    _sweep(path)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.{_mark()}", dir=path.parent))
    old = beside.with_name(f".{path.name}.old")
    try:
        os.chmod(beside, 0o755)
        fill(beside)
        for inside in beside.rglob("*"):
            if inside.is_dir():
                _flush_folder(inside)
            else:
                with open(inside, "rb") as opened:
                    os.fsync(opened.fileno())
        _flush_folder(beside)
        if not path.exists():
            os.replace(beside, path)
        elif _exchange(beside, path):
            old = beside
        else:
            os.replace(path, old)
            os.replace(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if not path.exists():
            recover(path)
        raise
    _flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: str | os.PathLike) -> None:
    """Bring back a folder that a process moved away and died before the new one took its place."""
    path = Path(path).absolute()
    old = path.with_name(f".{path.name}.old")
    if old.is_dir():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)


def _exchange(one: Path, other: Path) -> bool:
    """Two folders change their names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


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
