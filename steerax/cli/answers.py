"""What a command answers: JSON values, text for a person and a table, and how they are told."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from .._errors import ConfigurationError
from ..runs.files import write_whole
from ..runs.json import plain

if TYPE_CHECKING:
    import numpy as np

    from ..data.sequences import Sequences
    from ..inference.results import Explanation


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a command: a record, the text for a person, and a table whose first row names the columns."""

    record: dict[str, Any]
    text: str
    table: list[list[Any]] | None = None


def tell(answer: Answer, as_json: bool, out: str | None = None) -> None:
    """Print an answer, and write its table to `out` (CSV) if asked. **Raises:** `ConfigurationError` if it cannot be."""
    if out is not None and answer.table is not None:
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(answer.table)
        try:
            write_whole(out, lines.getvalue())
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror}); choose another --out.") from None
    typer.echo(json.dumps(plain(answer.record), allow_nan=False) if as_json else answer.text)


def names_of(data: "Sequences") -> Sequence[str]:
    """The names of the sequences, their numbers where they have none."""
    return data.names or [str(i) for i in range(data.number)]


@dataclasses.dataclass(frozen=True)
class Terms:
    """One prediction as a `prior` and `values`, one term per observation before `time`; `largest` holds positions."""

    time: int
    prior: float
    values: "np.ndarray"
    largest: list[int]

    @classmethod
    def of(cls, explanation: "Explanation", top: int) -> "Terms":
        """The terms of the first query and the first column of an explanation, and the `top` largest of them."""
        import numpy as np

        time = int(explanation.queries[0])
        values = np.asarray(explanation.weights)[0, :time, 0]
        return cls(time, float(explanation.prior[0, 0]), values, np.argsort(-np.abs(values))[:top].tolist())

    @property
    def sum(self) -> float:
        return float(self.values.sum())

    def answer(self, record: dict[str, Any], text: str, column: str, observed: Sequence[Any], form: str) -> Answer:
        """The answer of `explain`: `record` and `text` say what was predicted; `column` names the observations, of
        which `form` is the format in the text."""
        rows = [(s, observed[s], self.values[s]) for s in range(self.time)]
        largest = [rows[s] for s in self.largest]
        record |= {"time": self.time, "prior": self.prior, "sum_of_all_terms": self.sum}
        record["terms"] = [{"position": s, column: value, "term": term} for s, value, term in largest]
        lines = [text, *(f"{s:8d} {form.format(value)} {term:+.6f}" for s, value, term in largest)]
        return Answer(record, "\n".join(lines), [["position", column, "term"], *map(list, rows)])
