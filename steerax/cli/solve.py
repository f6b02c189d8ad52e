"""`steerax solve TASK`: the best network of a finite class, with a proof."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from .._bounds import COUNT, POSITIVE, SEED
from .._errors import ConfigurationError
from .answers import Answer
from .options import Options, Overwrite, check_place, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    task: Annotated[str, "a task (parity, majority, palindrome, …) or a CSV file of sequences"]
    _: dataclasses.KW_ONLY
    n: Annotated[int, "bits of a task's strings", COUNT] = 4
    depth: Annotated[int, "layers of the network", COUNT] = 2
    time_limit: Annotated[float | None, "seconds; then the bounds reached are printed", POSITIVE] = None
    devices: Annotated[int | None, "threads  [default: all cores]", COUNT] = None
    label: Annotated[str, "column of the labels in a CSV file"] = "label"
    weight: Annotated[str | None, "column of integer weights in a CSV file"] = None
    check: Annotated[str | None, "how to check the certificate: witness, sample or full  [default: full if quick]"] = (
        None
    )
    seed: Annotated[int, "order among states with equal bounds", SEED] = 0
    out: Annotated[Path | None, "folder for the certificate and the exported network"] = None
    overwrite: Overwrite = False


@command
def solve(options: _Options) -> Answer:
    """Find the smallest error of any network of class R1 (ternary weights, hard attention), and prove it.

    Example: `steerax solve parity --n 4 --depth 2 --out parity4`.
    """
    from .. import lifted
    from ..lifted.certificate.certificate import weights_to_dict
    from ..runs.folder import Lock, discard
    from ..runs.progress import Progress

    tasks, out = lifted.tasks.TASKS, options.out
    if out is not None:
        check_place(out, options.overwrite, _FILES)
    if options.task in tasks:
        problem = tasks[options.task](options.n)
    elif Path(options.task).exists():
        problem = lifted.read_table(options.task, options.label, options.weight)
    else:
        raise ConfigurationError(f"{options.task!r} is neither a file nor a task; the tasks are {', '.join(tasks)}.")
    lock = None if out is None else Lock(Path(f"{out}.unfinished"))
    with Progress(f"{problem.name}, depth {options.depth}", total=1000, shown=not options.json) as bar:
        solution = lifted.solve(
            problem,
            options.depth,
            options.time_limit,
            devices=options.devices,
            seed=options.seed,
            progress=lambda r: bar.update(1000 * r.done // r.total, f"{r.lower} ≤ errors ≤ {r.upper}"),
        )
    with Progress("complete check", total=1000, shown=not options.json) as bar:
        told = lambda done, states: bar.update(1000 * done // states, f"{done} of {states} states")
        checked = lifted.check(solution, options.check, progress=told)
    if out is not None:
        _write(solution, out)
        del lock
        discard(Path(f"{out}.unfinished"))
    record = {
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
    files = f"\nwritten  {out}/{', '.join(_FILES)}"
    return Answer(record, _text(record) + (files if out is not None else ""))


_FILES = ("certificate", "network.json", "run_network.py", "network.h", "network.trits")


def _write(solution: Any, out: Path) -> None:
    """The certificate and the exported network, all or nothing."""
    from ..lifted.certificate.export import weights_to_bytes, write_network
    from ..runs.files import write_folder, write_whole

    def fill(beside: Path) -> None:
        solution.save(beside / "certificate")
        write_network(solution.network, beside)
        write_whole(beside / "network.trits", weights_to_bytes(solution.problem.model, solution.weights))

    write_folder(out, fill)


def _text(record: dict[str, Any]) -> str:
    layers, readout, check = record["network"]["layers"], record["network"]["readout"], record["check"]
    lines = [
        f"{record['task']}, depth {record['depth']}: {record['value']} of {record['of']} wrong ({record['status']})",
        f"bounds   {record['lower']} ≤ errors ≤ {record['upper']}",
        f"states   {record['states']} examined, {record['pairs']} last-layer matrices tried",
        f"time     {record['seconds']} s ({record['backend']})",
        *(f"layer {number}  B = {layer['B']}  V = {layer['V']}" for number, layer in enumerate(layers, start=1)),
        f"label 1  where {readout['w']} · x₀ {'<' if readout['flipped'] else '≥'} {readout['threshold']}",
        f"checked  {check['level']}: {check['statement']}",
    ]
    return "\n".join(lines)
