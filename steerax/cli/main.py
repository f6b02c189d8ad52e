"""The `steerax` command: its subcommands, and how errors reach a user."""

import contextlib
import errno
import functools
import glob
import importlib
import io
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import typer

from .._errors import SteeraxError, WorkerError
from .answers import Answer, say
from .options import Options, command

# each is the function of the same name in the module of the same name
_COMMANDS = (
    "compare",
    "fit",
    "predict",
    "explain",
    "forecast",
    "train",
    "sample",
    "analyse",
    "beliefs",
    "solve",
    "classify",
    "check",
    "reproduce",
)

app = typer.Typer(
    name="steerax",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def steerax() -> None:
    """Transformers as optimal-control problems: infer with them, analyse them, train them."""


@app.command()
@command
def version(options: Options) -> Answer:
    """Print the version of steerax, JAX and the devices found. Example: `steerax version`."""
    import jax

    from .. import __version__

    devices = sorted({device.device_kind for device in jax.devices()})
    record = {"steerax": __version__, "jax": jax.__version__, "devices": devices}
    return Answer(record, f"steerax {__version__}, jax {jax.__version__}, {', '.join(devices)}")


for _name in _COMMANDS:
    app.command(_name)(getattr(importlib.import_module(f".{_name}", __package__), _name))


def main() -> None:
    """Run the command line: exit code 0, 2 for misuse or bad input, 1 for what failed on the way (a disk, memory, a worker), each with
    one sentence on stderr, or 130 if it was interrupted by Ctrl-C or SIGTERM.

    Float64 is on for this process, and compiled functions are kept for the next one. Other exceptions are faults of the
    software and keep their traceback; with `STEERAX_TRACEBACK=1` all do.
    """
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    _keep_compiled()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except Exception as error:
        misuse = isinstance(error, SteeraxError) and not isinstance(error, WorkerError)
        code, sentence = 2 if misuse else 1, _sentence(error)
        if sentence is None or os.environ.get("STEERAX_TRACEBACK") == "1":
            raise
        say(f"steerax: {sentence}", err=True)
        sys.exit(code)


def _sentence(error: Exception) -> str | None:
    """What a user is told; `None` for a fault of the software."""
    match error:
        case SteeraxError():  # it may name an argument of Python
            text = re.sub(r"\b([a-z_]+)=True\b", lambda m: f"--{m[1].replace('_', '-')}", str(error))
            return re.sub(r"\b([a-z_]+)=\"(\w+)\"", lambda m: f"--{m[1].replace('_', '-')} {m[2]}", text)
        case OSError() if error.errno is not None:
            place = next((str(p) for p in (error.filename2, error.filename) if p is not None), "a file")
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return f"{place}: {os.strerror(error.errno)}; {'free some space' if full else 'look at the path'}, or choose another place."
        case UnicodeError():
            return f"A text cannot be read or written in its encoding ({error})."
        case MemoryError():
            return f"There is not enough memory ({str(error) or 'no details'}); use fewer or shorter sequences, or smaller sizes."
    if "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower():
        return f"There is not enough memory ({str(error).splitlines()[0]}); use fewer or shorter sequences, or smaller sizes."
    return None


def _keep_compiled() -> None:
    """Compiled functions go to the user's cache folder, which is emptied when it exceeds 1 GB; nowhere, if it cannot be
    written. (JAX's own limit needs a package more.)"""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "steerax" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        kept = list(os.scandir(folder))
        if sum(entry.stat().st_size for entry in kept) > 10**9:
            for entry in kept:
                os.unlink(entry)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        warnings.showwarning = functools.partial(_mend, folder, warnings.showwarning)


def _mend(folder: Path, shown: Any, message: Any, *rest: Any, **more: Any) -> None:
    """Show a warning; but a compiled function that is torn, since a process was killed as it wrote it, is removed instead,
    and compiled again."""
    if torn := re.match("Error reading persistent compilation cache entry for '(.*?)'", str(message)):
        for path in folder.glob(f"{glob.escape(torn[1])}-*"):
            with contextlib.suppress(OSError):
                path.unlink()
    else:
        shown(message, *rest, **more)
