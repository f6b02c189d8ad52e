"""Figures as data: plain dictionaries that go into a JSON file and are drawn by the page's script.

Every figure has a `title`, a `caption` (one sentence that says what to see) and axis labels with units. A `role` is
a colour with a fixed meaning throughout all reports: see `ROLES`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROLES = ("filter", "dual", "transformer", "baseline", "floor", "accent")
"""Colours by meaning: exact filter, dual filter, transformer, simple baselines, a floor or bound, anything else."""


def _plain(values: Any, digits: int = 5) -> Any:
    """Arrays as nested lists of numbers with `digits` significant digits; non-finite numbers become None."""
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return array.tolist()
    flat = [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in array.ravel().tolist()]

    def nest(items: list, shape: tuple[int, ...]) -> Any:
        if not shape:
            return items[0]
        if len(shape) == 1:
            return items
        step = len(items) // shape[0] if shape[0] else 0
        return [nest(items[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]

    return nest(flat, array.shape)


@dataclasses.dataclass(frozen=True)
class Dot:
    """One row of a dot plot: a value with its standard error."""

    label: str
    value: float
    error: float | None
    role: str


def dots(
    title: str,
    caption: str,
    x_label: str,
    rows: Sequence[Dot],
    reference: tuple[str, float] | None = None,
    error_label: str = "bar: ± 2 standard errors over sequences",
) -> dict:
    """A dot plot, one row per method, with bars of ±2 standard errors and an optional vertical reference line."""
    return {
        "kind": "dots",
        "title": title,
        "caption": caption,
        "x_label": x_label,
        "error_label": error_label,
        "rows": [
            {"label": r.label, "value": _plain(r.value), "error": _plain(r.error or 0.0), "role": r.role} for r in rows
        ],
        "reference": None if reference is None else {"label": reference[0], "value": _plain(reference[1])},
    }


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve: `x [n]`, `y [n]`, and optionally the band `low [n]`, `high [n]`."""

    label: str
    x: Any
    y: Any
    role: str
    low: Any = None
    high: Any = None


def lines(
    title: str,
    caption: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Line],
    reference: tuple[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> dict:
    """Curves on common axes, labelled directly, with an optional horizontal reference line."""
    return {
        "kind": "lines",
        "title": title,
        "caption": caption,
        "x_label": x_label,
        "y_label": y_label,
        "log_x": log_x,
        "log_y": log_y,
        "series": [
            {
                "label": c.label,
                "role": c.role,
                "x": _plain(c.x),
                "y": _plain(c.y),
                "low": None if c.low is None else _plain(c.low),
                "high": None if c.high is None else _plain(c.high),
            }
            for c in curves
        ],
        "reference": None if reference is None else {"label": reference[0], "value": _plain(reference[1])},
    }


def matrix(
    title: str,
    caption: str,
    x_label: str,
    y_label: str,
    value_label: str,
    choices: Mapping[str, Any],
    diverging: bool = False,
    link: str | None = None,
    columns: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> dict:
    """A heat map `[rows columns]`; several `choices` (name → matrix) get a menu.

    With `link` the row is chosen together with every other figure of the same link (a slider, or a click).
    """
    return {
        "kind": "matrix",
        "title": title,
        "caption": caption,
        "x_label": x_label,
        "y_label": y_label,
        "value_label": value_label,
        "choices": {name: _plain(values, 3) for name, values in choices.items()},
        "diverging": diverging,
        "link": link,
        "columns": None if columns is None else list(columns),
        "row_labels": None if row_labels is None else list(row_labels),
    }


@dataclasses.dataclass(frozen=True)
class Panel:
    """One row of bars of a profile figure: for every query a value per step, `choices`: name → `[queries steps]`."""

    label: str
    role: str
    choices: Mapping[str, Any]


def profile(
    title: str,
    caption: str,
    x_label: str,
    panels: Sequence[Panel],
    tokens: Sequence[str],
    link: str,
    query_notes: Sequence[str],
    highlight: Sequence[bool] | None = None,
) -> dict:
    """Bars over the steps of one sequence for the query chosen by a slider: one panel per method, tokens below.

    `query_notes[q]` is the sentence shown for query `q`; `highlight[s]` marks steps worth seeing.
    """
    return {
        "kind": "profile",
        "title": title,
        "caption": caption,
        "x_label": x_label,
        "panels": [
            {
                "label": p.label,
                "role": p.role,
                "choices": {name: _plain(values, 3) for name, values in p.choices.items()},
            }
            for p in panels
        ],
        "tokens": list(tokens),
        "link": link,
        "query_notes": list(query_notes),
        "highlight": None if highlight is None else [bool(h) for h in highlight],
    }


def graph(title: str, caption: str, labels: Sequence[str], transition: Any, filled: Sequence[bool] | Any) -> dict:
    """The states of a Markov chain on a circle, with an arrow for every positive transition probability."""
    return {
        "kind": "graph",
        "title": title,
        "caption": caption,
        "labels": list(labels),
        "edges": [
            [int(i), int(j), _plain(p, 3)] for (i, j), p in np.ndenumerate(np.asarray(transition, float)) if p > 0
        ],
        "filled": [bool(f) for f in filled],
    }


def table(title: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict:
    """A table of text and numbers; numbers are right-aligned and shown as given.

    On a narrow screen a table with sentences (more than 40 characters in a cell) shows its rows one below the other.
    """
    cells = [[c if isinstance(c, str) else _number(c) for c in row] for row in rows]
    numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    return {
        "kind": "table",
        "title": title,
        "caption": caption,
        "columns": list(columns),
        "rows": cells,
        "numeric": numeric,
        "stack": any(len(cell) > 40 for row in cells for cell in row),
    }


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return f"{value:.4g}"
