"""The page on what a network believes: the words of `page.md`, its figures, one HTML file."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from ..report import figures
from ..report.figures import Line
from ..report.page import write as write_page
from ..report.words import Drawings, Page, read, table
from ..runs.files import free_place
from .record import Knowledge
from .simplex import picture

_NULLS = ("untrained", "shuffled", "last_token", "next_token")
_LAGS = 12


def page_of(knowledge: Knowledge, name: str) -> Page:
    """The words with their numbers and figures; what was not measured is left out."""
    return read(Path(__file__).with_name("page.md"), {"beliefs": knowledge, "name": name}, _drawings(knowledge))


def write_html(knowledge: Knowledge, path: str | os.PathLike, name: str, facts=(), *, overwrite: bool = False) -> None:
    """Write the page. **Raises:** `ConfigurationError` if there is something at `path` and `overwrite` is false."""
    free_place(path, overwrite)
    page = page_of(knowledge, name)
    write_page(path, page.title, page.lead, page.sections, facts)


def _drawings(k: Knowledge) -> Drawings:
    """Picture, probes, causal test, attention and verdict; what was not measured is left out."""
    if k.probed is None:
        return {}
    p = k.probed
    number = lambda x: "–" if not np.isfinite(x) else f"{x:z.3f}"
    rows = [[layer, f"{p.r2[i]:.4f} ± {p.r2_error[i]:.4f}", number(p.rmse[i]), number(p.scores["wiener"][i].r2), number(p.remainder[i]),
             *(number(p.nulls[name][i]) if name in p.nulls else "–" for name in _NULLS)] for i, layer in enumerate(p.layers)]  # fmt: skip
    drawn: Drawings = {
        "beliefs": lambda title, caption: picture(p, title=title) | {"caption": caption},
        "probes": table(rows),
    }
    if k.swapped is not None:
        s = k.swapped
        said = [["the belief of the other string", s.divergence[-1], s.divergence_error[-1]]]
        said += [[name, *value] for name, value in s.controls.items()] + [
            ["it reads the other string (floor)", *s.floor]
        ]
        drawn["swap"] = table([[name, f"{value:.5f} ± {error:.5f}"] for name, value, error in said])
    if k.attention is not None:
        r = k.attention
        drawn["verdict"] = table([[row.name, row.text, row.verdict] for row in r.verdict])
        if r.filter.outside is None:
            lags = np.arange(1, min(_LAGS, r.filter.length))
            size = lambda weights: np.sqrt((weights**2).sum((1, 2)))[lags]
            lines = [Line("network", lags, _scaled(size(r.coefficients)), "transformer"), Line("Wiener", lags, _scaled(size(r.filter.lags)), "dual"),
                     Line("eigenvalue", lags, np.abs(r.filter.eigenvalues[0]) ** (lags - 1.0), "baseline")]  # fmt: skip
            drawn["lags"] = partial(figures.lines, curves=lines, log_y=True)
    return drawn


def _scaled(values: np.ndarray) -> np.ndarray:
    return values / values[0] if values[0] > 0 else values
