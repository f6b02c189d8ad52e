"""The pages of the gallery, and its verdicts as Markdown, from the records in a folder."""

import pathlib
from typing import Any

from .. import __version__
from ..report import figures, page
from ..report.words import FAILS, HOLDS, OPEN
from ..runs.files import read_json, write_whole
from . import EXPERIMENTS

Record = dict[str, Any]


def write(out: pathlib.Path) -> None:
    """`out/index.html` with every verdict, a page per experiment, and `out/verdicts.md`."""
    records = [read_json(out / f"{name}.json") for name in EXPERIMENTS if (out / f"{name}.json").exists()]
    others = {record["name"]: other_seeds(out, record) for record in records}
    for record in records:
        write_page(out, record, others[record["name"]])
    write_index(out, records, others)
    write_whole(out / "verdicts.md", markdown(records, others))


def other_seeds(out: pathlib.Path, record: Record) -> list[Record]:
    """The records of the same experiment, code and size with other seeds, by seed."""
    found = [read_json(path) for path in out.glob(f"{record['name']}-seed*.json")]
    same = [r for r in found if r["settings"] == record["settings"] and r["seed"] != record["seed"]]
    return sorted(same, key=lambda r: r["seed"])


def verdict(claim: Record, quick: bool) -> str:
    """The verdict as it is shown: that of a quick run says so."""
    return claim["verdict"] + (" (quick run)" if quick else "")


def with_other_seeds(number: int, record: Record, others: list[Record]) -> str:
    """What other seeds say of one claim: "same", or their verdicts where they differ, or "not run"."""
    if not others:
        return "not run"
    ours = record["claims"][number]["verdict"]
    differing = [f"seed {r['seed']}: {v}" for r in others if (v := r["claims"][number]["verdict"]) != ours]
    return ", ".join(differing) or f"same ({', '.join(str(r['seed']) for r in others)})"


def write_index(out: pathlib.Path, records: list[Record], others: dict[str, list[Record]]) -> None:
    """The front page: claim, verdict, evidence."""
    claims = [(record, i, claim) for record in records for i, claim in enumerate(record["claims"])]
    rows = [
        [
            claim["text"],
            verdict(claim, record["quick"]),
            claim["evidence"],
            with_other_seeds(i, record, others[record["name"]]),
            record["name"],
        ]
        for record, i, claim in claims
    ]
    table = figures.table(
        "Claims",
        "Every verdict is computed from the numbers in the JSON file of its experiment, with the threshold shown.",
        ["claim", "verdict", "evidence", "other seeds", "experiment"],
        rows,
    )
    links = [(f"{r['name']}: {r['title']}", f"{r['name']}.html") for r in records]
    quick = [r["name"] for r in records if r["quick"]]
    page.write(
        out / "index.html",
        "What the papers claim and what was found",
        counted(records),
        [page.Section("Claims", [], [table]), page.Section("Experiments", [], [], links)],
        [("Version", __version__), ("Quick runs", ", ".join(quick) or "none")],
    )


def counted(records: list[Record]) -> str:
    """How many claims have which verdict."""
    found = [claim["verdict"] for record in records for claim in record["claims"]]
    return ", ".join(f"{found.count(kind)} {kind}" for kind in (HOLDS, FAILS, OPEN)) + "."


def markdown(records: list[Record], others: dict[str, list[Record]]) -> str:
    """Every claim with its verdict and the evidence, a table per experiment."""
    lines = ["# What the papers claim and what was found", "", counted(records)]
    for record in records:
        seconds, size = f"{record['seconds']:.0f} s", "quick" if record["quick"] else "full"
        lines += [
            "",
            f"## {record['name']}: {record['title']}",
            "",
            f"{record['source']}. Seed {record['seed']}, {size} size, {seconds}.",
        ]
        lines += ["", "| claim | verdict | evidence | other seeds |", "|---|---|---|---|"]
        for i, claim in enumerate(record["claims"]):
            cells = (
                claim["text"],
                claim["verdict"],
                claim["evidence"],
                with_other_seeds(i, record, others[record["name"]]),
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def write_page(out: pathlib.Path, record: Record, others: list[Record]) -> None:
    """The page of one experiment: verdicts, what was done and found, numbers, command, time."""
    claims = record["claims"]
    verdicts = figures.table(
        "What the paper says and what we found",
        "Verdicts are computed from the numbers, with the threshold shown.",
        ["claim", "made in", "verdict", "evidence", "other seeds"],
        [
            [c["text"], c["source"], verdict(c, record["quick"]), c["evidence"], with_other_seeds(i, record, others)]
            for i, c in enumerate(claims)
        ],
    )
    size = "quick" if record["quick"] else "full"
    command = f"steerax reproduce {record['name']} --seed {record['seed']}" + (" --quick" if record["quick"] else "")
    facts = [
        ("Command", command),
        ("Configuration", ", ".join(f"{k} {v}" for k, v in record["config"].items())),
        ("Time", f"{record['seconds']:.0f} s ({size} size)"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in record["versions"].items())),
        ("Numbers", f"{record['name']}.json"),
    ]
    sections = [
        page.Section("Verdicts", [], [verdicts]),
        page.Section("What was done", record["text"], record["figures"]),
        page.Section("", [], [], [("All experiments", "index.html")]),
    ]
    page.write(out / f"{record['name']}.html", record["title"], record["source"], sections, facts)
