"""A belief picture: one scale, one colour for a string in every panel, and a point that is found in all of them."""

import json

import numpy as np
import pytest
from browser import needs_browser, opened, overflow

from steerax._errors import ConfigurationError, DataError
from steerax.report import clouds, figures, page, static

TRIANGLE = np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])
CORNERS = [(*place, name) for place, name in zip(TRIANGLE.tolist(), "ABC", strict=True)]


def picture(n: int = 300, outside: int = 0, **options) -> dict:
    """Beliefs spread over the simplex, exact and disturbed, of which the first few lie far away."""
    rng = np.random.default_rng(0)
    beliefs = rng.dirichlet([1, 1, 1], n)
    exact = beliefs @ TRIANGLE
    disturbed = exact + 0.01 * rng.normal(size=exact.shape)
    disturbed[:outside] += 50
    panels = [figures.Cloud("exact", exact), figures.Cloud("network", disturbed, "R² = 0.9")]
    options = {"outline": TRIANGLE, "corners": CORNERS, "point_labels": [f"… {i}" for i in range(n)]} | options
    return figures.clouds("Beliefs", "What to see.", panels, beliefs, **options)


def test_the_data_are_plain_short_numbers_of_a_known_shape():
    figure = picture(outside=1)
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    assert [np.shape(panel["points"]) for panel in figure["panels"]] == [(300, 2)] * 2
    assert np.shape(figure["colors"]) == (300, 3)
    assert figure["roles"] == ["filter", "transformer", "dual"]
    assert figure["corners"] == [[float(f"{x:.4g}"), float(f"{y:.4g}"), name] for x, y, name in CORNERS]
    numbers = [v for panel in figure["panels"] for point in panel["points"] for v in point]
    assert all(v == float(f"{v:.4g}") for v in numbers)
    assert [panel["note"] for panel in figure["panels"]] == ["", "R² = 0.9; 1 point outside"]
    assert len(json.dumps(picture(4000, point_labels=None), separators=(",", ":"))) < 350_000


def test_the_scale_holds_the_outline_and_all_points_but_far_ones():
    low, high = np.array(picture(outside=3)["view"])
    assert (low <= TRIANGLE.min(0)).all()
    assert (high >= TRIANGLE.max(0) - 1e-4).all()
    assert (high - low < 1.3).all()
    assert picture(outside=3)["panels"][1]["note"].endswith("3 points outside")
    low, high = picture(outline="disc", corners=())["view"]
    assert (low, high) == ([-1, -1], [1, 1])
    # an outline does not shrink to a dot beside a panel that is far away as a whole
    low, high = np.array(picture(outside=300)["view"])
    assert (high - low <= 2.001).all()
    # points on one line, or on one place, have a picture all the same
    for points in ([[0, 1], [2, 1]], [[1, 1], [1, 1]]):
        low, high = np.array(figures.clouds("t", "c", [figures.Cloud("a", points)], [0, 1])["view"])
        assert (high > low).all()


def test_a_closer_view_is_offered_only_where_it_makes_the_points_much_larger():
    assert picture()["close"] is None
    middle = np.array([[0.45, 0.3], [0.55, 0.3], [0.5, 0.4]])
    panels = [figures.Cloud("a", middle), figures.Cloud("b", [[9, 9], *middle[1:]])]
    figure = figures.clouds("t", "c", panels, [0, 0.5, 1], TRIANGLE)
    assert figure["panels"][1]["note"] == "1 point outside"
    np.testing.assert_allclose(figure["close"], [middle.min(0), middle.max(0)])


def test_colours_are_the_corner_colours_mixed_as_light():
    ends = ["#0b62a8", "#c24a00"]
    mixed = clouds.mixed([[1, 0], [0, 1], [0.5, 0.5]], ends)
    exact = np.array([[0x0B, 0x62, 0xA8], [0xC2, 0x4A, 0x00]]) / 255
    np.testing.assert_allclose(mixed[:2], exact, atol=1e-4)
    assert (mixed[2] > exact.min(0)).all()
    assert (mixed[2] < exact.max(0)).all()
    np.testing.assert_allclose(mixed[2] ** 2.2, (exact**2.2).mean(0), atol=0.02)


