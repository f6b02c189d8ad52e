"""`steerax solve TASK`: the best network of a finite class, with a proof."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._errors import ConfigurationError
from .options import Json, command

if TYPE_CHECKING:
    from ..lifted import LiftedSolution, Problem


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    """Options of `steerax solve`."""

    task: Annotated[str, "a task (parity, majority, palindrome, …) or a CSV file of sequences"]
    _: dataclasses.KW_ONLY
    n: Annotated[int, "bits of a task's strings"] = 4
    depth: Annotated[int, "layers of the network"] = 2
    time_limit: Annotated[float | None, "seconds; then the bounds reached are printed"] = None
    devices: Annotated[int | None, "threads  [default: all cores]"] = None
    label: Annotated[str, "column of the labels in a CSV file"] = "label"
    weight: Annotated[str | None, "column of integer weights in a CSV file"] = None
    check: Annotated[str, "how to check the certificate: witness, sample or full"] = "witness"
    seed: Annotated[int, "order among states with equal bounds"] = 0
    out: Annotated[Path | None, "folder for the certificate and the exported network"] = None
    json: Json = False


@command
def solve(options: SolveOptions) -> None:
    """Find the smallest error of any network of class R1 (ternary weights, hard attention), and prove it.

    Example: `steerax solve parity --n 4 --depth 2 --out parity4`.
    """
    from ..lifted import check
    from ..lifted.certificate.certificate import weights_to_dict

    problem = _problem(options)
    solution = _searched(problem, options)
    checked = check(solution.certificate, options.check)
    if options.out is not None:
        _write(options.out, problem, solution)
    record: dict[str, Any] = {
        "task": problem.name,
        "depth": options.depth,
        "value": solution.value,
        "of": problem.total,
        "lower": solution.lower,
        "upper": solution.upper,
        "status": solution.status,
        "check": {"level": checked.level, "statement": checked.statement},
        "network": weights_to_dict(solution.weights),
        **solution.statistics,
    }
    if options.json:
        typer.echo(json.dumps(record))
        return
    typer.echo(_shown(record))
    if options.out is not None:
        typer.echo(f"written  {options.out}/certificate, network.json, run_network.py, network.h, network.trits")


def _problem(options: SolveOptions) -> "Problem":
    """The task or the table. **Raises:** `ConfigurationError` for neither."""
    from ..lifted import read_table, tasks

    if options.task in tasks.TASKS:
        return tasks.TASKS[options.task](options.n)
    if Path(options.task).exists():
        return read_table(options.task, options.label, options.weight)
    raise ConfigurationError(f"{options.task!r} is neither a file nor a task; the tasks are {', '.join(tasks.TASKS)}.")


def _searched(problem: "Problem", options: SolveOptions) -> "LiftedSolution":
    """The search, with a bar that shows its bounds."""
    from ..lifted import solve as search
    from ..runs.progress import Progress

    with Progress(f"{problem.name}, depth {options.depth}", total=1000, shown=not options.json) as bar:
        return search(
            problem,
            options.depth,
            options.time_limit,
            devices=options.devices,
            seed=options.seed,
            progress=lambda r: bar.update(1000 * r.done // r.total, f"{r.lower} ≤ errors ≤ {r.upper}"),
        )


def _write(folder: Path, problem: "Problem", solution: "LiftedSolution") -> None:
    from ..lifted.certificate.export import weights_to_bytes, write_network
    from ..runs.files import write_whole

    solution.certificate.save(folder / "certificate")
    write_network(solution.network, folder)
    write_whole(folder / "network.trits", weights_to_bytes(problem.model, solution.weights))


def _shown(record: dict[str, Any]) -> str:
    """The record as text."""
    layers, readout = record["network"]["layers"], record["network"]["readout"]
    return "\n".join(
        [
            f"{record['task']}, depth {record['depth']}: {record['value']} of {record['of']} wrong ({record['status']})",
            f"bounds   {record['lower']} ≤ errors ≤ {record['upper']}",
            f"states   {record['states']} examined, {record['pairs']} last-layer matrices tried",
            f"time     {record['seconds']} s ({record['backend']})",
            *(f"layer {number}  B = {layer['B']}  V = {layer['V']}" for number, layer in enumerate(layers, start=1)),
            f"label 1  where {readout['w']} · x₀ {'<' if readout['flipped'] else '≥'} {readout['threshold']}",
            f"checked  {record['check']['level']}: {record['check']['statement']}",
        ]
    )
