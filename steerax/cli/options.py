"""The options of commands as frozen dataclasses, from which the command line is made.

A field `name: Annotated[type, "help"]` is one option of a command; an option of several commands is an alias here, and
a group of them a dataclass that is a field of theirs.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

PACKAGED = "statsmodels:"  # in front of the name of a data set instead of a file

Data = Annotated[str, f".txt, .csv, .tsv, .parquet, .npy or .npz file; for linear models also {PACKAGED}NAME"]
Model = Annotated[str, "folder of a saved model"]
Checkpoint = Annotated[Path, "a model folder or file that steerax can read"]
Heads = Annotated[int | None, "heads, where the checkpoint does not say"]
Number = Annotated[int, "which sequence, counted from 0"]
OnImpossible = Annotated[str, "raise, or skip a token of probability zero"]
Seed = Annotated[int, "seed of everything random"]
Json = Annotated[bool, "print the numbers as JSON"]


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """How a file is read as sequences."""

    _: dataclasses.KW_ONLY
    tokens: Annotated[str, "column of a table with the tokens; for a linear model, columns of numbers, such as a,b"] = (
        "token"
    )
    sequence: Annotated[str | None, "column that names the sequence of each row"] = None
    words: Annotated[bool, "read a .txt file as words, a sequence per line"] = False


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Options of `steerax fit`."""

    data: Data
    _: dataclasses.KW_ONLY
    model: Annotated[str, "kind of model: hmm (tokens) or linear (real numbers)"] = "hmm"
    states: Annotated[int, "number of hidden states"] = 8
    order: Annotated[int, "how many past states the next one depends on"] = 1
    restarts: Annotated[int, "random starts; the best one is kept (hmm)"] = 3
    iterations: Annotated[int, "largest number of iterations"] = 200
    tolerance: Annotated[float, "stop at a smaller gain, in nats per observation"] = 1e-6
    pseudocount: Annotated[float, "added to every expected count; 0 is maximum likelihood (hmm)"] = 0.1
    table: TableOptions = TableOptions()
    cut: Annotated[int | None, "cut sequences into pieces of at most this length"] = None
    held_out: Annotated[float, "share of the sequences kept to measure the model"] = 0.1
    out: Annotated[str | None, "folder for the model  [default: runs/DATA-MODEL]"] = None
    resume: Annotated[bool, "go on with a stopped fit of the same data and options (hmm)"] = False
    seed: Seed = 0
    json: Json = False

    @property
    def folder(self) -> Path:
        """Where the model goes."""
        return Path(self.out or f"runs/{Path(self.data.removeprefix(PACKAGED)).stem}-{self.model}")


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Options of `steerax predict`."""

    model: Model
    data: Data
    _: dataclasses.KW_ONLY
    top: Annotated[int, "likeliest tokens to show for each sequence"] = 3
    table: TableOptions = TableOptions()
    on_impossible: OnImpossible = "raise"
    out: Annotated[str | None, "CSV file for all probabilities"] = None
    json: Json = False


@dataclasses.dataclass(frozen=True)
class ExplainOptions:
    """Options of `steerax explain`."""

    model: Model
    data: Data
    _: dataclasses.KW_ONLY
    number: Number = 0
    query: Annotated[int, "time of the prediction; -1 is the end"] = -1
    token: Annotated[str | None, "token predicted  [default: the likeliest]"] = None
    top: Annotated[int, "largest terms to show"] = 10
    table: TableOptions = TableOptions()
    on_impossible: OnImpossible = "raise"
    out: Annotated[str | None, "CSV file for all terms"] = None
    json: Json = False


@dataclasses.dataclass(frozen=True)
class ForecastOptions:
    """Options of `steerax forecast`."""

    model: Model
    data: Data
    _: dataclasses.KW_ONLY
    steps: Annotated[int, "how far to look ahead"] = 5
    number: Number = 0
    coverage: Annotated[float, "probability that the set shown at each step covers"] = 0.9
    table: TableOptions = TableOptions()
    on_impossible: OnImpossible = "raise"
    out: Annotated[str | None, "CSV file for all probabilities"] = None
    json: Json = False


def command(function: Callable[[Any], None]) -> Callable[..., None]:
    """A command as Typer reads it, from a function of one dataclass.

    Its positional fields are the arguments and its keyword-only ones the options; a `bool` that is off by default is a
    switch. The annotation of a field holds the help text, or a whole `typer.Option`.
    """
    kind = next(iter(typing.get_type_hints(function).values()))

    @functools.wraps(function)
    def run(**values: Any) -> None:
        function(_filled(kind, values))

    called: Any = run
    called.__signature__ = inspect.Signature(list(_parameters(kind)))
    return called


def _parameters(kind: Any) -> Iterator[inspect.Parameter]:
    for field, hint in _fields(kind):
        if dataclasses.is_dataclass(hint):
            yield from _parameters(hint)
            continue
        info = hint.__metadata__[0]
        if isinstance(info, str):
            switch = [f"--{field.name.replace('_', '-')}"] if field.default is False else []
            info = typer.Option(*switch, help=info) if field.kw_only else typer.Argument(help=info)
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        annotation: Any = Annotated[hint.__origin__, info]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _filled(kind: Any, values: dict[str, Any]) -> Any:
    return kind(
        **{
            f.name: _filled(hint, values) if dataclasses.is_dataclass(hint) else values[f.name]
            for f, hint in _fields(kind)
        }
    )


def _fields(kind: Any) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]
