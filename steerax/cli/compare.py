"""`steerax compare`: an exact filter, its dual filter and a trained GPT on the same sequences."""

import dataclasses
import json
from typing import Annotated

import typer

from ..experiments.compare.config import Config
from .options import Json, command


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Options of `steerax compare`."""

    _: dataclasses.KW_ONLY
    config: Config = Config()
    resume: Annotated[bool, "continue an interrupted comparison in the same folder"] = False
    overwrite: Annotated[bool, "discard an interrupted comparison in the folder"] = False
    report_only: Annotated[bool, "report on an interrupted comparison, trained only so far"] = False
    json: Json = False


@command
def compare(options: CompareOptions) -> None:
    """Set an exact filter, its dual filter and a trained GPT side by side, and write a report.

    Example: `steerax compare pydoc --states 16`.
    """
    from ..experiments.compare.run import Interrupted, run

    resume = options.resume or options.report_only
    try:
        result = run(options.config, resume=resume, overwrite=options.overwrite, train=not options.report_only)
    except Interrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(130) from None
    if options.json:
        typer.echo(json.dumps(result.numbers, indent=1, allow_nan=False))
    else:
        typer.echo(result.summary())
