"""`steerax fit`: learn a model from sequences."""

from typing import Annotated

import typer

from .kinds import DATA, module_for, tell


def fit(
    data: Annotated[str, typer.Argument(help=DATA)],
    model: Annotated[str, typer.Option(help="kind of model: hmm (tokens) or linear (real numbers)")] = "hmm",
    states: Annotated[int, typer.Option(help="number of hidden states")] = 8,
    order: Annotated[int, typer.Option(help="how many past states the next one depends on")] = 1,
    restarts: Annotated[int, typer.Option(help="random starts; the best one is kept")] = 3,
    iterations: Annotated[int, typer.Option(help="largest number of iterations")] = 200,
    tolerance: Annotated[float, typer.Option(help="stop at a smaller gain, in nats per token")] = 1e-6,
    pseudocount: Annotated[float, typer.Option(help="added to every expected count; 0 is maximum likelihood")] = 0.1,
    tokens: Annotated[str, typer.Option(help="column of a table with the tokens, or with the numbers")] = "token",
    sequence: Annotated[str | None, typer.Option(help="column that names the sequence of each row")] = None,
    words: Annotated[bool, typer.Option("--words", help="read a .txt file as words, a sequence per line")] = False,
    cut: Annotated[int | None, typer.Option(help="cut sequences into pieces of at most this length")] = None,
    held_out: Annotated[float, typer.Option(help="share of the sequences kept to measure the model")] = 0.1,
    out: Annotated[str | None, typer.Option(help="folder for the model  [default: runs/DATA-MODEL]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a stopped fit of the same data and options (hmm)")
    ] = False,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Learn a model from sequences and save it. Example: `steerax fit text.txt --states 16 --cut 256`."""
    options = dict(locals())
    tell(module_for(model).fit(data, options), json, None)
