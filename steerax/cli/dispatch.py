"""Which module answers `fit`, `predict`, `explain` and `forecast` for which kind of model."""

from typing import TYPE_CHECKING, Any, Protocol

from .._errors import ConfigurationError, DataError
from .answers import Answer
from .options import ExplainOptions, FitOptions, ForecastOptions, PredictOptions, TableOptions

if TYPE_CHECKING:
    import numpy as np

    from ..data.sequences import Sequences
    from ..inference.results import Fitted

# kind of a saved model -> --model
_SAVED = {
    "hidden_markov_model": "hmm",
    "linear_gaussian_model": "linear",
    "time_varying_linear_gaussian_model": "linear",
}


class Room(Protocol):
    """The functions of the modules `hmm` and `linear`."""

    def read(self, path: str, table: TableOptions, model: Any = None) -> "Sequences":
        """The data of a file, in the vocabulary of the model if there is one."""
        ...

    def learn(self, training: "Sequences", options: FitOptions) -> "Fitted":
        """Fit a model and save it in `options.folder`."""
        ...

    def measured(
        self, fitted: "Fitted", training: "Sequences", held_out: "Sequences | None"
    ) -> tuple[dict[str, Any], list[str]]:
        """How well the model fits, as a record and as lines of text."""
        ...

    def predict(self, model: Any, data: "Sequences", options: PredictOptions) -> Answer: ...

    def explain(self, model: Any, z: "np.ndarray", options: ExplainOptions) -> Answer: ...

    def forecast(self, model: Any, z: "np.ndarray", options: ForecastOptions) -> Answer: ...


def room_of(name: str) -> Room:
    """The module of `--model NAME`. **Raises:** `ConfigurationError` for an unknown name."""
    if name == "hmm":
        from . import hmm

        return hmm
    if name == "linear":
        from . import linear

        return linear
    raise ConfigurationError(f"There is no model called {name!r}; choose hmm or linear.")


def opened(options: PredictOptions | ExplainOptions | ForecastOptions) -> tuple[Any, Room, "Sequences"]:
    """A saved model, the module that answers for it, and the data.

    **Raises:** `CheckpointError` or `DataError` if one cannot be read; `ConfigurationError` for another kind of model.
    """
    from ..runs.models import kind_of, load

    model = load(options.model)
    kind = kind_of(model)
    if kind not in _SAVED:
        raise ConfigurationError(f"{options.model} holds a model of kind {kind!r}, which this command cannot use.")
    room = room_of(_SAVED[kind])
    return model, room, room.read(options.data, options.table, model)


def one(data: "Sequences", number: int) -> "np.ndarray":
    """One sequence. **Raises:** `DataError` for a number that there is not."""
    if not 0 <= number < data.number:
        raise DataError(f"There is no sequence {number}; the data hold {data.number}, counted from 0.")
    return data[number]
