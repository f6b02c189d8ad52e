"""`steerax predict`: what comes next in each sequence, and how well a model predicted it so far."""

from typing import Annotated

import typer

from .kinds import DATA, loaded, tell


def predict(
    model: Annotated[str, typer.Argument(help="folder of a saved model")],
    data: Annotated[str, typer.Argument(help=DATA)],
    top: Annotated[int, typer.Option(help="likeliest tokens to show for each sequence")] = 3,
    tokens: Annotated[str, typer.Option(help="token column of a table")] = "token",
    sequence: Annotated[str | None, typer.Option(help="column that names the sequence of each row")] = None,
    words: Annotated[bool, typer.Option("--words", help="read a .txt file as words, a sequence per line")] = False,
    on_impossible: Annotated[str, typer.Option(help="raise, or skip a token of probability zero")] = "raise",
    out: Annotated[str | None, typer.Option(help="CSV file for all probabilities")] = None,
    seed: Annotated[int, typer.Option(help="unused; every command takes it")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Predict the next token of each sequence. Example: `steerax predict runs/text-hmm text.txt`."""
    options = dict(locals())
    found, module = loaded(model)
    tell(module.predict(found, data, options), json, out)
