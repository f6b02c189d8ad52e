"""Run experiments, in parallel if asked, keep what is already there, and write the gallery."""

import concurrent.futures
import dataclasses
import importlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from ... import __version__
from ..._errors import CheckpointError, ConfigurationError
from ...report import figures, page
from ...runs.files import content_hash, read_json, write_whole
from . import EXPERIMENTS
from .outcome import FAILS, HOLDS, OPEN, Claim, Outcome


@dataclasses.dataclass(frozen=True)
class Job:
    """One experiment at one size with one seed."""

    name: str
    quick: bool
    seed: int

    def identity(self) -> str:
        """A hash of code, configuration, seed and version: the same identity means the same result."""
        code = pathlib.Path(str(importlib.import_module(EXPERIMENTS[self.name]).__file__)).read_text(encoding="utf-8")
        options = dataclasses.asdict(configuration(self.name, self.quick))
        return content_hash([code, self.seed, options, __version__])


def configuration(name: str, quick: bool) -> Any:
    """The configuration of an experiment, full or quick. **Raises:** `ConfigurationError` for an unknown name."""
    if name not in EXPERIMENTS:
        raise ConfigurationError(f"There is no experiment {name!r}; choose all or one of {', '.join(EXPERIMENTS)}.")
    module = importlib.import_module(EXPERIMENTS[name])
    return module.QUICK if quick else module.Config()


def perform(job: Job) -> dict[str, Any]:
    """Run one experiment in this process; the record that becomes `NAME.json`."""
    import jax

    jax.config.update("jax_enable_x64", True)  # a worker process is ours, like that of the command line
    module = importlib.import_module(EXPERIMENTS[job.name])
    config = configuration(job.name, job.quick)
    started = time.perf_counter()
    outcome: Outcome = module.run(config, job.seed)
    return {
        "name": job.name,
        "identity": job.identity(),
        "quick": job.quick,
        "seed": job.seed,
        "config": dataclasses.asdict(config),
        "seconds": time.perf_counter() - started,
        "versions": {"steerax": __version__, "jax": jax.__version__},
        **as_json(dataclasses.asdict(outcome)),
    }


def reproduce(
    names: Sequence[str],
    out: pathlib.Path,
    quick: bool = False,
    seed: int = 0,
    executor: concurrent.futures.Executor | None = None,
    again: bool = False,
    tell: Callable[[dict[str, Any], bool], None] = lambda record, kept: None,
) -> list[dict[str, Any]]:
    """Run the named experiments into `out/NAME.json` and write the gallery; a record per experiment.

    A result with the same configuration, seed and version is kept unless `again`. Each result is written as soon as it
    is there, so an interrupted run continues where it stopped.

    **Arguments:** `executor`, any `concurrent.futures.Executor` (by default the experiments run one after the other in
    this process); `tell(record, kept)`, called after each.
    """
    jobs = [Job(name, quick, seed) for name in names]
    records: dict[str, dict[str, Any]] = {}
    open_jobs = []
    for job in jobs:
        found = None if again else kept(out, job)
        if found is None:
            open_jobs.append(job)
        else:
            records[job.name] = found
            tell(found, True)

    def take(record: dict[str, Any]) -> None:
        write_whole(out / f"{record['name']}.json", json.dumps(record, allow_nan=False))
        records[record["name"]] = record
        tell(record, False)

    if executor is None:
        for job in open_jobs:
            take(perform(job))
    else:
        for future in concurrent.futures.as_completed([executor.submit(perform, job) for job in open_jobs]):
            take(future.result())
    write_gallery(out)
    return [records[job.name] for job in jobs]


def as_json(value: Any) -> Any:
    """`value` as JSON values: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def kept(out: pathlib.Path, job: Job) -> dict[str, Any] | None:
    """The record of an earlier run of the same job, or `None`."""
    try:
        record = read_json(out / f"{job.name}.json")
    except CheckpointError:
        return None
    return record if record.get("identity") == job.identity() else None


def write_gallery(out: pathlib.Path) -> None:
    """`out/index.html` with every verdict, and a page per experiment, from the records in `out`."""
    records = [read_json(out / f"{name}.json") for name in EXPERIMENTS if (out / f"{name}.json").exists()]
    for record in records:
        write_page(out, record)
    rows = [
        [
            claim["text"],
            claim["verdict"] + (" (quick run)" if record["quick"] else ""),
            claim["evidence"],
            record["name"],
        ]
        for record in records
        for claim in record["claims"]
    ]
    counts = {verdict: sum(row[1].startswith(verdict) for row in rows) for verdict in (HOLDS, FAILS, OPEN)}
    index = figures.table(
        "Claims",
        "Every verdict is computed from the numbers in the JSON file of its experiment, with the threshold shown.",
        ["claim", "verdict", "evidence", "experiment"],
        rows,
    )
    lead = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "."
    links = [
        page.Section("Experiments", [], [], [(f"{r['name']}: {r['title']}", f"{r['name']}.html") for r in records])
    ]
    quick = [r["name"] for r in records if r["quick"]]
    facts = [("Version", __version__), ("Quick runs", ", ".join(quick) or "none")]
    page.write(
        out / "index.html",
        "What the papers claim and what was found",
        lead,
        [page.Section("Claims", [], [index]), *links],
        facts,
    )


def write_page(out: pathlib.Path, record: dict[str, Any]) -> None:
    """The page of one experiment."""
    claims = [Claim(**claim) for claim in record["claims"]]
    verdicts = figures.table(
        "What the paper says and what we found",
        "Verdicts are computed from the numbers, with the threshold shown.",
        ["claim", "made in", "verdict", "evidence"],
        [[c.text, c.source, c.verdict, c.evidence] for c in claims],
    )
    size = "quick" if record["quick"] else "full"
    facts = [
        (
            "Command",
            f"steerax reproduce {record['name']} --seed {record['seed']}" + (" --quick" if record["quick"] else ""),
        ),
        ("Configuration", ", ".join(f"{k} {v}" for k, v in record["config"].items())),
        ("Time", f"{record['seconds']:.0f} s ({size} size)"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in record["versions"].items())),
    ]
    sections = [
        page.Section("Verdicts", [], [verdicts]),
        page.Section("What was done", record["text"], record["figures"]),
        page.Section("", [], [], [("All experiments", "index.html")]),
    ]
    page.write(out / f"{record['name']}.html", record["title"], record["source"], sections, facts)
