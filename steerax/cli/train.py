"""`steerax train`: a GPT on a text or a token file."""

import json as to_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerax._errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import numpy as np

    from steerax.training.gradient import TrainingRun


def train(
    source: Annotated[str, typer.Argument(help="pydoc, a .txt file, or tokens in a .npy or .bin (uint16) file")],
    out: Annotated[Path, typer.Option(help="folder for the run and the model")] = Path("runs/train"),
    layers: Annotated[int, typer.Option(help="layers")] = 6,
    heads: Annotated[int, typer.Option(help="heads")] = 6,
    width: Annotated[int, typer.Option(help="embedding dimension, a multiple of the heads")] = 384,
    block: Annotated[int, typer.Option(help="longest input, in tokens")] = 256,
    dropout: Annotated[float, typer.Option(help="dropout rate")] = 0.0,
    bias: Annotated[bool, typer.Option(help="biases in linear maps and LayerNorms")] = True,
    steps: Annotated[int, typer.Option(help="training steps")] = 5000,
    batch: Annotated[int, typer.Option(help="windows in a step")] = 12,
    learning_rate: Annotated[float | None, typer.Option(help="peak rate  [default: by width]")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="parts a batch is taken in, to save memory", show_default="by cache")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16 arithmetic")] = "float32",
    tokenizer: Annotated[str, typer.Option(help="for text: char or bpe")] = "char",
    vocabulary: Annotated[int | None, typer.Option(help="number of tokens of bpe or of a token file")] = None,
    held_out: Annotated[float, typer.Option(help="share at the end of the data kept for evaluation")] = 0.1,
    every: Annotated[int, typer.Option(help="steps between evaluations")] = 250,
    patience: Annotated[int | None, typer.Option(help="evaluations without a new best before stopping")] = None,
    save_every: Annotated[int, typer.Option(help="steps between checkpoints")] = 250,
    data_parallel: Annotated[bool, typer.Option("--data-parallel", help="split batches over all devices")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in the folder")] = False,
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Train a GPT and keep its checkpoints, its log and the best model.

    Example: `steerax train pydoc --steps 500 --out runs/pydoc`, then `steerax sample runs/pydoc/model`.
    """
    import jax
    import numpy as np

    from steerax._results import RESULTS
    from steerax.data.baselines import baseline_scores
    from steerax.data.sequences import Sequences
    from steerax.training.gradient import train_gpt
    from steerax.transformer.checkpoint import save_gpt
    from steerax.transformer.gpt import GPT, GPTConfig

    if not 0 < held_out < 1:
        raise ConfigurationError(f"--held-out is {held_out}; it must lie between 0 and 1.")
    tokens, symbols, n_tokens = read(source, tokenizer, vocabulary)
    cut = int((1 - held_out) * len(tokens))
    training, evaluation = tokens[:cut], np.asarray(tokens[cut:], np.int32)
    config = GPTConfig(n_tokens, block, layers, heads, width, bias=bias, dropout=dropout)
    for_model, for_run = jax.random.split(jax.random.key(seed))
    gpt = GPT(config, key=for_model)
    # The bigram table has n_tokens² entries: a comparison for characters, not for large vocabularies.
    bigram = None
    if n_tokens <= 2048 and len(training) and len(evaluation) > 1:
        codes = [Sequences.from_arrays([np.asarray(part)]) for part in (training, evaluation)]
        bigram = baseline_scores(*codes, n_tokens)["bigram"].cross_entropy
    if not json:
        typer.echo(
            f"{gpt.n_parameters:,} parameters, {len(training):,} tokens to train on, {len(evaluation):,} held out"
        )
        if bigram is not None:
            typer.echo(f"bigram model: {bigram:.4f} nats per held-out token")

    def report(snapshot) -> None:
        if not json:
            typer.echo(f"step {snapshot.step}: training loss {snapshot.metrics['loss'].mean():.4f}")

    run = train_gpt(
        gpt,
        training,
        steps,
        for_run,
        batch_size=batch,
        learning_rate=learning_rate,
        accumulate=accumulate,
        precision=precision,
        held_out=evaluation,
        patience=patience,
        hooks=[report],
        every=every,
        run_folder=out / "run",
        resume=resume,
        save_every=save_every,
        devices=jax.devices() if data_parallel else None,
    )
    save_gpt(run.best_model, out / "model", symbols)
    if run.result == RESULTS.diverged:
        typer.echo("steerax: the loss is no longer finite; try a lower --learning-rate.", err=True)
        raise typer.Exit(1)
    more = {"parameters": gpt.n_parameters, "bigram_loss": bigram, "model": str(out / "model")}
    numbers = numbers_of(run, every) | more
    typer.echo(to_json.dumps(numbers, indent=1) if json else said(numbers))


def said(numbers: dict[str, Any]) -> str:
    """The result in one sentence."""
    best = numbers["held_out_loss"]
    held = "no evaluation" if best is None else f"{best:.4f} nats per held-out token at step {numbers['best_step']}"
    return f"{numbers['result']} after {numbers['steps']} steps: {held}; model in {numbers['model']}"


def numbers_of(run: "TrainingRun", every: int) -> dict[str, Any]:
    """What a run reached, as JSON values."""
    from steerax._results import RESULTS

    best = run.held_out[run.held_out[:, 1].argmin()] if len(run.held_out) else None
    return {
        "steps": run.step,
        "training_loss": float(run.losses[-every:].mean()) if run.losses.size else None,
        "held_out_loss": None if best is None else float(best[1]),
        "best_step": None if best is None else int(best[0]),
        "result": "interrupted" if run.result == RESULTS.interrupted else "stopped" if run.stopped else "finished",
    }


def read(source: str, tokenizer: str, vocabulary: int | None) -> "tuple[np.ndarray, Any, int]":
    """Tokens [N], what to keep as the model's vocabulary, and the number of tokens."""
    from steerax.training.batches import open_tokens
    from steerax.transformer.tokenizer import BPETokenizer, CharTokenizer

    if source.endswith((".npy", ".bin")):
        if vocabulary is None:
            raise ConfigurationError(f"{source} holds plain codes; say how many there are with --vocabulary.")
        return open_tokens(source), None, vocabulary
    text = read_text(source)
    if tokenizer == "char":
        found = CharTokenizer.of(text)
    elif tokenizer == "bpe":
        found = BPETokenizer.train([text], vocabulary or 1024)
    else:
        raise ConfigurationError(f"--tokenizer is {tokenizer!r}; choose char or bpe.")
    return found.encode(text), found.to_json(), found.n_tokens


def read_text(source: str) -> str:
    """The text of a file, or Python's own documentation for `pydoc`. Raises `DataError`."""
    if source == "pydoc":
        from steerax.data.corpora import pydoc_text

        return pydoc_text()
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as text ({error}).") from None
    if len(text) < 2:
        raise DataError(f"{source} holds {len(text)} characters; there is nothing to predict.")
    return text
