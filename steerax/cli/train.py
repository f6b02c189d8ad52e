"""`steerax train`: a GPT on a text or a token file."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import steerax as sx

from .._bounds import COUNT, POSITIVE, SHARE, Range
from .._errors import ConfigurationError, DataError
from ..runs.files import free_place, try_place
from ..runs.folder import discard
from .answers import Answer, say
from .inputs import CODES, read_codes
from .options import Options, Overwrite, Seed, command


@dataclasses.dataclass(frozen=True)
class _Options(Options):
    source: Annotated[str, "pydoc, a .txt file, or tokens in a .npy or .bin (uint16) file"]
    _: dataclasses.KW_ONLY
    out: Annotated[Path, "folder for the run and the model"] = Path("runs/train")
    layers: Annotated[int, "layers", COUNT] = 6
    heads: Annotated[int, "heads", COUNT] = 6
    width: Annotated[int, "embedding dimension, a multiple of the heads", COUNT] = 384
    block: Annotated[int, "longest input, in tokens", COUNT] = 256
    dropout: Annotated[float, "dropout rate", Range(0, 1)] = 0.0
    bias: Annotated[bool, "biases in linear maps and LayerNorms"] = True
    steps: Annotated[int, "training steps", COUNT] = 5000
    batch: Annotated[int, "windows in a step", COUNT] = 12
    learning_rate: Annotated[float | None, "peak rate  [default: by width]", POSITIVE] = None
    accumulate: Annotated[int | None, "parts a batch is taken in, to save memory  [default: by cache]", COUNT] = None
    precision: Annotated[str, "float32 or bfloat16 arithmetic"] = "float32"
    tokenizer: Annotated[str, "for text: char or bpe"] = "char"
    vocabulary: Annotated[int | None, "number of tokens of bpe or of a token file", COUNT] = None
    held_out: Annotated[float, "share at the end of the data kept for evaluation", SHARE] = 0.1
    every: Annotated[int, "steps between evaluations", COUNT] = 250
    patience: Annotated[int | None, "evaluations without a new best before stopping", COUNT] = None
    save_every: Annotated[int, "steps between checkpoints", COUNT] = 250
    data_parallel: Annotated[bool, "split batches over all devices"] = False
    resume: Annotated[bool, "continue the run in the folder"] = False
    overwrite: Overwrite = False
    seed: Seed = 0


@command
def train(options: _Options) -> Answer:
    """Train a GPT and keep its checkpoints, its log and the best model.

    Example: `steerax train pydoc --steps 500 --out runs/pydoc`, then `steerax sample runs/pydoc/model`.
    """
    import jax

    from ..data.baselines import baseline_scores

    o = options
    if Path(o.source).suffix in CODES and o.vocabulary is None:
        raise ConfigurationError(f"{o.source} holds plain codes; say how many there are with --vocabulary.")
    try_place(o.out, folder=True)
    free_place(o.out / "model", o.overwrite or o.resume)
    tokens, tokenizer, n_tokens = _tokens(o)
    cut = int((1 - o.held_out) * len(tokens))
    training, held_out = tokens[:cut], np.asarray(tokens[cut:], np.int32)
    config = sx.GPTConfig(n_tokens, o.block, o.layers, o.heads, o.width, bias=o.bias, dropout=o.dropout)
    for_model, for_run = jax.random.split(jax.random.key(o.seed))
    gpt = sx.GPT(config, key=for_model)
    # a table of n_tokens² entries: for characters, not for large vocabularies
    bigram = None
    if n_tokens <= 2048 and len(training) and len(held_out) > 1:
        counted, scored = (sx.Sequences.from_arrays([np.asarray(part)]) for part in (training, held_out))
        bigram = baseline_scores(counted, scored, n_tokens)["bigram"].cross_entropy
    if not o.json:
        say(f"{gpt.n_parameters:,} parameters, {len(training):,} tokens to train on, {len(held_out):,} held out")
        if bigram is not None:
            say(f"bigram model: {bigram:.4f} nats per held-out token")
    if o.overwrite and not o.resume:
        discard(o.out / "run")
    tell = lambda done: say(f"step {done.step}: training loss {done.metrics['loss'].mean():.4f}")
    run = sx.train_gpt(
        gpt,
        training,
        o.steps,
        for_run,
        batch_size=o.batch,
        learning_rate=o.learning_rate,
        accumulate=o.accumulate,
        precision=o.precision,
        held_out=held_out,
        patience=o.patience,
        hooks=[] if o.json else [tell],
        every=o.every,
        run_folder=o.out / "run",
        resume=o.resume,
        save_every=o.save_every,
        devices=jax.devices() if o.data_parallel else None,
    )
    sx.save_gpt(run.best_model, o.out / "model", tokenizer and tokenizer.to_json(), overwrite=True)
    if run.result == sx.RESULTS.diverged:
        say("steerax: the loss is no longer finite; try a lower --learning-rate.", err=True)
        raise typer.Exit(1)
    more = {"parameters": gpt.n_parameters, "bigram_loss": bigram, "model": str(o.out / "model")}
    return _answer(run, o.every, more)


def _answer(run: Any, every: int, more: dict[str, Any]) -> Answer:
    """What a run reached, and in one sentence."""
    from .._results import name_of

    step, best = run.held_out[run.held_out[:, 1].argmin()] if len(run.held_out) else (None, None)
    record = {
        "steps": run.step,
        "training_loss": run.losses[-every:].mean() if run.losses.size else None,
        "held_out_loss": best,
        "best_step": None if step is None else int(step),
        "result": "finished" if run.result == sx.RESULTS.successful else name_of(run.result),
        **more,
    }
    code = 130 if run.result == sx.RESULTS.interrupted else 0
    held = "no evaluation" if best is None else f"{best:.4f} nats per held-out token at step {step:.0f}"
    return Answer(record, f"{record['result']} after {run.step} steps: {held}; model in {more['model']}", code=code)


def _tokens(o: _Options) -> tuple[np.ndarray, Any, Any]:
    """The codes of the source, its tokenizer, if it is a text, and how many tokens there are."""
    tokens, tokenizer = read_codes(o.source, lambda text: _learned(text, o))
    n_tokens: Any = tokenizer.n_tokens if tokenizer else o.vocabulary
    if n_tokens <= 2048 and len(tokens) and int(tokens.max()) >= n_tokens:  # larger ones are looked at as they are read
        raise DataError(
            f"{o.source} holds token {tokens.max()}; with --vocabulary {n_tokens} they are 0 to {n_tokens - 1}."
        )
    return tokens, tokenizer, n_tokens


def _learned(text: str, options: _Options) -> Any:
    """The tokenizer of a text."""
    from ..transformer.tokenizer import BPETokenizer, CharTokenizer

    if options.tokenizer == "char":
        return CharTokenizer.of(text)
    if options.tokenizer == "bpe":
        return BPETokenizer.train([text], options.vocabulary or 1024)
    raise ConfigurationError(f"--tokenizer is {options.tokenizer!r}; choose char or bpe.")
