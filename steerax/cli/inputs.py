"""What a command reads: a saved model, and the tokens, the codes or the series of a file."""

import dataclasses
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._errors import ConfigurationError, DataError
from ..data.read import Format, open_tokens
from ..data.sequences import Sequences
from ..data.table import read_text
from ..data.vocabulary import Vocabulary
from .answers import say
from .options import PACKAGED, ModelOptions
from .regressors import Effects, Regressors

CODES = (".npy", ".bin")  # the endings of files of token codes


def opened(options: ModelOptions) -> tuple[Any, Sequences, Effects]:
    """A saved model, data that it can read, and what known inputs add to them, which is taken off the data.

    **Raises:** `CheckpointError` or `DataError` if one cannot be read; `ConfigurationError` for another kind of model.
    """
    from ..runs.models import kind_of, load, read_record

    model = load(options.model)
    match kind_of(model):
        case "hidden_markov_model" if model.n_inputs:
            p, named = model.n_channels, model.channels  # without names --tokens has those of the inputs too
            columns = (None, ()) if named is None else (named[:p], named[p:])
            data = read_series(options.data, remembered(options), *columns)
            return model, *Effects.kept(data, model.n_inputs)
        case "hidden_markov_model" if not model.emits_tokens:
            return model, read_series(options.data, remembered(options), model.channels), Effects()
        case "hidden_markov_model":
            return model, read_tokens(options.data, remembered(options), model.vocabulary), Effects()
        case "linear_gaussian_model" | "time_varying_linear_gaussian_model":
            regressors = Regressors.of_record(read_record(options.model).get("inputs"), model.n_channels)
            data = read_series(options.data, remembered(options), model.channels, regressors.names)
            return model, *Effects.taken_off(data, regressors)
        case kind:
            raise ConfigurationError(f"{options.model} holds a model of kind {kind!r}, which this command cannot use.")


def stepping_over(model: Any, options: ModelOptions) -> dict[str, str]:
    """What a model does with observations of probability zero, if it can have any."""
    return {"on_impossible": options.on_impossible} if hasattr(model, "emits_tokens") else {}


def remembered(options: ModelOptions) -> Format:
    """How the file is read: as the file that the model was fitted to, unless the options say otherwise."""
    from ..runs.models import read_record

    before = read_record(options.model).get("format_of_data", {})
    known = {field.name for field in dataclasses.fields(Format)}
    kept = Format(**{name: value for name, value in before.items() if name in known}).for_file(options.data)
    return Format(**kept.given | options.given)


def one(data: Sequences, number: int) -> np.ndarray:
    """One sequence. **Raises:** `DataError` for a number beyond the last."""
    if not 0 <= number < data.number:
        raise DataError(f"There is no sequence {number}; the data hold {data.number}, counted from 0.")
    return data[number]


def read_tokens(path: str, table: Format, vocabulary: Vocabulary | None = None) -> Sequences:
    """Sequences of tokens. **Raises:** `DataError` for a file that does not hold them."""
    return said(table.read(path, vocabulary=vocabulary))


def read_series(
    path: str, table: Format, channels: tuple[str, ...] | None = None, inputs: Sequence[str] = ()
) -> Sequences:
    """Series of numbers; in a table `--tokens a,b` names their columns, which a model of some `channels` reads in its order;
    columns of `inputs` stand behind them.

    **Raises:** `DataError` if there are none, or they are not those of the model.
    """
    columns = table.names
    if channels is not None:
        if table.tokens is not None and sorted(columns) != sorted(channels) and table.tokens != ",".join(channels):
            raise DataError(f"The model was fitted to {', '.join(channels)}; it cannot read {table.tokens}.")
        columns = list(channels)
    if inputs and pathlib.Path(path).suffix in (".npy", ".npz"):
        raise DataError(f"{path} has no names of columns; the inputs {', '.join(inputs)} are columns of a table.")
    columns = [*columns, *inputs]
    if path.startswith(PACKAGED):
        return said(_packaged(path.removeprefix(PACKAGED), columns))
    return said(table.read(path, columns))


def said(data: Sequences) -> Sequences:
    """The data, after a line on standard error about what was read."""
    if data.source:
        say(f"read {data.source}", err=True)
    return data


def read_codes(source: str | pathlib.Path, tokenizer: Callable[[str], Any]) -> tuple[np.ndarray, Any]:
    """The codes of a `.npy` or `.bin` file and `None`; or those of a text, by the tokenizer that `tokenizer(text)`
    gives, and that tokenizer. The text is that of a UTF-8 file, or Python's own documentation for `pydoc`.

    **Raises:** `DataError` for a file that cannot be read, or a text too short to predict.
    """
    if pathlib.Path(source).suffix in CODES:
        return open_tokens(source), None
    if source == "pydoc":
        from ..data.corpora import pydoc_text

        text = pydoc_text()
    else:
        try:
            text = io.StringIO(
                read_text(pathlib.Path(source))[0], newline=None
            ).read()  # every line end is one character
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        except OSError as error:
            raise DataError(f"{source} cannot be read as text ({error.strerror}).") from None
    if len(text) < 2:
        raise DataError(f"{source} holds {len(text)} characters; there is nothing to predict.")
    found = tokenizer(text)
    return found.encode(text), found


def _packaged(name: str, columns: list[str]) -> Sequences:
    """Columns of a data set that comes with statsmodels, as one sequence."""
    try:
        import statsmodels.datasets as datasets
    except ImportError:
        raise ConfigurationError(f"{PACKAGED}{name} needs the package statsmodels; install it.") from None
    load = getattr(getattr(datasets, name, None), "load_pandas", None)
    if load is None:
        raise DataError(f"statsmodels has no data set {name!r}; sunspots, co2 and macrodata are three that it has.")
    table = load().data
    if missing := [c for c in columns if c not in table]:
        raise DataError(f"{name!r} has no column {missing[0]!r}; name some of {', '.join(table)} with --tokens.")
    return Sequences.from_arrays([np.asarray(table[columns], float)], names=[name], columns=columns)
