"""The `steerax` command: its subcommands, and how errors reach a user."""

import importlib
import importlib.util
import os
import sys

import typer

from steerax._errors import SteeraxError

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
def version() -> None:
    """Print the version of steerax, JAX and the devices found. Example: `steerax version`."""
    import jax

    from steerax import __version__

    devices = ", ".join(sorted({d.device_kind for d in jax.devices()}))
    typer.echo(f"steerax {__version__}, jax {jax.__version__}, {devices}")


def _register() -> None:
    """Add every subcommand: the function of the same name in the module of the same name."""
    for name in (
        "compare",
        "fit",
        "predict",
        "explain",
        "forecast",
        "train",
        "sample",
        "analyse",
        "solve",
        "reproduce",
    ):
        if importlib.util.find_spec(f"steerax.cli.{name}") is not None:
            module = importlib.import_module(f"steerax.cli.{name}")
            app.command(name)(getattr(module, name))


_register()


def main() -> None:
    """Run the command line: exit code 0, or 2 for misuse or bad input with one sentence on stderr.

    Float64 is on for this process. Only a `SteeraxError` becomes a sentence; anything else is a fault of the software
    and keeps its traceback (exit code 1).
    """
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    try:
        app()
    except SteeraxError as error:
        typer.echo(f"steerax: {error}", err=True)
        sys.exit(2)
