"""The `steerax` command: its subcommands, and how errors reach a user."""

import importlib
import os
import sys
from pathlib import Path

import typer

from .._errors import SteeraxError
from .answers import Answer
from .options import Options, command

# each is the function of the same name in the module of the same name
_COMMANDS = ("compare", "fit", "predict", "explain", "forecast", "train", "sample", "analyse", "solve", "reproduce")

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
    """Run the command line: exit code 0, or 2 for misuse or bad input with one sentence on stderr.

    Float64 is on for this process, and compiled functions are kept for the next one. Only a `SteeraxError` becomes a
    sentence; anything else is a fault of the software and keeps its traceback (exit code 1).
    """
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    _keep_compiled()
    try:
        app()
    except SteeraxError as error:
        typer.echo(f"steerax: {error}", err=True)
        sys.exit(2)


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
