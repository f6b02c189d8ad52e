"""`steerax solve TASK`: the best network of a finite class, with a proof."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def solve(
    task: Annotated[str, typer.Argument(help="A task (parity, majority, palindrome, ...) or a CSV file of sequences.")],
    n: Annotated[int, typer.Option("--n", help="Bits of a task's strings.")] = 4,
    depth: Annotated[int, typer.Option(help="Layers of the network.")] = 2,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; then the bounds reached are printed.")] = None,
    devices: Annotated[int | None, typer.Option(help="Threads (default: all cores).")] = None,
    label: Annotated[str, typer.Option(help="The CSV column of labels.")] = "label",
    weight: Annotated[str | None, typer.Option(help="The CSV column of integer weights.")] = None,
    check: Annotated[str, typer.Option(help="How to check the certificate: witness, sample, full.")] = "witness",
    seed: Annotated[int, typer.Option(help="Order among states with equal bounds.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the certificate and the exported network.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the smallest error of any network of class R1 (ternary weights, hard attention), and prove it.

    Example: `steerax solve parity --n 4 --depth 2 --out parity4`
    """
    from steerax._errors import ConfigurationError
    from steerax.lifted import check as check_certificate
    from steerax.lifted import read_table, tasks
    from steerax.lifted import solve as search
    from steerax.lifted.certificate.certificate import weights_to_dict
    from steerax.lifted.certificate.export import weights_to_bytes, write_network
    from steerax.runs.files import write_whole
    from steerax.runs.progress import Progress

    if task in tasks.TASKS:
        problem = tasks.TASKS[task](n)
    elif Path(task).exists():
        problem = read_table(task, label, weight)
    else:
        raise ConfigurationError(f"{task!r} is neither a file nor a task; the tasks are {', '.join(tasks.TASKS)}.")
    with Progress(f"{problem.name}, depth {depth}", total=1000, shown=not as_json) as bar:
        solution = search(
            problem,
            depth,
            time_limit,
            devices=devices,
            seed=seed,
            progress=lambda r: bar.update(1000 * r.done // r.total, f"{r.lower} ≤ errors ≤ {r.upper}"),
        )
    checked = check_certificate(solution.certificate, check)
    if out is not None:
        solution.certificate.save(out / "certificate")
        write_network(solution.network, out)
        write_whole(out / "network.trits", weights_to_bytes(problem.model, solution.weights))
    record: dict[str, Any] = {
        "task": problem.name,
        "depth": depth,
        "value": solution.value,
        "of": problem.total,
        "lower": solution.lower,
        "upper": solution.upper,
        "status": solution.status,
        "check": {"level": checked.level, "statement": checked.statement},
        "network": weights_to_dict(solution.weights),
        **solution.statistics,
    }
    if as_json:
        typer.echo(json.dumps(record))
        return
    show(record)
    if out is not None:
        typer.echo(f"written  {out}/certificate, network.json, run_network.py, network.h, network.trits")


def show(record: dict[str, Any]) -> None:
    """Print the findings as text."""
    typer.echo(
        f"{record['task']}, depth {record['depth']}: {record['value']} of {record['of']} wrong ({record['status']})"
    )
    typer.echo(f"bounds   {record['lower']} ≤ errors ≤ {record['upper']}")
    typer.echo(f"states   {record['states']} examined, {record['pairs']} last-layer matrices tried")
    typer.echo(f"time     {record['seconds']} s ({record['backend']})")
    for number, layer in enumerate(record["network"]["layers"], start=1):
        typer.echo(f"layer {number}  B = {layer['B']}  V = {layer['V']}")
    readout = record["network"]["readout"]
    sign = "<" if readout["flipped"] else "≥"
    typer.echo(f"label 1  where {readout['w']} · x₀ {sign} {readout['threshold']}")
    typer.echo(f"checked  {record['check']['level']}: {record['check']['statement']}")
