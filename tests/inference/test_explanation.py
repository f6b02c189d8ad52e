"""What an explanation offers beyond its arrays: sums over spans, names, a page that needs nothing else."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from browser import needs_browser, overflow

import steerax as sx

TEXT = "to be or not to be"
NAMED = sx.HiddenMarkovModel(
    *sx.models.random_hmm(jax.random.key(0), 3, 7).arrays, vocabulary=sx.Vocabulary(tuple(" benort"))
)
Z = NAMED.vocabulary.encode(list(TEXT))
LINEAR = sx.LinearGaussianModel([0.3], [[1.0]], [[0.8]], [[1.0], [0.5]], [[0.3]], np.eye(2), [0.5, 0.0])
SERIES = np.array([[1.0, 0.2], [np.nan, 0.1], [0.4, -1.0]])


def test_terms_of_words_are_sums_of_those_of_their_letters():
    e = sx.explain(NAMED, Z, [7, -1])
    words = e.grouped(str.isalpha)
    assert words.labels == ["to", " ", "be", " ", "or", " ", "not", " ", "to", " ", "be"]
    assert words.spans.tolist()[:3] == [[0, 2], [2, 3], [3, 5]]
    for (start, stop), weight in zip(words.spans, np.moveaxis(np.asarray(words.weights), 1, 0), strict=True):
        np.testing.assert_allclose(weight, np.asarray(e.weights)[:, start:stop].sum(1), atol=1e-16)
    np.testing.assert_allclose(words.prediction, e.prediction, atol=1e-15)
    np.testing.assert_allclose(words.norms, np.abs(words.weights).sum(-1), atol=1e-16)


@pytest.mark.slow
def test_spans_that_are_given_leave_the_rest_alone_and_sum_errors():
    e = sx.explain(NAMED, Z, method="shapley", orders=6)
    some = e.grouped([(13, 18), (2, 5)])
    assert some.spans.tolist() == [[0, 1], [1, 2], [2, 5], *[[i, i + 1] for i in range(5, 13)], [13, 18]]
    np.testing.assert_allclose(some.errors[:, 2], np.asarray(e.errors)[:, 2:5].sum(1))
    np.testing.assert_allclose(some.prediction, e.prediction, atol=1e-15)
    assert e.grouped([]).labels == e.labels
    series = sx.explain(LINEAR, SERIES)
    assert series.labels == ["(1, 0.2)", "(–, 0.1)", "(0.4, -1)"]
    assert series.grouped([(0, 2)]).labels == ["(1, 0.2) (–, 0.1)", "(0.4, -1)"]
    assert series.columns == ("channel 0", "channel 1")
    assert e.columns == tuple(" benort")


@pytest.mark.parametrize("spans", [[(0, 3), (2, 4)], [(4, 4)], [(5, 3)], [(-1, 2)], [(3, 19)]])
def test_spans_that_overlap_or_lie_outside_are_refused(spans):
    with pytest.raises(sx.ConfigurationError, match="overlaps another or leaves"):
        sx.explain(NAMED, Z, method="news").grouped(spans)


def test_what_has_no_weights_or_is_several_sequences_is_refused():
    norms, several = sx.explain_norms(NAMED, Z), sx.explain(NAMED, sx.Sequences.from_arrays([Z, Z]), method="news")
    for use in (lambda e: e.prediction, lambda e: e.grouped([]), lambda e: e.to_html()):
        with pytest.raises(sx.ConfigurationError, match="needs weights"):
            use(norms)
    with pytest.raises(sx.ConfigurationError, match="one sequence"):
        several.grouped([])
    with pytest.raises(sx.ConfigurationError, match="grouped already"):
        sx.explain(NAMED, Z, method="news").grouped([]).grouped([])
    assert norms._repr_html_() is None


@pytest.mark.parametrize(
    "spans",
    [5, None, "ab", ["ab"], [5], [(0,)], [(0, 1, 2)], [(0.5, 2)], [(0, "1")], [(None, 2)], [(0, np.nan)], {0: 1}],
)
def test_spans_that_are_no_pairs_of_whole_numbers_are_refused(spans):
    with pytest.raises(sx.ConfigurationError, match="pair"):
        sx.explain(NAMED, Z, method="news").grouped(spans)


def test_a_notebook_shows_the_text_where_a_page_would_be_too_large():
    e = sx.explain(NAMED, Z, method="news")
    large = dataclasses.replace(e, weights=jax.numpy.zeros((1, 1_000_001, 7)), norms=jax.numpy.zeros((1, 1_000_001)))
    with pytest.raises(sx.ConfigurationError, match="A page holds"):
        large.to_html()
    assert large._repr_html_() is None
    assert "Explanation" in repr(large)


def test_the_page_says_what_the_terms_of_each_room_are():
    E = sx.emissions.Gaussian([[0.0], [1.0]], [[[1.0]], [[1.0]]])
    numbers = sx.HiddenMarkovModel([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], E, channels=["load"])
    page = sx.explain(numbers, SERIES[:, 1]).to_html()
    assert "Integrated evidence" in page
    assert "The coefficient" not in page
    assert "load = " in page
    assert "in the units of the prediction" in page
    linear = sx.explain(LINEAR, SERIES)
    for e in (linear, linear.grouped([(0, 2)]), sx.explain(LINEAR, sx.Sequences.from_arrays([SERIES, SERIES]))):
        assert "The coefficient of each observation" in e.to_html()
    assert "Integrated evidence" in sx.explain(NAMED, Z, method="integrated").to_html()


def test_sampled_values_of_several_sequences_have_draws_of_their_own():
    asked = {"method": "shapley", "orders": 4}
    for model, data in ((NAMED, Z[:5]), (LINEAR, SERIES)):
        e = sx.explain(model, sx.Sequences.from_arrays([data, data]), **asked)
        assert np.abs(e.weights[0] - e.weights[1]).max() > 0
        again = sx.explain(model, sx.Sequences.from_arrays([data, data]), **asked)
        np.testing.assert_array_equal(again.weights, e.weights)


def figures_of(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1))


def test_the_page_holds_the_weights_their_sum_in_words_and_nothing_from_outside(tmp_path):
    e = sx.explain(NAMED, Z, [7, -1], method="deletion")
    page = e.to_html(tmp_path / "why.html")
    assert (tmp_path / "why.html").read_text(encoding="utf-8") == page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?https?:", page)
    assert not re.findall(r"\sstyle=", page.split("<script>")[0])  # which the policy would drop
    (figure,) = figures_of(page)
    assert "".join(figure["tokens"]) == TEXT
    likeliest = int(np.argmax(np.asarray(e.prediction)[-1]))
    assert next(iter(figure["choices"])) == " benort"[likeliest]
    shown = figure["choices"][" benort"[likeliest]]
    np.testing.assert_allclose(shown["weights"], np.asarray(e.weights)[..., likeliest], rtol=1e-3)
    assert figure["reach"] == [7, 18]
    assert "that none of them has alone" in shown["notes"][0]
    with pytest.raises(sx.ConfigurationError, match="exists already"):
        e.to_html(tmp_path / "why.html")
    assert "do not add up" in page
    assert e._repr_html_().startswith("<iframe")


def test_pages_of_several_sequences_of_series_and_of_too_much():
    several = sx.explain(NAMED, sx.Sequences.from_arrays([Z, Z[:5]]), method="news").to_html()
    assert ["".join(figure["tokens"]) for figure in figures_of(several)] == [TEXT, TEXT[:5]]
    (figure,) = figures_of(sx.explain(LINEAR, SERIES, contrast=(0, 1)).to_html())
    assert list(figure["choices"]) == ["channel 0 − channel 1"]
    assert figure["choices"]["channel 0 − channel 1"]["weights"][0][1] != 0
    zeros = np.zeros(1100, int)
    with pytest.raises(sx.ConfigurationError, match="ask for fewer queries"):
        sx.explain(NAMED, zeros, "all", method="news", contrast=(0, 1)).to_html()


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_in_a_browser_weights_are_read_by_pointing_and_by_keys(tmp_path, width, scheme):
    sync_api = pytest.importorskip("playwright.sync_api")
    from browser import CHROMIUM, FLAGS

    e = sx.explain(NAMED, Z, [7, -1], contrast=("b", "t"))
    e.to_html(tmp_path / "why.html")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab, faults = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto((tmp_path / "why.html").as_uri())
        pieces, said = tab.locator(".piece"), tab.locator(".weighed-foot output")
        pieces.first.wait_for()
        assert pieces.count() == 18
        assert overflow(tab) <= 1
        pieces.nth(17).hover()
        weight = float(e.weights[1, 17, 0])
        told = said.text_content()
        assert ("+" if weight > 0 else "−") + f"{abs(weight):.3g}" in told, (weight, told)
        pieces.first.focus()
        tab.keyboard.press("ArrowRight")
        assert said.text_content().startswith("position 1,")
        colour = "getComputedStyle(document.querySelectorAll('.piece')[17]).backgroundColor"
        last = tab.evaluate(colour)
        tab.locator("input[type=range]").fill("0")
        assert tab.evaluate(colour) != last  # the last token lies after the first query
        assert faults == []
        browser.close()
