"""Rows in the order of a column of times, with gaps where a step is absent."""

import calendar
import datetime
import math
from collections.abc import Mapping, Sequence

import numpy as np

from .._errors import DataError
from .table import shortened


def _moments(name: str, cells: Sequence[str | None]) -> tuple[np.ndarray, bool]:
    """Times as numbers, and whether they are dates (then in seconds)."""
    absent = next((row for row, cell in enumerate(cells) if cell is None), None)
    if absent is not None:
        raise DataError(f"the time column {name!r} is empty in row {absent + 1}.")
    texts = [str(cell).strip() for cell in cells]
    for convert, dates in ((float, False), (_of_date, True)):
        try:
            moments = np.asarray([convert(text) for text in texts])
        except ValueError:
            continue
        if np.isfinite(moments).all():
            return moments, dates
    odd = next((t for t in texts if not _is_time(t)), texts[0])
    raise DataError(
        f"the time column {name!r} holds {shortened(odd)!r}; it needs numbers or ISO dates such as 2024-01-31."
    )


def _of_date(text: str) -> float:
    if len(text) == 7:  # a month
        text += "-01"
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _is_time(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        try:
            _of_date(text)
            return True
        except ValueError:
            return False


def _as_months(seconds: np.ndarray) -> np.ndarray | None:
    """The numbers of months of dates that lie on one day of the month, the first or the last; `None` otherwise."""
    days = [datetime.datetime.fromtimestamp(s, datetime.UTC) for s in seconds]
    last = all(d.day == calendar.monthrange(d.year, d.month)[1] for d in days)
    if len({(d.day, d.time()) for d in days}) > 1 and not (last and len({d.time() for d in days}) == 1):
        return None
    return np.asarray([12.0 * d.year + d.month for d in days])


def in_order(
    name: str, cells: Sequence[str | None], groups: Mapping[str, list[int]], said: list[str]
) -> dict[str, list[int | None]]:
    """The rows of every group in the order of their times, `None` for an absent step.

    Steps are absent where all times lie on a grid that is more than half filled; other times only order the rows. Both is
    said. **Raises:** `DataError` for what is no time, or two rows of a group at one time.
    """
    times, dates = _moments(name, cells)
    for key, rows in groups.items():
        at = times[rows]
        distinct, first = np.unique(at, return_index=True)
        if len(distinct) < len(at):
            row = rows[int(np.setdiff1d(np.arange(len(at)), first)[0])]
            raise DataError(f"two rows of sequence {key} have the time {cells[row]!r}; a step has one row.")
    moved = any((np.diff(times[rows]) < 0).any() for rows in groups.values())
    if moved:
        said.append(f"rows sorted by {name!r}")
    ordered = {key: [rows[i] for i in np.argsort(times[rows], kind="stable")] for key, rows in groups.items()}
    months = _as_months(times) if dates and len(times) > 1 else None
    for scale in (times, months):
        if scale is not None and (grid := _on_grid(scale, ordered)) is not None:
            if absent := sum(len(rows) for rows in grid.values()) - len(times):
                said.append(f"{absent} absent step{'s' * (absent > 1)} of {name!r} became gaps")
            return grid
    said.append(f"times in {name!r} are not evenly spaced: they only order the rows")
    return {key: list(rows) for key, rows in ordered.items()}


def _on_grid(times: np.ndarray, ordered: Mapping[str, list[int]]) -> dict[str, list[int | None]] | None:
    """Rows at the places of a common grid, or `None` if there is none that is more than half filled."""
    steps = np.concatenate([np.diff(times[rows]) for rows in ordered.values()] or [np.zeros(0)])
    if not len(steps):
        return {key: list(rows) for key, rows in ordered.items()}
    places = {key: (times[rows] - times[rows[0]]) / steps.min() for key, rows in ordered.items()}
    size = sum(float(p[-1]) + 1 for p in places.values())
    if size > 2 * len(times) or any(np.abs(p - np.round(p)).max() > 1e-6 * max(p[-1], 1) for p in places.values()):
        return None
    grid: dict[str, list[int | None]] = {}
    for key, place in places.items():
        grid[key] = [None] * (round(float(place[-1])) + 1)
        for row, at in zip(ordered[key], place, strict=True):
            grid[key][round(float(at))] = row
    return grid
