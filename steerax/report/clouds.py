"""What both drawings of a belief picture share: its checks, its colours, and the part of the plane that it shows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._errors import ConfigurationError, DataError

_ROLES = ("filter", "transformer", "dual", "accent", "baseline", "floor")  # neighbours first that everybody tells apart
_PALEST = 0.45  # share of the colour at the low end of a ramp, so that no point fades into the paper
_STRETCH = 4.0


def arranged(panels: Sequence[Any], colors: Any, outline: Any, corners: Sequence, point_labels: Any) -> dict:
    """The checked arguments of `figures.clouds`, with what the drawings need besides: `roles`, `view`, `close`, full notes.

    **Raises:** `DataError` for points, weights or labels that do not fit together or are not finite;
    `ConfigurationError` for an unknown outline.
    """
    points = [_points(panel) for panel in panels]
    sizes = {len(p) for p in points}
    if len(sizes) != 1 or 0 in sizes:
        raise DataError(f"Every panel shows the same points, at least one, but the panels have {[*map(len, points)]}.")
    (n,) = sizes
    colors, roles = _weights(colors, n)
    if point_labels is not None and len(point_labels) != n:
        raise DataError(f"There are {n} points but {len(point_labels)} labels; give one label for each point.")
    outline = _polygon(outline)
    everything = np.concatenate(points)
    view = _view(everything, outline)
    return {
        "panels": [
            {"label": panel.label, "points": p, "note": _note(panel.note, int((~_within(p, view)).sum()))}
            for panel, p in zip(panels, points, strict=True)
        ],
        "colors": colors,
        "roles": roles,
        "outline": outline,
        "corners": [[float(x), float(y), str(text)] for x, y, text in corners],
        "point_labels": point_labels if point_labels is None else [str(label) for label in point_labels],
        "view": view,
        "close": _close(everything, view),
    }


def mixed(weights: Any, ends: Any) -> np.ndarray:
    """Colours `[n 3]` of weights `[n k]`: the k colours `ends`, written #rrggbb, mixed as light is."""
    rgb = np.array([[int(end[i : i + 2], 16) / 255 for i in (1, 3, 5)] for end in ends])
    light = np.asarray(weights, float) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055), 0, 1)


def _points(panel: Any) -> np.ndarray:
    points = np.asarray(panel.points, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(f"The points of the panel {panel.label!r} have the shape {points.shape} instead of (n, 2).")
    if bad := int((~np.isfinite(points)).any(1).sum()):
        raise DataError(
            f"{bad} of the {len(points)} points of the panel {panel.label!r} are not finite; leave these strings out of "
            "every panel."
        )
    return points


def _weights(colors: Any, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Weights `[n k]` of the colours of k roles; one number per point becomes a ramp from pale to full.

    Several weights are stretched about their middle, 1/k each, until the farthest point has the full colour of an edge
    (at most fourfold): beliefs that never come near a corner are told apart all the same.
    """
    weights = np.asarray(colors, float)
    weights = weights[:, None] if weights.ndim == 1 else weights
    if weights.ndim != 2 or len(weights) != n or not 1 <= weights.shape[1] <= len(_ROLES):
        raise DataError(
            f"The colors of {n} points have the shape ({n}, k) with k at most {len(_ROLES)}, not {weights.shape}."
        )
    k = weights.shape[1]
    slack = 1e-3  # probabilities of a network in single precision, or of an estimate just outside the simplex
    inside = ((weights >= -slack) & (weights <= 1 + slack)).all(1)  # false for NaN
    if not (inside & ((k == 1) | (np.abs(weights.sum(1) - 1) <= slack))).all():
        raise DataError("The colors are numbers between 0 and 1, or weights that add up to one for each point.")
    if k == 1:
        full = _PALEST + (1 - _PALEST) * weights.clip(0, 1)
        return np.hstack([1 - full, full]), ("card", _ROLES[0])
    stretched = 1 / k + (weights - 1 / k) * min(_STRETCH, 1 / max(1 - k * weights.min(), 1e-9))
    return stretched.clip(0, 1).round(4), _ROLES[:k]


def _polygon(outline: Any) -> Any:
    if outline is None or (isinstance(outline, str) and outline == "disc"):
        return outline
    if isinstance(outline, str):
        raise ConfigurationError(f'An outline is a polygon [[x, y], …], "disc" or None, not {outline!r}.')
    polygon = np.asarray(outline, float)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 2 or not np.isfinite(polygon).all():
        raise ConfigurationError("An outline is a polygon of at least two corners [x, y], all of them finite.")
    return polygon


def _view(points: np.ndarray, outline: Any) -> np.ndarray:
    """Lowest and highest `[x, y]` that is shown: the outline, and all points but far outliers.

    Outliers lie beyond the central 98 % of the points of all panels by more than a quarter of its width, or farther
    outside the outline than half of its size.
    """
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    reach = (high - low) / 4
    low, high = np.maximum(points.min(0), low - reach), np.minimum(points.max(0), high + reach)
    if outline is not None:
        edges = np.array([[-1, -1], [1, 1]]) if isinstance(outline, str) else outline
        first, last = edges.min(0), edges.max(0)
        half = (last - first).max() / 2
        low, high = np.minimum(first, np.maximum(low, first - half)), np.maximum(last, np.minimum(high, last + half))
    return _widened(low, high)


def _close(points: np.ndarray, view: np.ndarray) -> np.ndarray | None:
    """The view without the room around the points in it; None if that would not make them much larger."""
    kept = points[_within(points, view)]
    close = _widened(kept.min(0), kept.max(0)) if len(kept) else view
    return close if np.ptp(close, axis=0).max() < 0.7 * np.ptp(view, axis=0).max() else None


def _widened(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points on a line, or on one place, still have a picture of some height and width."""
    side = (high - low).max() or 1.0
    lack = np.maximum(0.35 * side - (high - low), 0) / 2
    return np.stack([low - lack, high + lack])


def _within(points: np.ndarray, view: np.ndarray) -> np.ndarray:
    return ((points >= view[0]) & (points <= view[1])).all(1)


def _note(note: str, outside: int) -> str:
    count = f"{outside:,} point{'s' if outside > 1 else ''} outside" if outside else ""
    return "; ".join(filter(None, (note, count)))
