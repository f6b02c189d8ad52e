"""Figures as files for a paper: the same data as on the page, drawn by matplotlib as SVG, PDF or PNG.

matplotlib is optional (`pip install "steerax[plot]"`). Colours are those of the page, read from its style sheet; several
curves of one role differ by their dashes, as on the page.
"""

import importlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import ConfigurationError
from ..runs.files import write_whole
from .clouds import mixed
from .page import asset

_FORMATS = ("svg", "pdf", "png")
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}, "png": {"Software": None}}
_DASHES = ((), (6, 2), (2, 2), (6, 2, 2, 2))
_STYLE = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "steerax",  # the same figure is the same file
    "pdf.fonttype": 42,
}


def export(figure: dict, path: str | Path) -> None:
    """Write one figure (see `steerax.report.figures`) to `path`, whole or not at all; its suffix names the format.

    Tables have no drawing; a matrix with several choices becomes panels side by side; a profile shows its last query.
    In SVG and PDF more than 2000 points of a belief picture are one image of 300 dots per inch, as is all of a PNG.

    **Raises:** `ConfigurationError` if matplotlib is not installed or the suffix is not `.svg`, `.pdf` or `.png`.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in _FORMATS or figure["kind"] not in _DRAW:
        raise ConfigurationError(
            f"{path} cannot be drawn: figures that are no tables are written as .svg, .pdf or .png."
        )
    matplotlib = _matplotlib()
    with matplotlib.rc_context(_STYLE):
        drawn = draw(figure)
        stream = io.BytesIO()
        dpi = 300 if kind == "png" or figure["kind"] == "clouds" else "figure"
        drawn.savefig(stream, format=kind, bbox_inches="tight", metadata=_UNDATED[kind], dpi=dpi)
    write_whole(path, stream.getvalue())


def draw(figure: dict) -> Any:
    """One figure as a matplotlib figure, which the caller shows or saves. **Raises:** `ConfigurationError` for a table, or without
    matplotlib."""
    if figure["kind"] not in _DRAW:
        raise ConfigurationError("A table has no drawing.")
    with _matplotlib().rc_context(_STYLE):
        return _DRAW[figure["kind"]](figure)


def export_all(figures: list[dict], folder: str | Path, stem: str, kind: str) -> list[Path]:
    """Write every figure that is no table to `folder/STEM-1-TITLE.KIND`, …; the paths, in order."""
    drawable = [figure for figure in figures if figure["kind"] in _DRAW]
    paths = [
        Path(folder) / f"{stem}-{i}-{re.sub('[^a-z0-9]+', '-', figure['title'].lower()).strip('-')}.{kind}"
        for i, figure in enumerate(drawable, 1)
    ]
    for figure, path in zip(drawable, paths, strict=True):
        export(figure, path)
    return paths


def check(formats: Sequence[str]) -> None:
    """**Raises:** `ConfigurationError` for an unknown format, or if matplotlib is not installed."""
    for kind in formats:
        if kind not in _FORMATS:
            raise ConfigurationError(
                f"Figures are written as {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, not as {kind!r}."
            )
    _matplotlib()


def colours() -> dict[str, str]:
    """Role or part of a page → its colour in the light scheme, from the style sheet of the page."""
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", asset("page.css").split("@media")[0]))


def _matplotlib() -> Any:
    try:
        return importlib.import_module("matplotlib")
    except ImportError:
        raise ConfigurationError('Drawing needs matplotlib; try: pip install "steerax[plot]".') from None


def canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, np.ndarray]:
    """(figure, axes `[rows columns]`) in inches, without the global state of pyplot. **Raises:** `ConfigurationError` without matplotlib."""
    _matplotlib()
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], float)


def draw_lines(figure: dict) -> Any:
    """Curves with bands, labelled at their right ends."""
    drawn, axes = canvas(5.2, 2.9)
    ax, colour, used, ends = axes[0, 0], colours(), dict.fromkeys(colours(), 0), []
    log = {"x": figure["log_x"], "y": figure["log_y"]}
    ax.set(**{f"{name}scale": "log" for name, on in log.items() if on})
    for s in figure["series"]:
        x, y = _array(s["x"]), _array(s["y"])
        kept = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log["x"])) & ((y > 0) | (not log["y"]))
        dashes, used[s["role"]] = _DASHES[used[s["role"]] % len(_DASHES)], used[s["role"]] + 1
        if s["low"] is not None:
            ax.fill_between(x, _array(s["low"]), _array(s["high"]), color=colour[s["role"]], alpha=0.18, lw=0)
        if kept.any():
            marker = "o" if kept.sum() <= 40 else None
            (line,) = ax.plot(x[kept], y[kept], color=colour[s["role"]], marker=marker)
            line.set_dashes(dashes) if dashes else None
            ends.append((y[kept][-1], s["label"], colour[s["role"]]))
    if figure["reference"]:
        ax.axhline(figure["reference"]["value"], color=colour["floor"], lw=0.8, dashes=(4, 3))
        ends.append((figure["reference"]["value"], figure["reference"]["label"], colour["floor"]))
    for axis in (getattr(ax, f"{name}axis") for name, on in log.items() if on):
        _log_ticks(axis)
    ax.set(xlabel=figure["x_label"], ylabel=figure["y_label"])
    _label_ends(ax, ends)
    return drawn


def _log_ticks(axis: Any) -> None:
    """Powers of ten, or 1, 2, 5 of each where the axis is shorter than a decade and a half; as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_locator(NullLocator())


