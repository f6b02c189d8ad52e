"""`steerax explain`: which past observations a prediction comes from."""

import dataclasses
from typing import Annotated, Any

import numpy as np

import steerax as sx

from .._bounds import COUNT, Range
from .answers import Answer, symbols_of
from .inputs import one, opened
from .options import ModelOptions, Number, command
from .regressors import Effects


@dataclasses.dataclass(frozen=True)
class _Options(ModelOptions):
    _: dataclasses.KW_ONLY
    number: Number = 0
    query: Annotated[int, "time of the prediction; -1 is the end", Range(-(10**9), 10**9, whole=True)] = -1
    token: Annotated[str | None, "token predicted  [default: the likeliest]"] = None
    top: Annotated[int, "largest terms to show", COUNT] = 10


@command
def explain(options: _Options) -> Answer:
    """Split a prediction into a prior and one term per past observation.

    Example: `steerax explain runs/text-hmm text.txt`.
    """
    model, data, effects = opened(options)
    z = one(data, options.number)
    return _of_tokens(model, z, options) if data.is_tokens else _of_series(model, z, options, effects)


def _of_tokens(model: Any, z: np.ndarray, options: _Options) -> Answer:
    """The terms of the probability of one token."""
    p = np.asarray(sx.filter(model, z, on_impossible=options.on_impossible).next(options.query))
    symbols = symbols_of(model)
    token = int(p.argmax()) if options.token is None else int(sx.Vocabulary(symbols).encode([options.token])[0])
    target = model.emission[:, token : token + 1]
    from .._results import name_of

    found = sx.explain(model, z, options.query, target, on_impossible=options.on_impossible)
    prior, terms = _terms(found)
    text = f"P(next = {symbols[token]!r}) = {p[token]:.6f} = prior {prior:.6f} + {terms.sum():.6f} from {len(terms)} tokens"
    text += _fault(found)
    record = {"token": symbols[token], "probability": p[token], "prior": prior, "result": name_of(found.result)}
    observed = {"token": ["missing" if code < 0 else symbols[code] for code in z]}
    return _answer(record, text, observed, terms, "{!r:>8} {:+.6f}", options.top)


def _of_series(model: Any, z: np.ndarray, options: _Options, effects: Effects) -> Answer:
    """The terms of the mean of the first channel; those of the observations are of what the known inputs leave of them."""
    from .._results import name_of

    found = sx.explain(model, z, options.query)
    prior, terms = _terms(found)
    known = effects.between(options.number, 0, len(terms) + 1)[:, 0]
    mean = prior + terms.sum() + known[-1]
    name = f" of {model.channels[0]}" if model.channels else ""
    of_inputs = f" + {known[-1]:.6g} from {', '.join(effects.regressors.names)}" if effects.regressors.names else ""
    text = (
        f"prediction{name} {mean:.6g} = prior {prior:.6g}{of_inputs} + {terms.sum():.6g} from {len(terms)} observations"
    )
    text += _fault(found)
    record = {"prediction": mean, "prior": prior, "result": name_of(found.result)}
    record |= {"of_inputs": known[-1]} if of_inputs else {}
    return _answer(
        record, text, {"observation": z[: len(terms), 0] + known[:-1]}, terms, "{:12.6g} {:+.6g}", options.top
    )


def _terms(explanation: Any) -> tuple[float, np.ndarray]:
    """The prior of the first column at the query, and one term per observation before it."""
    time = int(explanation.queries[0])
    return float(explanation.prior[0, 0]), np.asarray(explanation.weights)[0, :time, 0]


def _fault(explanation: Any) -> str:
    """A line that says so if the explanation cannot be trusted."""
    if explanation.result == sx.RESULTS.successful:
        return ""
    return f"\nDo not trust these terms. {sx.RESULTS[explanation.result]}"


def _answer(
    record: dict[str, Any], text: str, observed: dict[str, Any], terms: np.ndarray, form: str, top: int
) -> Answer:
    """`observed` names the column of observations and holds them; the `top` largest terms are shown, with their
    observation in the format `form`."""
    ((column, values),) = observed.items()
    rows = [(s, values[s], term) for s, term in enumerate(terms)]
    largest = [rows[s] for s in np.argsort(-np.abs(terms))[:top]]
    record |= {"time": len(terms), "sum_of_all_terms": terms.sum()}
    record["terms"] = [{"position": s, column: value, "term": term} for s, value, term in largest]
    lines = [text, *(f"{s:8d} {form.format(value, term)}" for s, value, term in largest)]
    return Answer(record, "\n".join(lines), [("position", column, "term"), *rows])
