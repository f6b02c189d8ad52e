"""Figures for a paper: every kind is drawn, says what it says, and comes out the same twice."""

import sys

import numpy as np
import pytest

from steerax._errors import ConfigurationError
from steerax.report import figures, static

LOWER = np.tril(np.arange(12.0).reshape(4, 3), -1)
EXAMPLES = {
    "lines": figures.lines(
        "Two curves",
        "c",
        "x",
        "y",
        [
            figures.Line("one", [1, 2, 3], [1.0, 0.1, 0.0], "dual", [0.5, 0.05, 0.0], [2.0, 0.2, 0.0]),
            figures.Line("two", [1, 2, 3], [1.1, 0.2, 0.1], "dual"),
        ],
        ("floor", 0.05),
        log_y=True,
    ),
    "dots": figures.dots(
        "Dots", "c", "nats", [figures.Dot("a", 1.0, 0.1, "filter"), figures.Dot("b", np.inf, None, "floor")], ("f", 0.5)
    ),
    "matrix": figures.matrix("Matrix", "c", "x", "y", "v", {"first": LOWER, "second": -LOWER}, True, None, list("abc")),
    "profile": figures.profile(
        "Profile",
        "c",
        "step",
        [figures.Panel("p", "filter", {"one": LOWER})],
        list("abc"),
        "q",
        ["n"] * 4,
        [True, False, False],
    ),
    "graph": figures.graph("Graph", "c", ["0", "1"], [[0.5, 0.5], [1, 0]], [True, False]),
    "clouds": figures.clouds(
        "Clouds",
        "c",
        [figures.Cloud("exact", [[0, 0], [1, 1]], "of two"), figures.Cloud("network", [[1, 0], [0, 1]])],
        [[0.2, 0.8], [1, 0]],
        "disc",
        [(1, 0, "north"), (-1, 0, "south")],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_kind_is_drawn_as_svg_pdf_and_png_and_is_the_same_twice(kind, tmp_path):
    pytest.importorskip("matplotlib")
    for suffix, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        for name in ("once", "again"):
            static.export(EXAMPLES[kind], tmp_path / f"{name}.{suffix}")
        once, again = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("once", "again"))
        assert once == again
        assert once.startswith(start)


def test_curves_are_labelled_and_coloured_as_on_the_page(tmp_path):
    pytest.importorskip("matplotlib")
    paths = static.export_all([EXAMPLES["lines"], figures.table("t", "c", ["a"], [[1]])], tmp_path, "stem", "svg")
    assert [p.name for p in paths] == ["stem-1-two-curves.svg"]
    text = paths[0].read_text()
    assert all(f">{label}<" in text for label in ("one", "two", "floor", "x", "y"))
    assert static.colours()["dual"] in text
    assert set(figures.ROLES) <= set(static.colours())


def test_labels_keep_their_distance(tmp_path):
    pytest.importorskip("matplotlib")
    drawn = static.draw_lines(EXAMPLES["lines"])
    heights = sorted(text.get_position()[1] for text in drawn.axes[0].texts)
    assert len(heights) == 3
    assert np.diff(heights).min() >= 0.065 - 1e-9


def test_without_matplotlib_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"steerax\[plot\]"):
        static.check(["svg"])
    with pytest.raises(ConfigurationError, match="matplotlib"):
        static.export(EXAMPLES["lines"], tmp_path / "a.svg")
    with pytest.raises(ConfigurationError, match="svg, pdf or png"):
        static.check(["jpg"])
    assert not list(tmp_path.iterdir())