def _label_ends(ax: Any, ends: list[tuple[float, str, str]], least: float = 0.065) -> None:
    """Text right of the axes at the height of each end, moved apart where labels would overlap."""
    to_axes = lambda y: ax.transAxes.inverted().transform(ax.transData.transform((ax.get_xlim()[0], y)))[1]
    last = -np.inf
    for height, text, colour in sorted((float(to_axes(y)), text, colour) for y, text, colour in ends):
        last = max(height, last + least)
        ax.text(1.02, last, text, color=colour, transform=ax.transAxes, va="center")


def _draw_dots(figure: dict) -> Any:
    """One row per method with its value, bars of two standard errors."""
    rows = figure["rows"]
    drawn, axes = canvas(5.2, 0.5 + 0.24 * len(rows))
    ax, colour = axes[0, 0], colours()
    for i, row in enumerate(rows):
        if row["value"] is None:
            ax.text(0.02, i, "infinite", transform=ax.get_yaxis_transform(), va="center")
            continue
        ax.errorbar(row["value"], i, xerr=2 * (row["error"] or 0), color=colour[row["role"]], marker="o")
        ax.text(1.02, i, f"{row['value']:.4g}", transform=ax.get_yaxis_transform(), va="center")
    if figure["reference"]:
        ax.axvline(figure["reference"]["value"], color=colour["floor"], lw=0.8, dashes=(4, 3))
        ax.set_title(f"{figure['reference']['label']} {figure['reference']['value']:.4g}", fontsize=8)
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(figure["x_label"])
    return drawn


