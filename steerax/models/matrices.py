"""A process from a file: a model folder, or a JSON file with its matrices."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CheckpointError, DataError
from ..data.vocabulary import Vocabulary
from ..runs import models
from ..runs.files import read_json
from .generalised import GeneralisedHMM
from .hmm import HiddenMarkovModel

_CHAIN, _OPERATORS = {"initial", "transition", "emission", "tokens"}, {"initial", "operators", "evaluation", "tokens"}


def read_process(path: str | os.PathLike) -> HiddenMarkovModel | GeneralisedHMM:
    r"""The process of a folder that `steerax.save` wrote, or of a JSON file with one of

    `{"transition": [[…]], "emission": [[…]], "initial": […], "tokens": […]}`, a hidden Markov model, and
    `{"operators": [[[…]], …], "initial": […], "evaluation": […], "tokens": […]}`, one matrix $T^z$ per token.

    `initial` (the stationary one by default), `evaluation` and `tokens` (names) may be left out.

    **Raises:** `DataError` for another file or numbers that are no process; `CheckpointError` for a folder that is no model.
    """
    path = Path(path)
    if path.is_dir():
        model = models.load(path)
        if not isinstance(model, (HiddenMarkovModel, GeneralisedHMM)):
            raise DataError(
                f"{path} holds a {type(model).__name__}; a process is a HiddenMarkovModel or a GeneralisedHMM."
            )
        return model
    try:
        record = read_json(path)
    except CheckpointError as error:
        raise DataError(str(error)) from None
    keys = set(record)
    if not ({"transition", "emission"} <= keys <= _CHAIN or {"operators"} <= keys <= _OPERATORS):
        raise DataError(
            f"{path} has the entries {', '.join(sorted(map(str, keys))) or 'none'}; a process is `transition` and `emission`, or "
            "`operators`, and may have `initial`, `evaluation` and `tokens`."
        )
    arrays = {name: _array(path, name, record[name]) for name in keys - {"tokens"}}
    vocabulary = Vocabulary(tuple(map(str, record["tokens"]))) if "tokens" in keys else None
    if "operators" in keys:
        return GeneralisedHMM(
            arrays.get("initial"), arrays["operators"], evaluation=arrays.get("evaluation"), vocabulary=vocabulary
        )
    A = arrays["transition"]
    if "initial" in keys:
        return HiddenMarkovModel(arrays["initial"], A, arrays["emission"], vocabulary)
    uniform = np.full(len(A), 1 / max(len(A), 1))
    return HiddenMarkovModel(uniform, A, arrays["emission"], vocabulary).started("stationary")


def _array(path: Path, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{path}: `{name}` is not an array of numbers.") from None
