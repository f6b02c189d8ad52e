"""`steerax explain`: which past observations a prediction comes from."""

import dataclasses
from typing import Annotated, Any

import numpy as np

import steerax as sx

from .answers import Answer, symbols_of
from .inputs import one, opened
from .options import ModelOptions, Number, command


@dataclasses.dataclass(frozen=True)
class _Options(ModelOptions):
    _: dataclasses.KW_ONLY
    number: Number = 0
    query: Annotated[int, "time of the prediction; -1 is the end"] = -1
    token: Annotated[str | None, "token predicted  [default: the likeliest]"] = None
    top: Annotated[int, "largest terms to show"] = 10


@command
def explain(options: _Options) -> Answer:
    """Split a prediction into a prior and one term per past observation.

    Example: `steerax explain runs/text-hmm text.txt`.
    """
    model, data = opened(options)
    return (_of_tokens if data.is_tokens else _of_series)(model, one(data, options.number), options)


@dataclasses.dataclass(frozen=True)
class _Terms:
    """The prediction of one column at one `time`: a `prior` and `values`, one term per observation before `time`."""

    time: int
    prior: float
    values: np.ndarray

    @classmethod
    def of(cls, explanation: Any) -> "_Terms":
        time = int(explanation.queries[0])
        return cls(time, float(explanation.prior[0, 0]), np.asarray(explanation.weights)[0, :time, 0])

    @property
    def sum(self) -> float:
        return float(self.values.sum())

    def answer(self, predicted: dict[str, Any], text: str, observed: dict[str, Any], form: str, top: int) -> Answer:
        """`predicted` and `text` say what was predicted, `observed` names the column of observations and holds them;
        the `top` largest terms are shown, with their observation in the format `form`."""
        ((column, values),) = observed.items()
        rows = [(s, values[s], self.values[s]) for s in range(self.time)]
        largest = [rows[s] for s in np.argsort(-np.abs(self.values))[:top]]
        record = predicted | {"time": self.time, "prior": self.prior, "sum_of_all_terms": self.sum}
        record["terms"] = [{"position": s, column: value, "term": term} for s, value, term in largest]
        lines = [text, *(f"{s:8d} {form.format(value, term)}" for s, value, term in largest)]
        return Answer(record, "\n".join(lines), [("position", column, "term"), *rows])


def _of_tokens(model: Any, z: np.ndarray, options: _Options) -> Answer:
    """The terms of the probability of one token."""
    p = np.asarray(sx.filter(model, z, on_impossible=options.on_impossible).next(options.query))
    symbols = symbols_of(model)
    token = int(p.argmax()) if options.token is None else int(sx.Vocabulary(symbols).encode([options.token])[0])
    target = model.emission[:, token : token + 1]
    terms = _Terms.of(sx.explain(model, z, options.query, target, on_impossible=options.on_impossible))
    return terms.answer(
        {"token": symbols[token], "probability": p[token]},
        f"P(next = {symbols[token]!r}) = {p[token]:.6f} = prior {terms.prior:.6f} + {terms.sum:.6f} "
        f"from {terms.time} tokens",
        {"token": ["missing" if code < 0 else symbols[code] for code in z]},
        "{!r:>8} {:+.6f}",
        options.top,
    )


def _of_series(model: Any, z: np.ndarray, options: _Options) -> Answer:
    """The terms of the mean of the first channel."""
    terms = _Terms.of(sx.explain(model, z, options.query))
    prediction = terms.prior + terms.sum
    return terms.answer(
        {"prediction": prediction},
        f"prediction {prediction:.6g} = prior {terms.prior:.6g} + {terms.sum:.6g} from {terms.time} observations",
        {"observation": z[:, 0]},
        "{:12.6g} {:+.6g}",
        options.top,
    )
