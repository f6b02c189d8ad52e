"""`steerax forecast`: the laws of the next observations."""

from typing import Annotated

import typer

from .kinds import DATA, loaded, tell


def forecast(
    model: Annotated[str, typer.Argument(help="folder of a saved model")],
    data: Annotated[str, typer.Argument(help=DATA)],
    steps: Annotated[int, typer.Option(help="how far to look ahead")] = 5,
    number: Annotated[int, typer.Option(help="which sequence, counted from 0")] = 0,
    coverage: Annotated[float, typer.Option(help="probability that the set shown at each step covers")] = 0.9,
    tokens: Annotated[str, typer.Option(help="token column of a table")] = "token",
    sequence: Annotated[str | None, typer.Option(help="column that names the sequence of each row")] = None,
    words: Annotated[bool, typer.Option("--words", help="read a .txt file as words, a sequence per line")] = False,
    on_impossible: Annotated[str, typer.Option(help="raise, or skip a token of probability zero")] = "raise",
    out: Annotated[str | None, typer.Option(help="CSV file for all probabilities")] = None,
    seed: Annotated[int, typer.Option(help="unused; every command takes it")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Forecast the next observations of a sequence. Example: `steerax forecast runs/text-hmm text.txt --steps 5`."""
    options = dict(locals())
    found, module = loaded(model)
    tell(module.forecast(found, data, options), json, out)
