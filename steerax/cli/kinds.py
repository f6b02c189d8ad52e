"""Which module answers `fit`, `predict`, `explain` and `forecast` for which kind of model.

Such a module has the functions `fit(path, options)`, `predict(model, path, options)`, `explain(…)` and `forecast(…)`;
each returns an `Answer`. `options` are the options of the command by name.
"""

import csv
import importlib
import io
import json
from types import ModuleType
from typing import Any, NamedTuple

import typer

from steerax._errors import ConfigurationError

DATA = ".txt, .csv, .tsv, .parquet, .npy or .npz file; for linear models also statsmodels:NAME"  # the argument's help
# --model -> module; kind of a saved model -> --model
MODULES = {"hmm": "steerax.cli.of_hmm", "linear": "steerax.cli.of_linear"}
SAVED = {
    "hidden_markov_model": "hmm",
    "linear_gaussian_model": "linear",
    "time_varying_linear_gaussian_model": "linear",
}


class Answer(NamedTuple):
    """What a command found: a JSON value, the text for a person, and a table (the first row names the columns)."""

    record: dict[str, Any]
    text: str
    table: list[list[Any]] | None = None


def module_for(name: str) -> ModuleType:
    """The module of `--model NAME`. Raises `ConfigurationError` for an unknown name."""
    if name not in MODULES:
        raise ConfigurationError(f"There is no model called {name!r}; choose one of {', '.join(MODULES)}.")
    return importlib.import_module(MODULES[name])


def loaded(folder: str) -> tuple[Any, ModuleType]:
    """A saved model and the module that answers for it."""
    from steerax.runs.models import kind_of, load

    model = load(folder)
    kind = kind_of(model)
    if kind not in SAVED:
        raise ConfigurationError(f"{folder} holds a model of kind {kind!r}, which this command does not handle.")
    return model, module_for(SAVED[kind])


def tell(answer: Answer, as_json: bool, out: str | None) -> None:
    """Print an answer, and write its table to `out` (CSV) if asked."""
    if out is not None and answer.table is not None:
        from steerax.runs.files import write_whole

        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(answer.table)
        try:
            write_whole(out, lines.getvalue())
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror}); choose another --out.") from None
    typer.echo(json.dumps(answer.record, allow_nan=False) if as_json else answer.text)
