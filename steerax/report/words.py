"""A page as data: `page.md` holds the words and the claims, a run the numbers and the figures that they name."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from . import figures
from .page import Section

HOLDS, FAILS, OPEN = "holds", "does not hold", "inconclusive"
_TRAINED = 0.05  # a network this far above its optimum, as a share, still counts as trained

Drawings = Mapping[str, Callable[..., dict]]  # name -> function of title, caption and labels that gives the figure


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an experiment found: `numbers`, everything behind the page, and `drawings`, its figures by name."""

    numbers: dict[str, Any]
    drawings: Drawings


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of a paper (or of this software) and what was measured.

    **Attributes:** `text`; `source`, where it is made; `verdict`, one of "holds", "does not hold", "inconclusive";
    `evidence`, one sentence with the numbers and the threshold that decided.
    """

    text: str
    source: str
    verdict: str
    evidence: str


@dataclasses.dataclass(frozen=True)
class Page:
    """The words of `page.md` with numbers filled in: `lead`, one sentence below the title, sections and claims."""

    title: str
    lead: str
    sections: list[Section]
    claims: list[Claim]


def table(rows: Sequence[Sequence[Any]]) -> Callable[..., dict]:
    """The drawing of a table, whose labels are the heads of its columns."""
    return lambda title, caption, *columns: figures.table(title, caption, columns, rows)


def read(path: pathlib.Path, names: Mapping[str, Any], drawings: Drawings) -> Page:
    """Fill in a page.

    The file is a Jinja template; an empty line ends a block. The first two blocks are the title and the lead. Then come

    * headings, `## heading`, and paragraphs;
    * figures, `![name] title | label | …` with the caption below, left out if nothing of that name was drawn;
    * claims, `- text` with the fields of `claim` below, one per line.

    **Arguments:** `names`, what the template may name. It may also write `x | percent(digits)`, `x | fmt(".3g")` and
    `n | count("seed")`.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=_without_breaks)
    environment.filters |= {"percent": _percent, "fmt": format, "count": _count}
    text = environment.from_string(path.read_text(encoding="utf-8")).render(names)
    title, lead, *blocks = re.split(r"\n\s*\n", text.strip())
    parts: list[tuple[str, list[str], list[dict]]] = [("", [], [])]
    claims = []
    for block in blocks:
        first, _, rest = block.strip().partition("\n")
        if first.startswith("## "):
            parts.append((first[3:], [], []))
        elif first.startswith("- "):
            claims.append(claim(block.strip()))
        elif first.startswith("!["):
            name, _, words = first[2:].partition("] ")
            heading, *labels = words.split(" | ")
            if name in drawings:
                parts[-1][2].append(drawings[name](heading, _one_line(rest), *labels))
        else:
            parts[-1][1].append(_one_line(block))
    sections = [Section(*part) for part in parts if any(part)]
    return Page(title.removeprefix("# "), _one_line(lead), sections, claims)


def claim(block: str) -> Claim:
    """A claim with the verdict that its numbers give.

    Its fields: `made in`, the source; `holds if`, `VALUE <= LIMIT` or `VALUE >= LIMIT` (a value that is not finite fails),
    or `not known`; `evidence`, the sentence with the numbers, to which the limit is added unless it ends with a full stop.
    Three fields turn a failure into "inconclusive": `undecided within`, a distance to the limit; `above the optimum`, the
    share by which the loss of the network is, if that is more than 5 %; `decided by`, `SPENT of NEEDED UNIT`, if the run
    spent less.
    """
    first, *lines = block.splitlines()
    said = dict(line.strip().split(": ", 1) for line in lines)
    verdict, asked = _comparison(said["holds if"], float(said.get("undecided within", 0)))
    evidence = said["evidence"]
    evidence = evidence if evidence.endswith(".") else f"{evidence} ({asked})."
    above = float(said.get("above the optimum", 0))
    if verdict == FAILS and above > _TRAINED:
        verdict = OPEN
        evidence += f" The network is still {_percent(above)} above the optimum, so this says little."
    if verdict == FAILS and "decided by" in said:
        spent, needed, unit = re.fullmatch(r"(\d+) of (\d+) (.+)", said["decided by"]).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if int(spent) < int(needed):
            verdict = OPEN
            evidence += f" This run had {int(spent):,} {unit}; fewer than {int(needed):,} do not refute it."
    return Claim(first.removeprefix("- "), said["made in"], verdict, evidence)


def _comparison(condition: str, margin: float) -> tuple[str, str]:
    """(verdict, what was asked for, in words)."""
    if condition == "not known":
        return OPEN, "not known"
    value, sign, limit = condition.split()
    x, bound = float(value), float(limit)
    beyond = x - bound if sign == "<=" else bound - x
    verdict = HOLDS if beyond <= 0 else OPEN if beyond <= margin else FAILS
    asked = f"asked: {'at most' if sign == '<=' else 'at least'} {bound:.3g}"
    return verdict if math.isfinite(x) else FAILS, asked


def _one_line(block: str) -> str:
    return " ".join(block.split())


def _without_breaks(value: Any) -> Any:
    """A text without line breaks, so that a value never starts a block; anything else as it is."""
    return " ".join(value.splitlines()) if isinstance(value, str) else value


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:z.{digits}f} %"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
