"""`steerax compare`: an exact filter, its dual filter and a trained GPT on the same sequences."""

import dataclasses
from typing import Annotated

import typer

from ..experiments.compare.config import Config
from .answers import Answer, say
from .options import Options, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    _: dataclasses.KW_ONLY
    resume: Annotated[bool, "continue an interrupted comparison in the same folder"] = False
    overwrite: Annotated[bool, "replace what is in the folder, finished or not"] = False
    report_only: Annotated[bool, "report on an interrupted comparison as it stands, without more training"] = False


@command
def compare(config: Config, options: _Options) -> Answer:
    """Set an exact filter, its dual filter and a trained GPT side by side, and write a report.

    Example: `steerax compare pydoc --states 16`.
    """
    from ..experiments.compare.pipeline import Interrupted, report_unfinished, run

    try:
        if options.report_only:
            compared = report_unfinished(config)
        else:
            compared = run(config, options.resume, options.overwrite)
    except Interrupted as stopped:
        say(str(stopped), err=True)
        raise typer.Exit(130) from None
    return Answer(compared.numbers, compared.summary())
