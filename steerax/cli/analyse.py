"""`steerax analyse`: a trained GPT as a controlled flow in depth."""

import json as to_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerax._errors import CheckpointError, DataError

if TYPE_CHECKING:
    import numpy as np


def analyse(
    checkpoint: Annotated[Path, typer.Argument(help="a model folder or file that steerax can read")],
    data: Annotated[Path, typer.Option(help="a .txt file in the model's vocabulary, or codes in a .npy or .bin file")],
    out: Annotated[Path, typer.Option(help="report to write")] = Path("analyse.html"),
    windows: Annotated[int, typer.Option(help="sequences to analyse")] = 64,
    length: Annotated[int | None, typer.Option(help="tokens in a sequence  [default: all the model reads]")] = None,
    sample: Annotated[int, typer.Option(help="sequences for the parts that need many passes")] = 8,
    refinement: Annotated[str, typer.Option(help="lie_trotter, joint or sequential")] = "lie_trotter",
    heads: Annotated[int | None, typer.Option(help="heads, where the checkpoint does not say")] = None,
    telemetry: Annotated[Path | None, typer.Option(help="records of steerax.depth.measure.telemetry to show")] = None,
    memory: Annotated[
        str, typer.Option(help="recompute layers on the way back, or store what they need")
    ] = "recompute",
    seed: Annotated[int, typer.Option(help="seed of the windows and of the drawn labels")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Which layers still learn, which could go, where the loss gradient flows, and what another depth would do.

    Example: `steerax analyse runs/pydoc/model --data book.txt --out report.html`.
    """
    import jax

    from steerax.depth.analysis import analyse as analyse_gpt
    from steerax.depth.measure.telemetry import history
    from steerax.depth.report.html import write_html
    from steerax.transformer.checkpoint import load_gpt

    if telemetry is not None:
        history(telemetry)  # a wrong file shows before the work, not after it
    gpt = load_gpt(checkpoint, heads)
    codes = read_codes(data, checkpoint)
    chosen = disjoint_windows(codes, (length or gpt.config.block_size) + 1, windows, seed)
    if not json:
        typer.echo(
            f"{gpt.n_parameters:,} parameters; {len(chosen)} sequences of {chosen.shape[1]} tokens; about "
            f"{6 * gpt.n_parameters * chosen.size * 1e-9 * 2:,.0f} GFLOP"
        )
    key = jax.random.key(seed)
    choices: Any = {"refinement": refinement, "memory": memory}
    report = analyse_gpt(gpt, chosen, sample=sample, key=key, progress=not json, **choices)
    write_html(report, out, telemetry)
    if json:
        typer.echo(to_json.dumps(report.to_dict() | {"report": str(out)}))
    else:
        typer.echo(f"{report.summary()}\nReport: {out}")


def read_codes(data: Path, checkpoint: Path) -> "np.ndarray":
    """The tokens of a file as one row. Raises `DataError`, or `CheckpointError` if text needs a missing tokenizer."""
    from steerax.training.batches import open_tokens
    from steerax.transformer.tokenizer import load_tokenizer

    if data.suffix in (".npy", ".bin"):
        return open_tokens(data)
    try:
        text = data.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{data} cannot be read as text ({error}).") from None
    try:
        tokenizer: Any = load_tokenizer(checkpoint)
    except CheckpointError as error:
        raise DataError(f"{data} is text and the checkpoint has no tokenizer ({error}); give codes as .npy.") from None
    return tokenizer.encode(text)


def disjoint_windows(codes: "np.ndarray", length: int, number: int, seed: int) -> "np.ndarray":
    """`number` windows that do not overlap, int [B length], in random order. Raises `DataError` for too few tokens."""
    import numpy as np

    if codes.ndim == 2:
        rows = np.asarray(codes)
    elif codes.ndim == 1:
        n = len(codes) // length
        rows = np.asarray(codes[: n * length]).reshape(n, length)
    else:
        raise DataError(f"The codes have shape {codes.shape}; give one row, or rows [B T].")
    if len(rows) < 2:
        raise DataError(f"The data give {len(rows)} windows of {length} tokens and at least 2 are needed.")
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:number])].astype(np.int32)
