"""The comparison from end to end: source → models → scores → window → report."""

import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np

from ... import __version__
from ..._errors import ConfigurationError
from ..._results import RESULTS
from ...beliefs.knowledge import knowledge_of, strings_for
from ...models.sampling import sample_sequences
from ...report import page
from ...runs import models
from ...runs.clock import Clock
from ...runs.files import content_hash, free_place, try_place, write_whole
from ...runs.folder import Lock, RunFolder, discard
from ...transformer.gpt import GPT
from .agreement import agreements, facts_about
from .compared import Compared
from .config import Config
from .layers import by_layers
from .learned import TrainedGPT, given_gpt, gpt_shape, gpt_so_far, hidden_markov_model, trained_gpt
from .scores import entropy_floor, held_out_scores
from .sources import Process, Source, resolve
from .text import page_of
from .window import window_of


class Interrupted(Exception):
    """Training was interrupted by Ctrl-C; its checkpoint is in the folder. The message says how to continue."""


def run(config: Config, resume: bool = False, overwrite: bool = False) -> Compared:
    """Compare, and write `compare.html`, `compare.json` and the two models into `config.folder`.

    **Arguments:** `resume`, whether an unfinished comparison in the folder is continued; `overwrite`, whether it is
    discarded.

    **Raises:** `SteeraxError` for input that cannot be used; `Interrupted` on Ctrl-C during training.
    """
    source = resolve(config)
    shape = gpt_shape(config, source)
    given = given_gpt(config, source) if config.network else None  # before anything is written
    started = _started(config, source, resume, overwrite)
    unfinished = started.path
    clock = Clock(_say)
    with clock("hidden Markov model"):
        hmm = hidden_markov_model(config, source, unfinished / "hmm")
    with clock("GPT"):
        gpt = trained_gpt(config, source, shape, unfinished / "gpt") if given is None else given
    if gpt.result == RESULTS.interrupted:
        raise Interrupted(
            f"Interrupted after {gpt.steps:,} training steps; nothing is lost. Continue with --resume, or report on "
            "what is there with --report-only."
        )
    compared = _compared(config, source, hmm, gpt, clock)
    _write(compared)
    del started
    discard(unfinished)
    return compared


def report_unfinished(config: Config) -> Compared:
    """Report on what the unfinished comparison in `config.folder` has trained so far; it can still be continued.

    **Raises:** `SteeraxError` if the folder holds no unfinished comparison with a checkpoint, or another one.
    """
    unfinished = config.folder / "unfinished"
    if not unfinished.exists():
        raise ConfigurationError(f"{config.folder} holds no unfinished comparison to report on.")
    source = resolve(config)
    started = _started(config, source, resume=True)
    hmm = hidden_markov_model(config, source, unfinished / "hmm")
    gpt = gpt_so_far(config, gpt_shape(config, source), unfinished / "gpt")
    compared = _compared(config, source, hmm, gpt, Clock(_say))
    _write(compared)
    del started
    return compared


def _started(config: Config, source: Source, resume: bool, overwrite: bool = False) -> RunFolder:
    """The folder of the unfinished comparison, new or continued. Raises `ConfigurationError` if neither is allowed."""
    try_place(config.folder, folder=True)
    unfinished = config.folder / "unfinished"
    free_place(config.folder / "compare.json", overwrite or (resume and unfinished.exists()))
    lock = Lock(unfinished) if unfinished.exists() else None  # noqa: F841, says who works there before anything else is said
    if unfinished.exists() and not (resume or overwrite):
        raise ConfigurationError(
            f"{config.folder} holds an unfinished comparison; continue it with --resume, report on it with --report-only, "
            "discard it with --overwrite, or choose another --out."
        )
    if overwrite:
        discard(unfinished)
    started = RunFolder(unfinished, _identity(config, source), resume=True)
    started.begin()
    return started


def _identity(config: Config, source: Source) -> dict[str, Any]:
    """What makes two comparisons the same: the options and the data."""
    options = {k: v for k, v in vars(config).items() if k != "out"}
    return {"options": content_hash(options), "data": content_hash(source.training.values, source.held_out.values)}


def _compared(config: Config, source: Source, hmm: Process, gpt: TrainedGPT, clock: Clock) -> Compared:
    """Everything that is measured with both models."""
    with clock("scores"):
        scores = held_out_scores(source, hmm, gpt.model)
        floor = entropy_floor(config, source)
    with clock("window and layers"):
        window = window_of(config, source, hmm, gpt.model)
        layers = by_layers(source, hmm, window.tokens)
        facts = facts_about(source, hmm, gpt.model, window)
    with clock("beliefs"):
        beliefs = knowledge_of(gpt.model, hmm, _strings(config, source, gpt.model), config.seed)
    versions = {"steerax": __version__, "jax": jax.__version__, "numpy": np.__version__}
    versions["python"] = sys.version.split()[0]
    return Compared(
        config,
        source,
        hmm,
        gpt,
        scores,
        floor,
        layers,
        window,
        agreements(window),
        facts,
        beliefs,
        clock.seconds,
        versions,
    )


def _strings(config: Config, source: Source, gpt: GPT) -> np.ndarray:
    """As many strings of one length as can be read: fresh ones of a process, whole held-out windows of data."""
    T = min(config.shape.length, gpt.config.block_size)
    most = strings_for(gpt, T)
    if source.drawn:
        return np.asarray(sample_sequences(source.process, config.key("beliefs"), most, T).values)
    whole = [part[:T] for part in source.held_out if len(part) >= T and (np.asarray(part[:T]) >= 0).all()]
    return np.asarray(whole[:most], np.int32).reshape(-1, T)


def _write(compared: Compared) -> None:
    """Both models, the numbers and the page, each file whole or not at all."""
    folder, vocabulary = compared.config.folder, compared.source.vocabulary
    models.save(compared.hmm, folder / "hmm", vocabulary, overwrite=True)
    models.save(compared.gpt.model, folder / "gpt", vocabulary, overwrite=True)
    words = page_of(compared)
    figures = [figure for section in words.sections for figure in section.figures]
    write_whole(folder / "compare.json", json.dumps(compared.numbers | {"figures": figures}, allow_nan=False))
    command = "steerax compare " + " ".join(sys.argv[2:]) if pathlib.Path(sys.argv[0]).name == "steerax" else "compare"
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in compared.seconds.items())
    facts = [
        ("Command", command.strip()),
        ("Time", f"{sum(compared.seconds.values()):.0f} s: {seconds}"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in compared.versions.items())),
        ("Seed", compared.config.seed),
        ("Files", "compare.json (all numbers), hmm/ and gpt/ (models for steerax.load)"),
    ]
    page.write(folder / "compare.html", words.title, words.lead, words.sections, facts)


def _say(n: int, part: str) -> None:
    """One line of progress on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(part + "\n")
