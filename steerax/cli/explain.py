"""`steerax explain`: which past tokens a prediction comes from."""

from typing import Annotated

import typer

from .kinds import DATA, loaded, tell


def explain(
    model: Annotated[str, typer.Argument(help="folder of a saved model")],
    data: Annotated[str, typer.Argument(help=DATA)],
    number: Annotated[int, typer.Option(help="which sequence, counted from 0")] = 0,
    query: Annotated[int, typer.Option(help="time of the prediction; -1 is the end")] = -1,
    token: Annotated[str | None, typer.Option(help="token predicted  [default: the likeliest]")] = None,
    top: Annotated[int, typer.Option(help="largest terms to show")] = 10,
    tokens: Annotated[str, typer.Option(help="token column of a table")] = "token",
    sequence: Annotated[str | None, typer.Option(help="column that names the sequence of each row")] = None,
    words: Annotated[bool, typer.Option("--words", help="read a .txt file as words, a sequence per line")] = False,
    on_impossible: Annotated[str, typer.Option(help="raise, or skip a token of probability zero")] = "raise",
    out: Annotated[str | None, typer.Option(help="CSV file for all terms")] = None,
    seed: Annotated[int, typer.Option(help="unused; every command takes it")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Split a prediction into a prior and one term per past token. Example: `steerax explain runs/text-hmm text.txt`."""
    options = dict(locals())
    found, module = loaded(model)
    tell(module.explain(found, data, options), json, out)
