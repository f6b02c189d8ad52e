"""A report is one file that needs nothing else, and its pictures answer to the reader."""

import json
import re

import numpy as np
import pytest
from browser import needs_browser, opened, overflow

from steerax.report import figures, page


def example_sections() -> list[page.Section]:
    lower = np.tril(np.arange(12.0).reshape(4, 3), -1)
    return [
        page.Section(
            "Predictions",
            ["Text with <b>markup</b> that must stay text."],
            [
                figures.dots("Dots", "c", "nats", [figures.Dot("a", 1.0, 0.1, "filter")], ("floor", 0.5)),
                figures.lines(
                    "Lines", "c", "x", "y", [figures.Line("a", [1, 2, 3], [1.0, 0.1, 0.0], "dual")], log_y=True
                ),
                figures.table("Table", "c", ["name", "value"], [["a", 1.5], ["b", 2]]),
            ],
        ),
        page.Section(
            "Window",
            [],
            [
                figures.profile(
                    "Profile",
                    "c",
                    "step",
                    [figures.Panel("p", "filter", {"one": lower})],
                    list("abc"),
                    "query",
                    [f"note {q}" for q in range(4)],
                ),
                figures.matrix("Matrix", "c", "x", "y", "v", {"one": lower, "two": -lower}, True, "query"),
            ],
        ),
    ]


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "page.html"
    page.write(path, "A <title>", "lead", example_sections(), [("command", "x")])
    return path


def test_numbers_survive_with_their_shape_and_non_finite_ones_become_null():
    spec = figures.matrix("t", "c", "x", "y", "v", {"m": np.array([[1.23456, np.nan], [np.inf, 0.0]])})
    assert spec["choices"]["m"] == [[1.23, None], [None, 0.0]]
    curve = figures.lines("t", "c", "x", "y", [figures.Line("a", [0, 1], [1e-300, 2.0], "dual")])
    assert curve["series"][0]["y"] == [1e-300, 2.0]
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve


def test_the_page_asks_for_nothing_outside_itself_and_escapes_text(example):
    text = example.read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?https?:", text)
    assert "&lt;b&gt;markup" in text
    assert "A &lt;title&gt;" in text
    assert "default-src 'none'" in text


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_in_a_browser_nothing_fails_and_a_query_changes_the_picture(example, width, scheme):
    with opened(example, width, scheme) as (tab, faults):
        assert tab.locator("svg").count() == 4
        assert overflow(tab) <= 1
        slider, bars = tab.locator("input[type=range]"), "document.querySelectorAll('rect > title').length"
        assert tab.evaluate(bars) == 3  # query 3, the last, sees three steps
        slider.fill("1")
        assert tab.locator("output").text_content() == "1"
        assert "note 1" in tab.locator(".note").last.text_content()
        assert tab.evaluate(bars) == 1
        tab.locator("rect.hit").click(position={"x": 10, "y": 3})  # the first row of the heat map
        assert tab.locator("output").text_content() == "0"
        before = tab.locator("image").get_attribute("href")
        tab.locator("select").last.select_option("two")
        assert tab.locator("image").get_attribute("href") != before
        assert not faults


def test_a_table_with_sentences_is_stacked_on_narrow_screens(tmp_path):
    short = figures.table("t", "c", ["a", "b"], [["x", 1]])
    long = figures.table("t", "c", ["claim", "b"], [["x" * 41, 1]])
    assert (short["stack"], long["stack"]) == (False, True)
    page.write(tmp_path / "page.html", "t", "l", [page.Section("s", [], [short, long])])
    text = (tmp_path / "page.html").read_text()
    assert text.count('class="stack"') == 1
    assert 'data-label="claim"' in text


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
def test_labels_that_do_not_fit_beside_the_curves_stand_below_them(tmp_path):
    names = ["a rather long name of the first curve", "another long name of the second"]
    curves = [
        figures.Line(name, [5], [1.0 + i], "dual") for i, name in enumerate(names)
    ]  # one point: an axis all the same
    path = tmp_path / "page.html"
    page.write(path, "t", "l", [page.Section("s", [], [figures.lines("f", "c", "x", "y", curves)])])
    with opened(path, 400, "light") as (tab, faults):
        shown = tab.locator("svg text").all_text_contents()
        assert set(names) <= set(shown)
        assert "NaN" not in tab.content()
        assert overflow(tab) <= 1
        assert not faults


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
def test_labels_of_an_axis_differ_where_its_values_do(tmp_path):
    curves = [figures.Line("a", [1, 2], [1.37456, 1.37489], "dual")]
    dots = [figures.Dot("a", 1.37456, 0.0, "dual"), figures.Dot("b", 1.37489, 0.0, "hmm")]
    path = tmp_path / "page.html"
    drawn = [figures.lines("f", "c", "x", "y", curves), figures.dots("g", "c", "x", dots)]
    page.write(path, "t", "l", [page.Section("s", [], drawn)])
    with opened(path, 1280, "light") as (tab, faults):
        for i in range(2):
            shown = tab.locator("svg").nth(i).locator("text.soft").all_text_contents()
            assert len(shown) > 2
            assert len(set(shown)) == len(shown)
        assert not faults
