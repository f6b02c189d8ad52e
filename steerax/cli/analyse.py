"""`steerax analyse`: a trained GPT as a controlled flow in depth."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from .._bounds import COUNT, SEED, Range
from .._errors import DataError
from .answers import Answer, say
from .inputs import CODES, read_codes
from .options import Checkpoint, Heads, Options, Overwrite, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    checkpoint: Checkpoint
    _: dataclasses.KW_ONLY
    data: Annotated[Path, "a .txt file in the model's vocabulary, or codes in a .npy or .bin file"]
    out: Annotated[Path, "report to write"] = Path("analyse.html")
    windows: Annotated[int, "sequences to analyse", Range(2, 10**9, whole=True)] = 64
    length: Annotated[int | None, "tokens in a sequence  [default: all the model reads]", COUNT] = None
    sample: Annotated[int, "sequences for the parts that need many passes", COUNT] = 8
    refinement: Annotated[str, "lie_trotter, joint or sequential"] = "lie_trotter"
    heads: Heads = None
    telemetry: Annotated[Path | None, "records of steerax.depth.measure.telemetry to show"] = None
    memory: Annotated[str, "recompute layers on the way back, or store what they need"] = "recompute"
    overwrite: Overwrite = False
    seed: Annotated[int, "seed of the windows and of the drawn labels", SEED] = 0


@command
def analyse(options: _Options) -> Answer:
    """Which layers still learn, which could go, where the loss gradient flows, and what another depth would do.

    Example: `steerax analyse runs/pydoc/model --data book.txt --out report.html`.
    """
    from ..depth.analysis import analyse as analyse_gpt
    from ..depth.measure.telemetry import history
    from ..depth.report.html import write_html
    from ..runs.files import free_place, try_place
    from ..transformer.checkpoint import open_checkpoint

    try_place(free_place(options.out, options.overwrite))
    if options.telemetry is not None:
        history(options.telemetry)  # a wrong file shows before the work, not after it
    checkpoint = open_checkpoint(options.checkpoint, options.heads)
    if options.data.suffix not in CODES and checkpoint.tokenizer is None:
        raise DataError(f"{options.data} is text and the checkpoint has no tokenizer; give codes as .npy.")
    codes, _ = read_codes(options.data, lambda text: checkpoint.tokenizer)
    gpt = checkpoint.gpt
    length = options.length or gpt.config.block_size
    windows = disjoint_windows(codes, length + 1, options.windows, options.seed)
    if not options.json:
        say(
            f"{gpt.n_parameters:,} parameters; {len(windows)} sequences of {windows.shape[1]} tokens; about "
            f"{6 * gpt.n_parameters * windows.size * 1e-9 * 2:,.0f} GFLOP"
        )
    choices: Any = {"refinement": options.refinement, "memory": options.memory}
    report = analyse_gpt(gpt, windows, sample=options.sample, key=options.seed, progress=not options.json, **choices)
    write_html(report, options.out, options.telemetry, overwrite=True)
    return Answer(report.to_dict() | {"report": str(options.out)}, f"{report.summary()}\nReport: {options.out}")


def disjoint_windows(codes: np.ndarray, length: int, number: int, seed: int) -> np.ndarray:
    """`number` windows that do not overlap, int `[B length]`, in random order of the data.

    **Raises:** `DataError` for too few tokens.
    """
    if codes.ndim not in (1, 2):
        raise DataError(f"The codes have shape {codes.shape}; give one row, or rows [B T].")
    n = len(codes) // length
    rows = np.asarray(codes if codes.ndim == 2 else codes[: n * length].reshape(n, length))
    if len(rows) < 2:
        raise DataError(f"The data give {len(rows)} windows of {length} tokens and at least 2 are needed.")
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:number])].astype(np.int32)
