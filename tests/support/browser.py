"""A page in a real browser: what it asks for, what it complains about, how it answers."""

import contextlib
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextlib.contextmanager
def opened(path, width: int, scheme: str):
    """(tab, faults) of a local page; faults are console messages, script errors and requests that leave the page."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        faults: list[str] = []
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        tab.goto(path.as_uri())
        tab.locator("[data-figure] > *").first.wait_for()  # drawn
        yield tab, faults
        browser.close()


def overflow(tab) -> int:
    """By how many pixels the content is wider than the window."""
    return tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
