"""`steerax check CERTIFICATE`: check a certificate that `steerax solve` or `steerax classify` has written."""

import dataclasses
from pathlib import Path
from typing import Annotated

from .answers import Answer
from .options import Options, Seed, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    certificate: Annotated[Path, "folder of a certificate, or the folder that was given as --out"]
    _: dataclasses.KW_ONLY
    level: Annotated[str | None, "witness, full, or sample (class R1)  [default: full if quick]"] = None
    seed: Seed = 0


@command
def check(options: _Options) -> Answer:
    """Check a certificate without the search that found it. Example: `steerax check parity4`."""
    from .. import lifted
    from ..lifted.checks import read_certificate
    from ..runs.progress import Progress

    found = read_certificate(options.certificate)
    with Progress("complete check", total=1000, shown=not options.json) as bar:
        told = lambda done, states: bar.update(1000 * done // states, f"{done} of {states} states")
        checked = lifted.check(found, options.level, seed=options.seed, progress=told)
    record = {
        "about": found.about,
        "lower": found.lower,
        "upper": found.upper,
        "status": found.status,
        "level": checked.level,
        "statement": checked.statement,
    }
    lines = [found.about, f"status   {found.status}", f"checked  {checked.level}: {checked.statement}"]
    return Answer(record, "\n".join(lines))
