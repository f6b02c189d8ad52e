"""Known inputs of linear models: columns whose effect is taken off before a model sees a series, and put back after.

A fitted model belongs to $Z_t-Dw_t$. Rows after the last observation hold the inputs of the future.
"""

import dataclasses
from collections.abc import Mapping
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
    """What the inputs of a model add to series; nothing, where it has none.

    **Attributes:** `regressors`; `ends`, the time after the last observation of each series; `rows`, the effect on every row of
    each series, also after its end.
    """

    regressors: Regressors = Regressors()
    ends: tuple[int, ...] = ()
    rows: tuple[np.ndarray, ...] = ()

    @classmethod
    def taken_off(cls, data: Sequences, regressors: Regressors) -> tuple[Sequences, "Effects"]:
        """Series up to their last observation, less the effect of the inputs, which stand behind the channels."""
        if not regressors.names:
            return data, cls()
        seen, w = split_columns(data, len(regressors.names))
        effects, parts, ends = w @ regressors.weights.T, [], []
        for i in range(seen.number):
            observed = np.flatnonzero(np.isfinite(seen[i]).any(-1))
            if not len(observed):
                raise DataError(f"Sequence {seen.names[i] if seen.names else i} has no observation; remove it.")
            ends.append(int(observed[-1]) + 1)
            parts.append(seen[i][: ends[-1]] - effects[i, : ends[-1]])
        rows = tuple(effect[:length] for effect, length in zip(effects, seen.lengths, strict=True))
        return Sequences.from_arrays(parts, names=seen.names, columns=seen.columns), cls(regressors, tuple(ends), rows)

    def between(self, number: int, first: int, last: int) -> np.ndarray:
        """`[last - first, p]`: the effect on these times of one series.

        **Raises:** `DataError` if they lie after the last row, with what is to be added.
        """
        if not self.regressors.names:
            return np.zeros((last - first, 1))
        rows, end = self.rows[number], self.ends[number]
        if last > len(rows):
            raise DataError(
                f"The model needs {', '.join(self.regressors.names)} at {last - end} time{'s' * (last - end > 1)} after the last "
                f"observation, and the data have them at {len(rows) - end}; add rows with these columns, in which the "
                "observation is empty."
            )
        return rows[first:last]

    def after(self, number: int, steps: int) -> np.ndarray:
        """`[steps p]`: the effect on the times after the end of one series. **Raises:** `DataError`."""
        end = self.ends[number] if self.ends else 0
        return self.between(number, end, end + steps)
