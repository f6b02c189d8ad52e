"""The options of commands as frozen dataclasses, from which the command line is made.

A field `name: Annotated[type, "help"]` is one option. What commands share is a base class here, or an alias.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .._bounds import COUNT, COUNT_OR_ZERO, SEED, check_fields
from .._errors import ConfigurationError
from ..data.read import Format
from ..runs.files import free_place, try_place
from .answers import Answer, tell

PACKAGED = "statsmodels:"  # in front of the name of a data set instead of a file

Data = Annotated[str, f".txt, .csv, .tsv, .parquet, .npy or .npz file; for linear models also {PACKAGED}NAME"]
Checkpoint = Annotated[Path, "a model folder or file that steerax can read"]
Heads = Annotated[int | None, "heads, where the checkpoint does not say", COUNT]
Number = Annotated[int, "which sequence, counted from 0", COUNT_OR_ZERO]
Seed = Annotated[int, "seed of everything random", SEED]
Overwrite = Annotated[bool, "replace what is already there"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What every command has; numbers carry their bounds, which are checked. **Raises:** `ConfigurationError`."""

    _: dataclasses.KW_ONLY
    json: Annotated[bool, "print the numbers as JSON"] = False

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class TableOptions(Format, Options):
    """How a file is read as sequences."""


@dataclasses.dataclass(frozen=True)
class ModelOptions(TableOptions):
    """A saved model, data that it reads, and a file for a table of all that is found."""

    model: Annotated[str, "folder of a saved model"]
    data: Data
    _: dataclasses.KW_ONLY
    on_impossible: Annotated[str, "raise, or skip an observation of probability zero"] = "raise"
    out: Annotated[Path | None, "CSV file for all numbers, not only those shown"] = None
    overwrite: Overwrite = False


def command(function: Callable[..., Answer | None]) -> Callable[..., None]:
    """A command as Typer reads it, from a function of dataclasses, the last of them `Options`, whose answer is told.

    Their positional fields are the arguments and their keyword-only ones the options; a `bool` that is off by default is
    a switch. The annotation of a field holds the help text, or a whole `typer.Option`.
    """
    kinds = [kind for name, kind in typing.get_type_hints(function).items() if name != "return"]

    @functools.wraps(function)
    def run(**values: Any) -> None:
        filled = [kind(**{f.name: values[f.name] for f in dataclasses.fields(kind)}) for kind in kinds]
        table = next((o.out for o in filled if isinstance(o, ModelOptions)), None)
        if table is not None:
            try_place(free_place(table, values["overwrite"]))
        if (answer := function(*filled)) is not None:
            tell(answer, values["json"], table)
            if answer.code:
                raise typer.Exit(answer.code)

    called: Any = run
    called.__signature__ = inspect.Signature([parameter for kind in kinds for parameter in _parameters(kind)])
    return called


def check_place(out: Path, overwrite: bool, files: Sequence[str]) -> None:
    """A place for a folder, or one that holds an earlier such folder, of these files, and nothing else, if it may be replaced.

    **Raises:** `ConfigurationError`.
    """
    try_place(free_place(out, overwrite), folder=True)
    if strange := sorted(path.name for path in out.glob("*") if path.name not in files):
        raise ConfigurationError(f"{out} holds {strange[0]!r}, which is no part of a solution; choose another place.")


def _parameters(kind: Any) -> list[inspect.Parameter]:
    """One parameter for each field; a class's own fields stand before those of its bases."""
    hints = typing.get_type_hints(kind, include_extras=True)
    order = [name for each in kind.__mro__ for name in inspect.get_annotations(each)]
    parameters, keyword = [], functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    for field in sorted(dataclasses.fields(kind), key=lambda field: order.index(field.name)):
        info = hints[field.name].__metadata__[0]
        if isinstance(info, str):
            switch = [f"--{field.name.replace('_', '-')}"] if field.default is False else []
            info = typer.Option(*switch, help=info) if field.kw_only else typer.Argument(help=info)
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        hint: Any = Annotated[hints[field.name].__origin__, info]
        parameters.append(keyword(field.name, default=default, annotation=hint))
    return parameters
