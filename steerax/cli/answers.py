"""What a command answers: JSON values, text for a person and a table; and how tokens and losses are written in them."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import typer

import steerax as sx

from ..data.scores import TokenScores
from ..runs.files import write_whole
from ..runs.json import plain
from ..runs.progress import visible


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a command: a record, the text for a person, a table whose first row names the columns, and the code to
    exit with, 0 unless the work was interrupted."""

    record: Any
    text: str
    table: Sequence[Sequence[Any]] = ()
    code: int = 0

    def shown(self, as_json: bool) -> str:
        """The record as JSON, or the text."""
        return json.dumps(plain(self.record), allow_nan=False) if as_json else self.text


def tell(answer: Answer, as_json: bool, out: Any = None) -> None:
    """Print an answer, and write its table, if it has one, to `out` (CSV) if that is asked for."""
    say(answer.shown(as_json))
    if answer.table and out is not None:
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(answer.table)
        write_whole(out, lines.getvalue())


def say(text: str, err: bool = False) -> None:
    """Print text; what would control the terminal is shown, not sent."""
    typer.echo(visible(text), err=err)


def symbols_of(model: Any) -> tuple[str, ...]:
    """The names of a hidden Markov model's tokens, by code."""
    return (model.vocabulary or sx.Vocabulary.of_codes(model.n_tokens)).symbols


def channels_of(model: Any) -> Sequence[str | int]:
    """The names of the channels that a model emits, or their numbers."""
    return (model.channels or range(model.n_channels))[: model.n_channels]


def of_channels(model: Any, texts: Sequence[str]) -> str:
    """A text for each channel in one line, with the names of the channels, if there are any."""
    names = [f"{name} " for name in channels_of(model)] if model.channels else [""] * len(texts)
    return "  ".join(name + text for name, text in zip(names, texts, strict=True))


def ranked(symbols: Sequence[str], p: np.ndarray, codes: np.ndarray) -> str:
    """Some tokens and their probabilities in one line."""
    return "  ".join(f"{symbols[code]!r} {p[code]:.4f}" for code in codes)


def standard_error(scores: TokenScores) -> float | None:
    """Nats per token; `None` for one sequence, which has no spread to judge by, and for an infinite loss."""
    return scores.standard_error if len(scores.scored) > 1 and math.isfinite(scores.cross_entropy) else None


def in_words(scores: TokenScores) -> str:
    """The cross-entropy and its standard error."""
    if not math.isfinite(scores.cross_entropy):
        return "infinite"
    error = standard_error(scores)
    return f"{scores.cross_entropy:.4f}{'' if error is None else f' ± {error:.4f}'} nats per token"