def _draw_matrix(figure: dict) -> Any:
    """A heat map per choice; the scale of each is its own largest value, square roots of sizes as on the page."""
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap

    choices, colour = figure["choices"], colours()
    columns = min(len(choices), 4)
    rows = -(-len(choices) // columns)
    first = np.asarray(next(iter(choices.values())), float)
    wide = 4.6 if figure["row_labels"] else 2.4
    tall = 0.25 + 0.17 * len(first) if figure["row_labels"] else float(np.clip(2.2 * len(first) / first.shape[1], 1, 3))
    drawn, axes = canvas(0.8 + wide * columns, (0.5 + tall) * rows, rows, columns)
    both = figure["diverging"]
    ends = [colour["filter"], "#ffffff", colour["transformer"]] if both else ["#ffffff", colour["filter"]]
    shades = LinearSegmentedColormap.from_list("roles", ends)
    for ax, (name, values) in zip(axes.flat, choices.items(), strict=False):
        values = np.array([_array(row) for row in values])
        limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
        root = (lambda v: np.sign(v) * np.sqrt(np.abs(v)), lambda v: np.sign(v) * v**2)
        norm = FuncNorm(root, vmin=-limit if both else 0, vmax=limit)
        image = ax.imshow(values, cmap=shades, norm=norm, aspect="auto", interpolation="nearest")
        bar = drawn.colorbar(image, ax=ax, ticks=[-limit, 0, limit] if both else [0, limit / 4, limit])
        bar.ax.set_yticklabels([f"{t:.3g}" for t in bar.get_ticks()])
        bar.set_label(figure["value_label"])
        if len(choices) > 1:
            ax.set_title(name, fontsize=8)
        if figure["row_labels"]:
            ax.set_yticks(range(len(values)), figure["row_labels"])
        if figure["columns"] and values.shape[1] <= 72:
            ax.set_xticks(range(values.shape[1]), figure["columns"], fontsize=6)
        ax.set(xlabel=figure["x_label"], ylabel=figure["y_label"])
    for ax in axes.flat[len(choices) :]:
        ax.set_axis_off()
    return drawn


def _draw_profile(figure: dict) -> Any:
    """Bars over the steps for the last query, a row of axes per panel, tokens below."""
    panels, tokens = figure["panels"], figure["tokens"]
    drawn, axes = canvas(6.4, 0.4 + 0.95 * len(panels), len(panels))
    colour, steps = colours(), np.arange(len(tokens))
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        values = _array(next(iter(panel["choices"].values()))[-1])
        for s in np.flatnonzero(figure["highlight"] or []):
            ax.axvspan(s - 0.5, s + 0.5, color=colour["mark"], lw=0)
        ax.bar(steps[: len(values)], values, color=colour[panel["role"]], width=0.75)
        ax.set_title(panel["label"], loc="left", fontsize=8)
        ax.set_xlim(-0.6, len(tokens) - 0.4)
        ax.set_xticks([])
    every = 1 if len(tokens) <= 72 else 2
    axes[-1, 0].set_xticks(steps[::every], tokens[::every], fontsize=6)
    axes[-1, 0].set_xlabel(figure["x_label"])
    return drawn


def _draw_graph(figure: dict) -> Any:
    """States on a circle, an arrow per positive transition probability, labelled where it is below one."""
    drawn, axes = canvas(3.2, 3.2)
    ax, colour, n = axes[0, 0], colours(), len(figure["labels"])
    arrow = {"arrowstyle": "-|>", "color": colour["soft"], "lw": 0.8, "mutation_scale": 9, "shrinkA": 9, "shrinkB": 9}
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    place = np.stack([np.cos(angle), np.sin(angle)], 1)
    for i, j, p in figure["edges"]:
        bend = "arc3,rad=0.15" if i != j else "arc3,rad=-1.4"
        start, end = (place[i], place[j]) if i != j else (1.02 * place[i] + [0.05, 0], 1.02 * place[i] - [0.05, 0])
        ax.annotate("", tuple(end), tuple(start), arrowprops=arrow | {"connectionstyle": bend})
        if p < 1:
            middle = (place[i] + place[j]) / 2 if i != j else 1.25 * place[i]
            ax.text(*middle, f"{p:.3g}", ha="center", va="center", backgroundcolor="white", fontsize=7)
    for (x, y), name, filled in zip(place, figure["labels"], figure["filled"], strict=True):
        face = colour["filter"] if filled else "white"
        ax.plot(x, y, "o", ms=16, mfc=face, mec=colour["filter"])
        ax.text(x, y, name, ha="center", va="center", color="white" if filled else colour["ink"])
    ax.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal")
    ax.set_axis_off()
    return drawn


def _draw_clouds(figure: dict) -> Any:
    """Panels on one scale: the outline, the points in the colours of their weights, labels outside the corners."""
    from matplotlib.patches import Circle, Polygon

    panels, colour, (low, high) = figure["panels"], colours(), np.array(figure["view"])
    columns = 3 if len(panels) == 3 else min(len(panels), 2)
    rows, size = -(-len(panels) // columns), high - low
    side = 2.2 if columns == 3 else 2.8
    drawn, axes = canvas(side * columns, (side * size[1] / size[0] + 0.55) * rows, rows, columns)
    drawn.get_layout_engine().set(w_pad=0.14)
    shades = mixed(figure["colors"], [colour[role] for role in figure["roles"]])
    area = np.clip(28 / np.sqrt(len(shades)), 0.45, 2) ** 2 * 2
    for ax, panel in zip(axes.flat, panels, strict=False):
        if (outline := figure["outline"]) is not None:
            shape = Circle((0, 0), 1) if outline == "disc" else Polygon(outline)
            shape.set(
                facecolor="none", edgecolor=colour["rule"], linewidth=0.8, joinstyle="round", zorder=0, clip_on=False
            )
            ax.add_patch(shape)
        places = np.clip(panel["points"], low, high)
        ax.scatter(*places.T, s=area, c=shades, alpha=0.8, lw=0, rasterized=len(places) > 2000, clip_on=False)
        _label_corners(ax, figure, colour)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        above = {"xycoords": "axes fraction", "textcoords": "offset points"}
        ax.annotate(panel["label"], (0, 1), xytext=(0, 28), fontweight="bold", **above)
        ax.annotate(panel["note"], (0, 1), xytext=(0, 18), fontsize=7, color=colour["soft"], **above)
        ax.set_axis_off()
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    return drawn


def _label_corners(ax: Any, figure: dict, colour: dict[str, str]) -> None:
    """A label outside of every corner, with the colour of its weight if there are as many corners as weights."""
    corners, roles, middle = figure["corners"], figure["roles"], np.mean(figure["view"], axis=0)
    for i, (x, y, text) in enumerate(corners):
        ux, uy = np.subtract((x, y), middle) / (np.hypot(*np.subtract((x, y), middle)) or 1)
        if len(corners) == len(roles) and "card" not in roles:
            ax.plot(x, y, "o", ms=3.5, color=colour[roles[i]], mec="white", mew=0.5, zorder=1, clip_on=False)
        level = abs(uy) < 0.4
        ax.annotate(
            text,
            (x, y),
            xytext=(6 * np.sign(ux), 0) if level else (0, 6 * np.sign(uy)),
            textcoords="offset points",
            ha=("left" if ux > 0 else "right") if level else "center",
            va="center" if level else ("bottom" if uy > 0 else "top"),
            fontsize=7,
        )


# kind of figure -> its drawing
_DRAW = {
    "lines": draw_lines,
    "dots": _draw_dots,
    "matrix": _draw_matrix,
    "profile": _draw_profile,
    "graph": _draw_graph,
    "clouds": _draw_clouds,
}
