"""Known inputs: of linear models, columns whose effect is taken off before a model sees a series, and put back after; of a
regression in each state, columns that the model reads itself.

A fitted linear model belongs to $Z_t-Dw_t$. Rows after the last observation hold the inputs of the future.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._errors import CheckpointError, ConfigurationError, DataError
from ..data.sequences import Sequences


@dataclasses.dataclass(frozen=True)
class Regressors:
    """The names of the inputs, and the weights `D` `[p q]` that they have on the channels; without names nothing happens."""

    names: tuple[str, ...] = ()
    weights: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((1, 0)))

    @classmethod
    def of_record(cls, record: Any, n_channels: int) -> "Regressors":
        """Those that a model folder remembers. **Raises:** `CheckpointError` for what are no weights."""
        if record is None:
            return cls()
        try:
            weights = np.array([record[name] for name in record], dtype=float).T
        except (TypeError, ValueError, KeyError, OverflowError):
            weights = np.zeros(0)
        if (
            not isinstance(record, Mapping)
            or weights.shape != (n_channels, len(record))
            or not np.isfinite(weights).all()
        ):
            raise CheckpointError(
                f"The weights of the model's inputs are no numbers for {n_channels} channels; fit it again."
            )
        return cls(tuple(record), weights)

    @property
    def record(self) -> dict[str, list[float]] | None:
        """What a model folder remembers."""
        columns = [column.tolist() for column in np.asarray(self.weights).T]
        return dict(zip(self.names, columns, strict=True)) if self.names else None


def split_columns(data: Sequences, n_inputs: int) -> tuple[Sequences, np.ndarray]:
    """The channels, and the inputs `[B T q]`, which stand behind them. **Raises:** `DataError` for a missing input."""
    p = data.values.shape[2] - n_inputs
    columns, w = data.columns or (), data.values[..., p:]
    absent = np.argwhere(~np.isfinite(w) & data.inside[..., None])
    if len(absent):
        i, row, input_ = absent[0]
        where = f" of sequence {data.names[i] if data.names else i}" if data.number > 1 else ""
        raise DataError(
            f"The input {columns[p + input_]!r} is missing in row {row + 1}{where}; a known input is a number at every time."
        )
    return dataclasses.replace(data, values=data.values[..., :p], columns=columns[:p]), w


def without_effect(data: Sequences, regressors: Regressors) -> Sequences:
    """The channels less the effect of the inputs, which stand behind them."""
    if not regressors.names:
        return data
    seen, w = split_columns(data, len(regressors.names))
    return dataclasses.replace(seen, values=seen.values - w @ regressors.weights.T)


def input_columns(named: str | None, channels: list[str]) -> list[str]:
    """The names in `--inputs a,b`. **Raises:** `ConfigurationError` for one that is named twice."""
    names = [name for name in (named or "").split(",") if name]
    twice = next((name for i, name in enumerate(names) if name in (*channels, *names[:i])), None)
    if twice is not None:
        raise ConfigurationError(f"The column {twice!r} is named twice; it is an observation or an input.")
    return names


@dataclasses.dataclass(frozen=True)
class Effects:
    """What the inputs of a model add to series; nothing, where it has none, or reads them itself.

    **Attributes:** `regressors`; `ends`, the time after the last observation of each series; `rows`, the effect on every row of
    each series, also after its end, or with `read` the inputs of these rows.
    """

    regressors: Regressors = Regressors()
    ends: tuple[int, ...] = ()
    rows: tuple[np.ndarray, ...] = ()
    read: tuple[str, ...] = ()

    @classmethod
    def taken_off(cls, data: Sequences, regressors: Regressors) -> tuple[Sequences, "Effects"]:
        """Series up to their last observation, less the effect of the inputs, which stand behind the channels."""
        if not regressors.names:
            return data, cls()
        seen, w = split_columns(data, len(regressors.names))
        effects, ends = w @ regressors.weights.T, _ends(seen)
        parts = [seen[i][:end] - effects[i, :end] for i, end in enumerate(ends)]
        rows = tuple(effect[:length] for effect, length in zip(effects, seen.lengths, strict=True))
        return Sequences.from_arrays(parts, names=seen.names, columns=seen.columns), cls(regressors, ends, rows)

    @classmethod
    def kept(cls, data: Sequences, n_inputs: int) -> tuple[Sequences, "Effects"]:
        """Series up to their last observation with the inputs behind the channels, for a model that reads these."""
        seen, w = split_columns(data, n_inputs)
        ends, names = (
            _ends(seen),
            tuple((data.columns or [f"input {i}" for i in range(data.values.shape[2])])[-n_inputs:]),
        )
        parts = [data[i][:end] for i, end in enumerate(ends)]
        rows = tuple(u[:length] for u, length in zip(w, seen.lengths, strict=True))
        return Sequences.from_arrays(parts, names=data.names, columns=data.columns), cls(
            Regressors(), ends, rows, names
        )

    def ahead(self, numbers: Sequence[int], steps: int) -> dict[str, np.ndarray]:
        """The inputs `[B steps q]` of the times after the end of some series, as an option of `forecast`, for a model that reads them.

        **Raises:** `DataError` if they lie after the last row.
        """
        if not self.read:
            return {}
        return {"inputs": np.stack([self._rows(i, self.ends[i], self.ends[i] + steps, self.read) for i in numbers])}

    def between(self, number: int, first: int, last: int) -> np.ndarray:
        """`[last - first, p]`: the effect on these times of one series.

        **Raises:** `DataError` if they lie after the last row, with what is to be added.
        """
        if not self.regressors.names:
            return np.zeros((last - first, 1))
        return self._rows(number, first, last, self.regressors.names)

    def _rows(self, number: int, first: int, last: int, names: Sequence[str]) -> np.ndarray:
        """Rows of one series. **Raises:** `DataError` if they lie after the last one, with what is to be added."""
        rows, end = self.rows[number], self.ends[number]
        if last > len(rows):
            raise DataError(
                f"The model needs {', '.join(names)} at {last - end} time{'s' * (last - end > 1)} after the last "
                f"observation, and the data have them at {len(rows) - end}; add rows with these columns, in which the "
                "observation is empty."
            )
        return rows[first:last]

    def after(self, number: int, steps: int) -> np.ndarray:
        """`[steps p]`: the effect on the times after the end of one series. **Raises:** `DataError`."""
        end = self.ends[number] if self.ends else 0
        return self.between(number, end, end + steps)


def _ends(seen: Sequences) -> tuple[int, ...]:
    """The time after the last observation of each series. **Raises:** `DataError` for one without any."""
    observed = [np.flatnonzero(np.isfinite(seen[i]).any(-1)) for i in range(seen.number)]
    for i, times in enumerate(observed):
        if not len(times):
            raise DataError(f"Sequence {seen.names[i] if seen.names else i} has no observation; remove it.")
    return tuple(int(times[-1]) + 1 for times in observed)
