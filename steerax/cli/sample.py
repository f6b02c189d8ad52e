"""`steerax sample`: continue a text, or tokens, with a trained GPT."""

import json as to_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerax._errors import CheckpointError, DataError

if TYPE_CHECKING:
    import numpy as np


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="a model folder or file that steerax can read")],
    prompt: Annotated[str, typer.Option(help="text, or codes such as 3,1,4 for a model without a tokenizer")] = "\n",
    tokens: Annotated[int, typer.Option(help="tokens to draw")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="draw from this many most likely tokens  [default: all]")] = None,
    samples: Annotated[int, typer.Option(help="independent continuations")] = 1,
    heads: Annotated[int | None, typer.Option(help="heads, where the checkpoint does not say")] = None,
    out: Annotated[Path | None, typer.Option(help="file to write to instead of the terminal")] = None,
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print prompt, codes and text as JSON")] = False,
) -> None:
    """Draw continuations of a prompt from a GPT.

    Example: `steerax sample runs/pydoc/model --prompt "The import statement" --temperature 0.7`.
    """
    import jax

    from steerax.runs.files import write_whole
    from steerax.transformer.checkpoint import load_gpt
    from steerax.transformer.sample import sample_tokens
    from steerax.transformer.tokenizer import load_tokenizer

    gpt = load_gpt(checkpoint, heads)
    try:
        tokenizer = load_tokenizer(checkpoint)
    except CheckpointError:
        tokenizer = None
    codes = tokenizer.encode(prompt) if tokenizer else read_codes(prompt)
    drawn = sample_tokens(
        gpt, codes, tokens, jax.random.key(seed), temperature=temperature, top_k=top_k, samples=samples
    )
    texts = [prompt + tokenizer.decode(row.tolist()) if tokenizer else ",".join(map(str, row)) for row in drawn]
    if json:
        shown = to_json.dumps({"prompt": prompt, "codes": drawn.tolist(), "texts": texts}, indent=1)
    else:
        shown = "\n---\n".join(texts)
    if out is None:
        typer.echo(shown)
    else:
        write_whole(out, shown + "\n")


def read_codes(prompt: str) -> "np.ndarray":
    """Codes from `3,1,4`; a lone 0 if the prompt is only white space. Raises `DataError`."""
    import numpy as np

    try:
        return np.asarray([int(code) for code in prompt.split(",")] if prompt.strip() else [0], np.int32)
    except (ValueError, OverflowError):
        raise DataError(
            f"The model has no tokenizer and {prompt!r} is no list of codes such as 3,1,4; give codes."
        ) from None
