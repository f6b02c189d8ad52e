"""`steerax reproduce`: the papers' figures, tables and theorems, run again."""

import pathlib
from typing import Annotated

import typer


def reproduce(
    name: Annotated[str, typer.Argument(help="an experiment, or all")] = "all",
    out: Annotated[pathlib.Path, typer.Option(help="folder of the gallery")] = pathlib.Path("results"),
    quick: Annotated[bool, typer.Option("--quick", help="small sizes, minutes instead of an hour")] = False,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, help="how many seeds, from --seed on; the gallery says what differs")
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, help="experiments side by side")] = 1,
    formats: Annotated[
        list[str] | None, typer.Option("--figures", help="also write every figure as svg or pdf (may be repeated)")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="run also what is already there")] = False,
    json: Annotated[bool, typer.Option("--json", help="print the claims with their verdicts as JSON")] = False,
) -> None:
    """Run the experiments of the papers and write a gallery of verdicts, figures and numbers.

    Example: `steerax reproduce layers --quick`.
    """
    import concurrent.futures
    import json as to_json
    import multiprocessing

    from ..experiments.reproduce import EXPERIMENTS
    from ..experiments.reproduce.runner import configuration
    from ..experiments.reproduce.runner import reproduce as run

    names = list(EXPERIMENTS) if name == "all" else [name]
    configuration(names[0], quick)  # an unknown name is refused before anything starts

    def tell(record, kept: bool) -> None:
        verdicts = ", ".join(f"{claim['verdict']}" for claim in record["claims"])
        spent = "kept" if kept else f"{record['seconds']:.0f} s"
        typer.echo(f"{record['name']:<20} seed {record['seed']}, {spent}: {verdicts}", err=True)

    options = {"again": again, "tell": tell, "formats": formats or ()}

    if workers == 1:
        records = run(names, out, quick, range(seed, seed + seeds), **options)
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
            records = run(names, out, quick, range(seed, seed + seeds), executor, **options)
    if json:
        typer.echo(to_json.dumps([{k: r[k] for k in ("name", "seed", "claims")} for r in records], indent=1))
    else:
        typer.echo(f"gallery: {out / 'index.html'}")
