"""The data of a comparison: training sequences (or the process that generates them) and held-out windows."""

import dataclasses

import numpy as np

from ..._errors import ConfigurationError, DataError
from ...data.corpora import pydoc_text
from ...data.sequences import Sequences
from ...data.vocabulary import Vocabulary
from ...inference.score import score_predictor
from ...models.catalogue import PROCESSES, named_process
from ...models.generalised import GeneralisedHMM
from ...models.hmm import HiddenMarkovModel
from ...models.matrices import read_process
from ...models.sampling import sample_sequences
from .config import Config

_TO_BE_STATIONARY = ("casino", "random-hmm")  # the others start as their source says
_HELD_OUT_OF_A_PROCESS = 512  # sequences: a standard error near 1 % of the loss of the default process
_TRAINING_FOR_COUNTS = 4096  # sequences of a process from which unigram and bigram are counted


Process = HiddenMarkovModel | GeneralisedHMM


@dataclasses.dataclass(frozen=True)
class Source:
    """`training` sequences, `held_out` sequences of at most `length + 1` tokens, and the process if it is known;
    `vocabulary` names the tokens; `drawn`, whether the data are drawn from the process, fresh at each training step."""

    name: str
    description: str
    training: Sequences
    held_out: Sequences
    vocabulary: Vocabulary
    process: Process | None = None
    drawn: bool = False


def resolve(config: Config) -> Source:
    """The source a configuration names.

    **Raises:** `DataError` for data that cannot be used, `ConfigurationError` for an unknown name.
    """
    process = None if config.process is None else read_process(config.process)
    if config.is_process:
        return _from_process(config, process)
    source = str(config.source)
    if source == "pydoc":
        text = pydoc_text()
        vocabulary = Vocabulary.collect(text)
        data = Sequences.from_arrays([vocabulary.encode(text)], vocabulary)
        said = "the text of Python's language reference (pydoc_data.topics), by character"
        return _from_data(config, data, said, process)
    if not any(sign in source for sign in "./\\"):
        raise ConfigurationError(
            f"{source!r} is not a known source; use {', '.join(PROCESSES)}, pydoc, or the path of a file."
        )
    data = config.read(source)
    if not data.is_tokens:
        raise DataError(f"{source} holds real numbers; compare needs tokens (integers or symbols).")
    remarks = "".join(f" ({remark})" for remark in data.source.split("; ")[1:])
    return _from_data(config, data, f"the file {source}{remarks}", process)


def _from_process(config: Config, process: Process | None) -> Source:
    where = config.name if process is None else f"of {config.process}"
    process = process or _named(config.name)
    length = config.shape.length
    draw = lambda use, number: sample_sequences(process, config.key(use), number, length + 1)
    kind = "generalised hidden Markov model" if isinstance(process, GeneralisedHMM) else "hidden Markov model"
    return Source(
        config.name,
        f"the process {where}, a {kind} with {process.n_states} state{'s' * (process.n_states > 1)} and {process.n_tokens} "
        f"token{'s' * (process.n_tokens > 1)}",
        draw("counts", _TRAINING_FOR_COUNTS),
        draw("held out", _HELD_OUT_OF_A_PROCESS),
        process.vocabulary or Vocabulary.of_codes(process.n_tokens),
        process,
        True,
    )


def _named(text: str) -> Process:
    process = named_process(text)
    return process.started("stationary") if text.partition("(")[0].strip() in _TO_BE_STATIONARY else process


def _from_data(config: Config, data: Sequences, description: str, process: Process | None) -> Source:
    if process is not None:
        data = data.in_codes_of(process.vocabulary or Vocabulary.of_codes(process.n_tokens))
    if int(data.lengths.max()) < 2:
        raise DataError(
            f"{config.source}: no sequence has two tokens, so there is nothing to predict; compare needs sequences of "
            "two tokens or more (for a table, name the column that tells them apart with --sequence)."
        )
    if data.number >= 10:
        training, held_out = data.split(config.held_out, config.seed)
    else:
        training, held_out = _split_along(data, config.held_out)
    held_out = _with_something_to_predict(held_out.cut(config.shape.length + 1))
    if held_out is None or _with_something_to_predict(training) is None:
        raise DataError(
            f"{config.source}: {data.total} tokens are too few to train on one part and compare on another; give "
            "more data, or another share with --held-out."
        )
    assert data.vocabulary is not None  # every reader sets it
    gaps = f", {data.total - data.n_observed:,} of them missing" if data.has_gaps else ""
    text = f"{description}: {data.number:,} sequence{'s' * (data.number > 1)}, {data.total:,} tokens{gaps}"
    if process is not None:
        score_predictor(process, held_out)  # a token that it cannot emit shows before anything is trained
    return Source(config.name, f"{text}, {data.n_tokens} distinct", training, held_out, data.vocabulary, process)


def _split_along(data: Sequences, fraction: float) -> tuple[Sequences, Sequences]:
    """Few long sequences: the last part of each is held out, so that training never sees what follows."""
    ends = [max(1, round(len(part) * (1 - fraction))) for part in data]
    first = [part[:end] for part, end in zip(data, ends, strict=True)]
    last = [part[end:] for part, end in zip(data, ends, strict=True) if len(part) > end]
    held_out = last or [np.array([-1])]
    return Sequences.from_arrays(first, data.vocabulary), Sequences.from_arrays(held_out, data.vocabulary)


def _with_something_to_predict(data: Sequences) -> Sequences | None:
    """The sequences with an observed token after the first position, or `None` if there is none."""
    kept = np.flatnonzero(data.mask[:, 1:].any(axis=1))
    return data.select(kept) if len(kept) else None
