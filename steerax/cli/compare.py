"""`steerax compare`: an exact filter, its dual filter and a trained GPT on the same sequences."""

from typing import Annotated

import typer


def compare(
    source: Annotated[
        str, typer.Argument(help="two-cycle, casino, mess3, pydoc, or a file", show_default=True)
    ] = "two-cycle",
    out: Annotated[str | None, typer.Option(help="folder to write to  [default: compare/SOURCE]")] = None,
    states: Annotated[
        int | None, typer.Option(help="hidden states to learn; a named process keeps its own model")
    ] = None,
    restarts: Annotated[int, typer.Option(help="random starts of Baum-Welch")] = 3,
    iterations: Annotated[int, typer.Option(help="largest number of Baum-Welch steps per start")] = 200,
    length: Annotated[int, typer.Option(help="tokens in a window, and the block size of the GPT")] = 64,
    layers: Annotated[int | None, typer.Option(help="layers of the GPT")] = None,
    heads: Annotated[int | None, typer.Option(help="heads of the GPT")] = None,
    width: Annotated[int | None, typer.Option(help="embedding dimension of the GPT")] = None,
    steps: Annotated[int | None, typer.Option(help="training steps of the GPT")] = None,
    batch: Annotated[int, typer.Option(help="windows in a training step")] = 64,
    tokens: Annotated[str, typer.Option(help="token column of a .csv, .tsv or .parquet file")] = "token",
    sequence: Annotated[str | None, typer.Option(help="column that names the sequence of each row")] = None,
    words: Annotated[bool, typer.Option("--words", help="read a .txt file as words, a sequence per line")] = False,
    held_out: Annotated[float, typer.Option(help="share of the data kept for the comparison")] = 0.1,
    reference: Annotated[
        str | None, typer.Option(help="continuations for contributions: support, uniform or hmm  [default: by source]")
    ] = None,
    samples: Annotated[int, typer.Option(help="sampled continuations per step")] = 256,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="a fifth of the training steps")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue an interrupted comparison in the same folder")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="discard an interrupted comparison in the folder")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="report on an interrupted comparison as far as it was trained")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Set an exact filter, its dual filter and a trained GPT side by side, and write a report.

    Example: `steerax compare pydoc --states 16`.
    """
    options = {
        name: value for name, value in locals().items() if name not in ("resume", "overwrite", "report_only", "json")
    }
    from ..experiments.compare.config import Config

    config = Config(**options)
    from ..experiments.compare.pipeline import Interrupted, report_unfinished, run

    try:
        compared = report_unfinished(config) if report_only else run(config, resume, overwrite)
    except Interrupted as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(130) from None
    if json:
        import json as to_json

        typer.echo(to_json.dumps(compared.numbers, indent=1, allow_nan=False))
    else:
        typer.echo(compared.summary())
