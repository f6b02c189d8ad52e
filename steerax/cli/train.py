"""`steerax train`: a GPT on a text or a token file."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._errors import ConfigurationError, DataError
from .options import Json, Seed, command

if TYPE_CHECKING:
    import numpy as np

    from ..training.gradient import TrainingRun


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of `steerax train`."""

    source: Annotated[str, "pydoc, a .txt file, or tokens in a .npy or .bin (uint16) file"]
    _: dataclasses.KW_ONLY
    out: Annotated[Path, "folder for the run and the model"] = Path("runs/train")
    layers: Annotated[int, "layers"] = 6
    heads: Annotated[int, "heads"] = 6
    width: Annotated[int, "embedding dimension, a multiple of the heads"] = 384
    block: Annotated[int, "longest input, in tokens"] = 256
    dropout: Annotated[float, "dropout rate"] = 0.0
    bias: Annotated[bool, "biases in linear maps and LayerNorms"] = True
    steps: Annotated[int, "training steps"] = 5000
    batch: Annotated[int, "windows in a step"] = 12
    learning_rate: Annotated[float | None, "peak rate  [default: by width]"] = None
    accumulate: Annotated[int | None, "parts a batch is taken in, to save memory  [default: by cache]"] = None
    precision: Annotated[str, "float32 or bfloat16 arithmetic"] = "float32"
    tokenizer: Annotated[str, "for text: char or bpe"] = "char"
    vocabulary: Annotated[int | None, "number of tokens of bpe or of a token file"] = None
    held_out: Annotated[float, "share at the end of the data kept for evaluation"] = 0.1
    every: Annotated[int, "steps between evaluations"] = 250
    patience: Annotated[int | None, "evaluations without a new best before stopping"] = None
    save_every: Annotated[int, "steps between checkpoints"] = 250
    data_parallel: Annotated[bool, "split batches over all devices"] = False
    resume: Annotated[bool, "continue the run in the folder"] = False
    seed: Seed = 0
    json: Json = False


@command
def train(options: TrainOptions) -> None:
    """Train a GPT and keep its checkpoints, its log and the best model.

    Example: `steerax train pydoc --steps 500 --out runs/pydoc`, then `steerax sample runs/pydoc/model`.
    """
    import jax
    import numpy as np

    from .._results import RESULTS
    from ..training.bigram import bigram_loss
    from ..transformer.checkpoint import save_gpt
    from ..transformer.gpt import GPT, GPTConfig

    if not 0 < options.held_out < 1:
        raise ConfigurationError(f"--held-out is {options.held_out}; it must lie between 0 and 1.")
    tokens, symbols, n_tokens = _read(options.source, options.tokenizer, options.vocabulary)
    cut = int((1 - options.held_out) * len(tokens))
    training, held_out = tokens[:cut], np.asarray(tokens[cut:], np.int32)
    o, (for_model, for_run) = options, jax.random.split(jax.random.key(options.seed))
    config = GPTConfig(n_tokens, o.block, o.layers, o.heads, o.width, bias=o.bias, dropout=o.dropout)
    gpt = GPT(config, key=for_model)
    # The bigram table has n_tokens² entries: a comparison for characters, not for large vocabularies.
    bigram = bigram_loss(np.asarray(training), held_out, n_tokens) if n_tokens <= 2048 else None
    if not options.json:
        typer.echo(f"{gpt.n_parameters:,} parameters, {len(training):,} tokens to train on, {len(held_out):,} held out")
        if bigram is not None:
            typer.echo(f"bigram model: {bigram:.4f} nats per held-out token")
    run = _trained(gpt, training, held_out, for_run, options)
    save_gpt(run.best_model, options.out / "model", symbols)
    if run.result == RESULTS.diverged:
        typer.echo("steerax: the loss is no longer finite; try a lower --learning-rate.", err=True)
        raise typer.Exit(1)
    more = {"parameters": gpt.n_parameters, "bigram_loss": bigram, "model": str(options.out / "model")}
    numbers = _numbers(run, options.every) | more
    typer.echo(json.dumps(numbers, indent=1) if options.json else _said(numbers))


def _trained(
    gpt: Any, training: "np.ndarray", held_out: "np.ndarray", key: Any, options: TrainOptions
) -> "TrainingRun":
    """The training run, which tells its loss at every evaluation."""
    import jax

    from ..training.gradient import train_gpt

    def report(snapshot: Any) -> None:
        if not options.json:
            typer.echo(f"step {snapshot.step}: training loss {snapshot.metrics['loss'].mean():.4f}")

    return train_gpt(
        gpt,
        training,
        options.steps,
        key,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
        accumulate=options.accumulate,
        precision=options.precision,
        held_out=held_out,
        patience=options.patience,
        hooks=[report],
        every=options.every,
        run_folder=options.out / "run",
        resume=options.resume,
        save_every=options.save_every,
        devices=jax.devices() if options.data_parallel else None,
    )


def _said(numbers: dict[str, Any]) -> str:
    """The result in one sentence."""
    best = numbers["held_out_loss"]
    held = "no evaluation" if best is None else f"{best:.4f} nats per held-out token at step {numbers['best_step']}"
    return f"{numbers['result']} after {numbers['steps']} steps: {held}; model in {numbers['model']}"


def _numbers(run: "TrainingRun", every: int) -> dict[str, Any]:
    """What a run reached, as JSON values."""
    from .._results import RESULTS

    best = run.held_out[run.held_out[:, 1].argmin()] if len(run.held_out) else None
    return {
        "steps": run.step,
        "training_loss": float(run.losses[-every:].mean()) if run.losses.size else None,
        "held_out_loss": None if best is None else float(best[1]),
        "best_step": None if best is None else int(best[0]),
        "result": "interrupted" if run.result == RESULTS.interrupted else "stopped" if run.stopped else "finished",
    }


def _read(source: str, tokenizer: str, vocabulary: int | None) -> "tuple[np.ndarray, Any, int]":
    """Tokens [N], what to keep as the model's vocabulary, and the number of tokens."""
    from ..training.batches import open_tokens
    from ..transformer.tokenizer import BPETokenizer, CharTokenizer

    if source.endswith((".npy", ".bin")):
        if vocabulary is None:
            raise ConfigurationError(f"{source} holds plain codes; say how many there are with --vocabulary.")
        return open_tokens(source), None, vocabulary
    text = _read_text(source)
    if tokenizer == "char":
        found = CharTokenizer.of(text)
    elif tokenizer == "bpe":
        found = BPETokenizer.train([text], vocabulary or 1024)
    else:
        raise ConfigurationError(f"--tokenizer is {tokenizer!r}; choose char or bpe.")
    return found.encode(text), found.to_json(), found.n_tokens


def _read_text(source: str) -> str:
    """The text of a file, or Python's own documentation for `pydoc`. **Raises:** `DataError` if there is none."""
    if source == "pydoc":
        from ..experiments.compare.sources import pydoc_text

        return pydoc_text()
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as text ({error}).") from None
    if len(text) < 2:
        raise DataError(f"{source} holds {len(text)} characters; there is nothing to predict.")
    return text
