"""`steerax reproduce`: the papers' figures, tables and theorems, run again."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from .._bounds import COUNT
from .answers import Answer, say
from .options import Options, Seed, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    name: Annotated[str, "an experiment, or all"] = "all"
    _: dataclasses.KW_ONLY
    out: Annotated[Path, "folder of the gallery"] = Path("results")
    quick: Annotated[bool, "small sizes, minutes instead of an hour"] = False
    seed: Seed = 0
    seeds: Annotated[int, "how many seeds, from --seed on; the gallery says what differs", COUNT] = 1
    workers: Annotated[int, "experiments side by side", COUNT] = 1
    formats: Annotated[
        list[str] | None, typer.Option("--figures", help="also as svg, pdf or png (may be repeated)")
    ] = None
    again: Annotated[bool, "run also what is already there"] = False


@command
def reproduce(options: _Options) -> Answer:
    """Run the experiments of the papers and write a gallery of verdicts, figures and numbers.

    Example: `steerax reproduce layers --quick`.
    """
    import concurrent.futures
    import contextlib
    import multiprocessing

    from ..experiments import EXPERIMENTS
    from ..experiments.runner import configuration
    from ..experiments.runner import reproduce as run
    from ..runs.files import try_place

    names = list(EXPERIMENTS) if options.name == "all" else [options.name]
    try_place(options.out, folder=True)
    configuration(names[0], options.quick)  # an unknown name is refused before anything starts
    workers: Any = contextlib.nullcontext()
    if options.workers > 1:
        context = multiprocessing.get_context("spawn")
        workers = concurrent.futures.ProcessPoolExecutor(options.workers, mp_context=context)
    with workers as executor:
        records = run(
            names,
            options.out,
            options.quick,
            range(options.seed, options.seed + options.seeds),
            executor,
            again=options.again,
            tell=_tell,
            formats=options.formats or (),
        )
    claims = [{key: record[key] for key in ("name", "seed", "claims")} for record in records]
    return Answer(claims, f"gallery: {options.out / 'index.html'}")


def _tell(record: dict[str, Any], kept: bool) -> None:
    """One line about a finished experiment."""
    verdicts = ", ".join(f"{claim['verdict']}" for claim in record["claims"])
    spent = "kept" if kept else f"{record['seconds']:.0f} s"
    say(f"{record['name']:<20} seed {record['seed']}, {spent}: {verdicts}", err=True)
