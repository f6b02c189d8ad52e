"""Figures as data: plain dictionaries that go into a JSON file and are drawn by the page's script.

Every figure has a `title`, a `caption` (one sentence that says what to see) and axis labels with units. A `role` is
a colour with a fixed meaning throughout all reports: see `ROLES`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..runs.json import plain
from .clouds import arranged

ROLES = ("filter", "dual", "transformer", "baseline", "floor", "accent")
"""Colours by meaning: exact filter, dual filter, transformer, simple baselines, a floor or bound, anything else."""


def _figure(kind: str, arguments: dict[str, Any], digits: int = 5) -> dict:
    """The arguments of a figure as JSON values, real numbers with `digits` significant digits; None if not finite."""
    if (reference := arguments.get("reference")) is not None:
        arguments = arguments | {"reference": {"label": reference[0], "value": reference[1]}}
    return {"kind": kind, **plain(arguments, digits)}


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
    rows = [dataclasses.replace(row, error=row.error or 0.0) for row in rows]
    return _figure("dots", locals())


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
    arguments = locals()
    arguments["series"] = arguments.pop("curves")
    return _figure("lines", arguments)


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
    return _figure("matrix", locals(), digits=3)


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
    return _figure("profile", locals(), digits=3)


def graph(title: str, caption: str, labels: Sequence[str], transition: Any, filled: Sequence[bool] | Any) -> dict:
    """The states of a Markov chain on a circle, with an arrow for every positive transition probability."""
    edges = [[i, j, float(p)] for (i, j), p in np.ndenumerate(np.asarray(transition, float)) if p > 0]
    content = {"title": title, "caption": caption, "labels": labels, "edges": edges, "filled": filled}
    return _figure("graph", content, digits=3)


@dataclasses.dataclass(frozen=True)
class Cloud:
    """One panel of a belief picture: a label, the places `points [n 2]` of the n strings, and a few words below it."""

    label: str
    points: Any
    note: str = ""


def clouds(
    title: str,
    caption: str,
    panels: Sequence[Cloud],
    colors: Any,
    outline: Any = None,
    corners: Sequence[tuple] = (),
    point_labels: Sequence[str] | None = None,
) -> dict:
    """The same points at other places, panel beside panel on one scale, so that the eye follows a colour across them.

    **Arguments:** `panels`; `colors [n k]`, weights that add up to one for each point (its exact belief), by which k
    colours of the page are mixed after a common stretch about the middle that makes differences visible; or numbers
    `[n]` or `[n 1]` between 0 and 1 for a ramp; `outline`, a polygon `[[x, y], …]` behind the points, "disc" for the
    unit disc, or None; `corners`, (x, y, text) for labels outside the outline, which show the colours of the weights if
    there are as many; `point_labels`, a short text per point.

    Points far outside of the outline and of all other points stand on the border and are counted in the panel's note.

    **Raises:** `DataError` for points, weights or labels that do not fit together or are not finite;
    `ConfigurationError` for an unknown outline.
    """
    content = arranged(panels, colors, outline, corners, point_labels)
    return _figure("clouds", {"title": title, "caption": caption, **content}, digits=4)


@dataclasses.dataclass(frozen=True)
class Weighed:
    """Weights of the pieces of a text, `weights [queries pieces]`, their standard `errors`, if any, and a sentence for each query."""

    weights: Any
    notes: Sequence[str]
    errors: Any = None


def text(
    title: str,
    caption: str,
    tokens: Sequence[str],
    choices: Mapping[str, Weighed],
    unit: str,
    key: str,
    link: str,
    query_notes: Sequence[str],
    reach: Sequence[int],
    places: Sequence[str] | None = None,
    choice_label: str = "Explain",
    close: bool = False,
    query_label: str = "Prediction",
) -> dict:
    """A text whose pieces `tokens` are coloured by their weights, which are read by pointing or with the keyboard.

    A slider chooses the query (with every figure of the same `link`), a menu one of the `choices`. The first `reach[q]` pieces belong
    to query `q`, which the slider calls `query_label`. `key` says what the colours mean, `unit` what is counted, `places` where a piece stands; `close` sets pieces without gaps.
    """
    spread = lambda weights: float(np.max(np.abs(np.nan_to_num(np.asarray(weights, float))), initial=0))
    content = {
        "title": title, "caption": caption, "tokens": tokens, "unit": unit, "key": key, "link": link, "query_notes": query_notes,
        "reach": reach, "choice_label": choice_label, "close": close, "query_label": query_label,
        "places": places if places is not None else [f"position {s}" for s in range(len(tokens))],
        "choices": {name: {**vars(each), "limit": spread(each.weights)} for name, each in choices.items()},
    }  # fmt: skip
    return _figure("text", content, digits=4)


@dataclasses.dataclass(frozen=True)
class Branch:
    """A node of a tree of questions: its words, a note below them, and the branches (word of the answer, node); an end has none."""

    words: str
    note: str = ""
    branches: Sequence[tuple[str, "Branch"]] = ()


def tree(title: str, caption: str, root: Branch) -> dict:
    """Questions from left to right, one below the other on a narrow screen."""

    def content(node: Branch) -> dict[str, Any]:
        return {
            "words": node.words,
            "note": node.note,
            "branches": [[answer, content(below)] for answer, below in node.branches],
        }

    return _figure("tree", {"title": title, "caption": caption, "root": content(root)})


def table(title: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict:
    """A table of text and numbers; numbers are right-aligned and shown as given.

    On a narrow screen a table with sentences (more than 40 characters in a cell) shows its rows one below the other.
    """
    cells = [[c if isinstance(c, str) else _number(c) for c in row] for row in rows]
    numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    stack = any(len(cell) > 40 for row in cells for cell in row)
    content = {
        "title": title,
        "caption": caption,
        "columns": columns,
        "rows": cells,
        "numeric": numeric,
        "stack": stack,
    }
    return _figure("table", content)


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return f"{value:.4g}"
