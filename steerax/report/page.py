"""One self-contained HTML file that works without a network and under a strict content-security policy."""

import base64
import dataclasses
import hashlib
import importlib.resources
import json
import os
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from ..runs.files import write_whole

_OWN_ASSETS = {"clouds", "text", "tree"}  # kinds of figures whose style and script only their pages hold


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page: a heading, paragraphs of plain text, figures (see `steerax.report.figures`), and (text, target)
    links to pages beside it."""

    heading: str
    text: Sequence[str] = ()
    figures: Sequence[dict] = ()
    links: Sequence[tuple[str, str]] = ()


def render(title: str, lead: str, sections: Sequence[Section], facts: Sequence[tuple[str, Any]] = ()) -> str:
    """The HTML text of a page.

    **Arguments:** `title`; `lead`, the answer in one or two sentences; `sections`; `facts`, (name, value) pairs for
    the foot of the page: command, versions, time.
    """
    style, script = asset("page.css"), asset("page.js")
    drawn = [figure for section in sections for figure in section.figures if figure["kind"] != "table"]
    for kind in sorted({figure["kind"] for figure in drawn} & _OWN_ASSETS):
        style, script = style + asset(f"{kind}.css"), script + asset(f"{kind}.js")
    numbers = iter(range(len(drawn)))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset("page.html")).render(
        title=title,
        lead=lead,
        sections=sections,
        facts=facts,
        number=lambda: next(numbers),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=markupsafe.Markup(json.dumps(drawn, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
    )


def write(path: str | os.PathLike, title: str, lead: str, sections: Sequence[Section], facts=()) -> None:
    """Write the page to `path`, whole or not at all."""
    write_whole(path, render(title, lead, sections, facts))


def asset(name: str) -> str:
    """The text of a file that belongs to the page."""
    return importlib.resources.files("steerax.report").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression that allows exactly this inline text in a content-security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
