"""Run experiments, in parallel if asked, keep what is already there, and write the gallery."""

import ast
import concurrent.futures
import dataclasses
import importlib
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from .. import __version__
from .._errors import CheckpointError, ConfigurationError, WorkerError
from ..report import static, words
from ..runs.executors import sweep
from ..runs.files import content_hash, read_json, write_whole
from ..runs.folder import Lock
from ..runs.json import plain
from . import ALONE, EXPERIMENTS, LONG, gallery


@dataclasses.dataclass(frozen=True)
class Job:
    """One experiment at one size with one seed; `stem` names its files."""

    name: str
    quick: bool
    seed: int
    stem: str = ""

    def settings(self) -> str:
        """A hash of code, configuration and version: runs that differ in nothing but their seed share it."""
        code = [path.read_text(encoding="utf-8") for path in (*sources(self.name), page_of(self.name))]
        return content_hash([code, dataclasses.asdict(configuration(self.name, self.quick)), __version__])

    def identity(self) -> str:
        """A hash of the settings and the seed: the same identity means the same result."""
        return content_hash([self.settings(), self.seed])


def experiment(name: str) -> Any:
    """The module of an experiment."""
    return importlib.import_module(f"steerax.experiments.{name.replace('-', '_')}.experiment")


def page_of(name: str) -> pathlib.Path:
    """The page of an experiment."""
    return pathlib.Path(experiment(name).__file__).with_name("page.md")


def sources(name: str) -> list[pathlib.Path]:
    """The file of an experiment and those of `steerax.experiments` that it imports, directly or not, sorted."""
    root = pathlib.Path(__file__).resolve().parent
    found, open_files = set(), [pathlib.Path(experiment(name).__file__).resolve()]
    while open_files:
        path = open_files.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                files = {base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)}
                open_files += [f for f in files - found if root in f.parents and f.exists()]
    return sorted(found)


def configuration(name: str, quick: bool) -> Any:
    """The configuration of an experiment, full or quick. **Raises:** `ConfigurationError` for an unknown name."""
    if name not in EXPERIMENTS:
        raise ConfigurationError(f"There is no experiment {name!r}; choose all or one of {', '.join(EXPERIMENTS)}.")
    return experiment(name).QUICK if quick else experiment(name).Config()


def perform(job: Job) -> dict[str, Any]:
    """Run one experiment in this process; the record that becomes `NAME.json`."""
    import jax

    jax.config.update("jax_enable_x64", True)  # a worker process is ours, like that of the command line
    config = configuration(job.name, job.quick)
    started, used = time.perf_counter(), time.process_time()
    found: words.Findings = experiment(job.name).run(config, job.seed)
    page = words.read(page_of(job.name), {**found.numbers, "config": config}, found.drawings)
    return {
        "name": job.name,
        "identity": job.identity(),
        "settings": job.settings(),
        "quick": job.quick,
        "seed": job.seed,
        "config": plain(dataclasses.asdict(config)),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "versions": {"steerax": __version__, "jax": jax.__version__},
        "title": page.title,
        "source": page.lead,
        "text": [text for section in page.sections for text in section.text],
        "claims": [dataclasses.asdict(claim) for claim in page.claims],
        "figures": [figure for section in page.sections for figure in section.figures],
        "numbers": plain(found.numbers),
    }


def reproduce(
    names: Sequence[str],
    out: pathlib.Path,
    quick: bool = False,
    seeds: Sequence[int] = (0,),
    executor: concurrent.futures.Executor | None = None,
    again: bool = False,
    tell: Callable[[dict[str, Any], bool], None] = lambda record, kept: None,
    formats: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Run the named experiments into `out/NAME.json` and write the gallery; a record per experiment and seed.

    The pages show the first seed; the others go into `out/NAME-seedN.json`, and the gallery says which verdicts differ.
    A result with the same code, configuration, seed and version is kept unless `again`. Each result is written as soon
    as it is there, so an interrupted run continues where it stopped.

    **Arguments:** `executor`, any `concurrent.futures.Executor` (by default the experiments run one after the other in
    this process; those that measure time wait for the others and run alone); `tell(record, kept)`, called after each;
    `formats`, of "svg", "pdf" and "png": every figure of the named experiments is also written into `out/figures`.

    **Raises:** `ConfigurationError` for an unknown name or format, or if a format needs matplotlib and it is missing;
    `WorkerError` if a worker died: what is finished is kept, and the same call goes on.
    """
    if formats:
        static.check(formats)
    lock = Lock(out)  # noqa: F841, held until the end
    jobs = [
        Job(name, quick, seed, name if seed == seeds[0] else f"{name}-seed{seed}") for seed in seeds for name in names
    ]
    records: dict[str, dict[str, Any]] = {}
    open_jobs = []
    for job in jobs:
        found = None if again else kept(out, job)
        if found is None:
            open_jobs.append(job)
        else:
            records[job.stem] = found
            tell(found, True)

    def take(job: Job, record: dict[str, Any]) -> None:
        write_whole(out / f"{job.stem}.json", json.dumps(record, allow_nan=False))
        records[job.stem] = record
        tell(record, False)

    if executor is None:
        for job in open_jobs:
            take(job, perform(job))
    else:
        place = {name: i for i, name in enumerate(LONG)}
        side_by_side = [job for job in open_jobs if job.name not in ALONE]
        side_by_side.sort(key=lambda job: place.get(job.name, len(place)))
        for together in (side_by_side, *([job] for job in open_jobs if job.name in ALONE)):
            _sweep(together, executor, take, out)
    gallery.write(out)
    for kind in formats:
        for name in names:
            static.export_all(records[name]["figures"], out / "figures", name, kind)
    return [records[job.stem] for job in jobs]


def _sweep(
    jobs: list[Job],
    executor: concurrent.futures.Executor,
    take: Callable[[Job, dict[str, Any]], None],
    out: pathlib.Path,
) -> None:
    """The jobs by the workers of an executor; each record is taken as soon as it is there."""
    try:
        sweep(perform, jobs, executor, lambda i, record: take(jobs[i], record))
    except WorkerError as error:
        raise WorkerError(error.finished, error.number, f"are in {out}, where the same call goes on") from error


def kept(out: pathlib.Path, job: Job) -> dict[str, Any] | None:
    """The record of an earlier run of the same job, or `None`."""
    try:
        record = read_json(out / f"{job.stem}.json")
    except CheckpointError:
        return None
    return record if record.get("identity") == job.identity() else None