def test_weights_are_stretched_about_their_middle_and_numbers_become_a_ramp():
    one = lambda colors: figures.clouds("t", "c", [figures.Cloud("a", np.zeros((len(colors), 2)))], colors)
    third = 1 / 3
    assert one([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])["colors"] == [[1, 0, 0], [0, 1, 0]]
    stretched = np.array(one([[0.6, 0.2, 0.2], [0.4, 0.4, 0.2], [third, third, third]])["colors"])
    np.testing.assert_allclose(stretched, [[1, 0, 0], [0.5, 0.5, 0], [third] * 3], atol=1e-4)
    assert one([[1, 0, 0], [0.5, 0.5, 0]])["colors"] == [[1, 0, 0], [0.5, 0.5, 0]]
    nearly = np.array(one([[0.34, 0.33, 0.33]])["colors"])  # noise does not become a colour
    assert np.ptp(nearly) < 0.05
    ramp = one([0, 0.5, 1])
    assert ramp["roles"] == ["card", "filter"]
    assert np.all(np.diff(np.array(ramp["colors"])[:, 1]) > 0.2)
    assert one([[0], [0.5], [1]])["colors"] == ramp["colors"]
    assert len(one(np.eye(6))["roles"]) == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"panels": [figures.Cloud("a", [[0, np.nan], [1, 1]])]}, "1 of the 2 points of the panel 'a' are not finite"),
        ({"panels": [figures.Cloud("a", [[0, 1, 2]])]}, r"shape \(1, 3\)"),
        ({"panels": [figures.Cloud("a", [[0, 1]]), figures.Cloud("b", [[0, 1], [1, 0]])]}, "same points"),
        ({"panels": []}, "same points"),
        ({"colors": [[0.5, np.nan], [1, 0]]}, "add up to one"),
        ({"colors": [[0.5, 0.4], [1, 0]]}, "add up to one"),
        ({"colors": [2.0, 0.0]}, "between 0 and 1"),
        ({"colors": np.full((2, 7), 1 / 7)}, "at most 6"),
        ({"colors": [1.0]}, "2 points"),
        ({"point_labels": ["one"]}, "2 points but 1 label"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_sentence(change, sentence):
    arguments = {"panels": [figures.Cloud("a", [[0, 0], [1, 1]])], "colors": [0, 1]} | change
    with pytest.raises(DataError, match=sentence):
        figures.clouds("t", "c", **arguments)


@pytest.mark.parametrize("outline", ["circle", [[0, 0]], [[0, 0, 0], [1, 1, 1]], [[0, np.inf], [1, 1]]])
def test_an_unknown_outline_is_refused(outline):
    with pytest.raises(ConfigurationError, match="outline"):
        picture(outline=outline)


def test_pages_without_belief_pictures_stay_as_small_as_they_were():
    table = figures.table("t", "c", ["a"], [[1]])
    assert "drawClouds" not in page.render("t", "l", [page.Section("s", [], [table])])
    assert "drawClouds" in page.render("t", "l", [page.Section("s", [], [picture()])])


def test_many_points_are_an_image_inside_svg_and_few_are_shapes(tmp_path):
    pytest.importorskip("matplotlib")
    for n, images in ((2000, 0), (2001, 2)):
        static.export(picture(n), tmp_path / "a.svg")
        text = (tmp_path / "a.svg").read_text()
        assert text.count("<image") == images
        assert all(f">{word}<" in text for word in ("exact", "network", "R² = 0.9", "A", "B", "C"))


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_in_a_browser_a_point_is_found_in_every_panel(tmp_path, width, scheme):
    path = tmp_path / "page.html"
    page.write(path, "t", "l", [page.Section("s", [], [picture(2000, 2)])])
    with opened(path, width, scheme) as (tab, faults):
        plots = tab.locator(".cloud-plot")
        boxes = [plots.nth(i).bounding_box() for i in range(2)]
        assert (boxes[0]["y"] == boxes[1]["y"]) == (width > 560)  # side by side, or one below the other
        assert boxes[0]["width"] == boxes[1]["width"]
        assert overflow(tab) <= 1
        assert "What to see." in plots.first.get_attribute("aria-label")
        assert "2 points outside" in tab.locator(".cloud-note").last.text_content()
        assert "2,000 points" in tab.locator(".cloud-foot").text_content()
        inked = "[...document.querySelectorAll('.cloud-plot canvas')].map(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 99).length)"
        assert min(tab.evaluate(inked)) > 2000
        said, rings = tab.locator("output"), tab.locator(".ring:visible")
        assert rings.count() == 0
        plots.first.hover()
        assert rings.count() == 2
        assert said.text_content().startswith("… ")
        assert said.text_content().endswith("exact")
        tab.mouse.move(0, 0)
        assert rings.count() == 0
        plots.last.focus()
        before = said.text_content()
        tab.keyboard.press("ArrowUp")
        assert said.text_content() != before
        assert "R² = 0.9; 2 points outside" in said.text_content()
        assert tab.locator(".found").last.text_content() == said.text_content().split(" · ")[0]
        tab.keyboard.press("Escape")
        assert rings.count() == 0
        assert not faults


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
def test_in_a_browser_the_points_come_closer(tmp_path):
    points = TRIANGLE.mean(0) + 0.1 * (TRIANGLE - TRIANGLE.mean(0))
    figure = figures.clouds("t", "c", [figures.Cloud("a", points)], np.eye(3), TRIANGLE, CORNERS)
    path = tmp_path / "page.html"
    page.write(path, "t", "l", [page.Section("s", [], [figure])])
    with opened(path, 1280, "dark") as (tab, faults):
        assert tab.locator(".swatch").count() == 3
        tab.locator("select").select_option("the points, closer")
        assert tab.locator(".swatch").count() == 0
        assert tab.locator("svg text").first.text_content() == "toward A"
        assert not faults
