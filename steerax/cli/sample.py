"""`steerax sample`: continue a text, or tokens, with a trained GPT."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np

import steerax as sx

from .._bounds import COUNT, NOT_NEGATIVE, SEED
from .._errors import DataError
from ..runs.files import free_place, try_place, write_whole
from .answers import Answer
from .options import Checkpoint, Heads, Options, Overwrite, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    checkpoint: Checkpoint
    _: dataclasses.KW_ONLY
    prompt: Annotated[str, "text, or codes such as 3,1,4 for a model without a tokenizer"] = "\n"
    tokens: Annotated[int, "tokens to draw", COUNT] = 200
    temperature: Annotated[float, "0 takes the most likely token", NOT_NEGATIVE] = 0.8
    top_k: Annotated[int | None, "draw from this many most likely tokens  [default: all]", COUNT] = None
    samples: Annotated[int, "independent continuations", COUNT] = 1
    heads: Heads = None
    out: Annotated[Path | None, "file to write to instead of the terminal"] = None
    overwrite: Overwrite = False
    seed: Annotated[int, "seed of the draws", SEED] = 0


@command
def sample(options: _Options) -> Answer | None:
    """Draw continuations of a prompt from a GPT.

    Example: `steerax sample runs/pydoc/model --prompt "The import statement" --temperature 0.7`.
    """
    from ..transformer.checkpoint import open_checkpoint

    if options.out is not None:
        try_place(free_place(options.out, options.overwrite))
    checkpoint = open_checkpoint(options.checkpoint, options.heads)
    tokenizer, prompt = checkpoint.tokenizer, options.prompt
    drawn = sx.sample_tokens(
        checkpoint.gpt,
        tokenizer.encode(prompt) if tokenizer else _codes_of(prompt),
        options.tokens,
        options.seed,
        temperature=options.temperature,
        top_k=options.top_k,
        samples=options.samples,
    )
    texts = [prompt + tokenizer.decode(row.tolist()) if tokenizer else ",".join(map(str, row)) for row in drawn]
    answer = Answer({"prompt": prompt, "codes": drawn, "texts": texts}, "\n---\n".join(texts))
    if options.out is None:
        return answer
    write_whole(options.out, answer.shown(options.json) + "\n")
    return None


def _codes_of(prompt: str) -> np.ndarray:
    """Codes from `3,1,4`; a lone 0 if the prompt is only white space. **Raises:** `DataError` for anything else."""
    try:
        return np.asarray([int(code) for code in prompt.split(",")] if prompt.strip() else [0], np.int32)
    except (ValueError, OverflowError):
        raise DataError(f"The model has no tokenizer, so {prompt!r} must be codes such as 3,1,4.") from None
