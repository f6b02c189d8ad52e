"""`steerax explain`: which past observations a prediction comes from."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import steerax as sx

from .._bounds import COUNT, Range
from .._errors import ConfigurationError
from .answers import Answer, channels_of, symbols_of
from .inputs import one, opened, stepping_over
from .options import ModelOptions, Number, Seed, command
from .regressors import Effects


@dataclasses.dataclass(frozen=True)
class _Options(ModelOptions):
    _: dataclasses.KW_ONLY
    number: Number = 0
    query: Annotated[int, "time of the prediction; -1 is the end", Range(-(10**9), 10**9, whole=True)] = -1
    token: Annotated[str | None, "token predicted  [default: the likeliest]"] = None
    target: Annotated[str, "next, the next observation, or state, the likeliest hidden state"] = "next"
    contrast: Annotated[tuple[str, str] | None, "two tokens, or channels: why the first and not the second"] = None
    method: Annotated[str, "integrated, control, news, deletion or shapley"] = "integrated"
    orders: Annotated[
        int | None,
        "random orders of sampled Shapley values  [default: all, or 256 of them]",
        Range(1, 100_000, whole=True),
    ] = None
    seed: Seed = 0
    by_word: Annotated[bool, "one term per word of a text read by characters, and per run of anything else"] = False
    html: Annotated[Path | None, "page to write: the observations drawn with their weights"] = None
    top: Annotated[int, "largest terms to show", COUNT] = 10


@command
def explain(options: _Options) -> Answer:
    """Split a prediction into a prior and one term per past observation.

    Example: `steerax explain runs/text-hmm text.txt --html terms.html`.
    """
    from ..runs.files import free_place, try_place

    if options.html is not None:
        try_place(free_place(options.html, options.overwrite))
    if options.contrast is not None and options.token is not None:
        raise ConfigurationError("--token explains one token and --contrast two; give one of them.")
    if options.target not in ("next", "state"):
        raise ConfigurationError(f"--target {options.target} is unknown; choose next or state.")
    model, data, effects = opened(options)
    z = one(data, options.number)
    if options.target == "state":
        answer, found = _of_state(model, z, options)
    else:
        answer, found = (_of_tokens(model, z, options)) if data.is_tokens else _of_series(model, z, options, effects)
    if options.html is None:
        return answer
    found.to_html(options.html, overwrite=options.overwrite)
    return dataclasses.replace(
        answer, record=answer.record | {"page": str(options.html)}, text=f"{answer.text}\nPage: {options.html}"
    )


def _of_tokens(model: Any, z: np.ndarray, options: _Options) -> tuple[Answer, Any]:
    """The terms of the probability of one token, or of the difference of two."""
    symbols = symbols_of(model)
    asked: dict[str, Any] = {"method": options.method, "orders": options.orders, "key": options.seed}
    asked["on_impossible"] = options.on_impossible
    if options.contrast is not None:
        found = sx.explain(model, z, options.query, contrast=options.contrast, **asked)
        said = " − ".join(f"P(next = {each!r})" for each in options.contrast)
        record: dict[str, Any] = {"contrast": options.contrast, "difference": float(found.prediction[0, 0])}
    else:
        p = np.asarray(sx.filter(model, z, on_impossible=options.on_impossible).next(options.query))
        token = int(p.argmax()) if options.token is None else int(sx.Vocabulary(symbols).encode([options.token])[0])
        found = sx.explain(model, z, options.query, model.emission[:, token : token + 1], **asked)
        found = dataclasses.replace(found, columns=(symbols[token],))
        said, record = f"P(next = {symbols[token]!r})", {"token": symbols[token], "probability": p[token]}
    found = found.grouped(lambda symbol: symbol.isalnum()) if options.by_word else found
    prior, terms = _terms(found)
    prediction = float(found.prediction[0, 0])
    text = f"{said} = {prediction:.6f} = prior {prior:.6f} + {terms.sum():.6f} from {len(terms)} {'pieces' if options.by_word else 'tokens'}"
    text += _remainder(found, ".6f") + _fault(found)
    record |= _about(found, prior)
    labels = found.labels if options.by_word else ["missing" if code < 0 else symbols[code] for code in z]
    return _answer(record, text, {"token": labels}, found, "{!r:>8} {:+.6f}", options.top), found


def _of_state(model: Any, z: np.ndarray, options: _Options) -> tuple[Answer, Any]:
    """The terms of the probability of the likeliest hidden state."""
    if not isinstance(model, sx.HiddenMarkovModel):
        raise ConfigurationError(f"--target state is of hidden Markov models; this is a {type(model).__name__}.")
    if options.token is not None or options.contrast is not None or options.by_word:
        raise ConfigurationError("--token, --contrast and --by-word are of --target next.")
    asked: dict[str, Any] = {"method": options.method, "orders": options.orders, "key": options.seed}
    skip = stepping_over(model, options)
    state = int(np.asarray(sx.filter(model, z, **skip).predicted[options.query]).argmax())
    found = sx.explain(model, z, options.query, np.eye(model.n_states)[:, [state]], **asked, **skip)
    found = dataclasses.replace(found, columns=(f"state {state}",))
    prior, terms = _terms(found)
    probability = float(found.prediction[0, 0])
    text = (
        f"P(state = {state}) = {probability:.6f} = prior {prior:.6f} + {terms.sum():.6f} from {len(terms)} observations"
    )
    text += _remainder(found, ".6f") + _fault(found)
    record = {"state": state, "probability": probability} | _about(found, prior)
    return _answer(record, text, {"observation": found.labels}, found, "{:>16} {:+.6f}", options.top), found


def _of_series(model: Any, z: np.ndarray, options: _Options, effects: Effects) -> tuple[Answer, Any]:
    """The terms of the mean of the first channel, or of the difference of two; those of the observations are of what the known inputs
    leave of them."""
    if options.by_word or options.token is not None:
        raise ConfigurationError("--by-word and --token are of tokens; these data are numbers.")
    asked: dict[str, Any] = {"method": options.method, "orders": options.orders, "key": options.seed}
    asked |= stepping_over(model, options)
    names = list(map(str, channels_of(model)))
    pair = None if options.contrast is None else [_channel(names, each) for each in options.contrast]
    found = sx.explain(model, z, options.query, contrast=pair, **asked)
    take = lambda rows: rows[:, 0] if pair is None else rows[:, pair[0]] - rows[:, pair[1]]
    prior, terms = _terms(found)
    known = take(effects.between(options.number, 0, len(terms) + 1))
    mean = float(found.prediction[0, 0]) + known[-1]
    name = f" of {names[0]}" if model.channels else ""
    name = name if pair is None else f" of {names[pair[0]]} − {names[pair[1]]}"
    of_inputs = f" + {known[-1]:.6g} from {', '.join(effects.regressors.names)}" if effects.regressors.names else ""
    text = (
        f"prediction{name} {mean:.6g} = prior {prior:.6g}{of_inputs} + {terms.sum():.6g} from {len(terms)} observations"
    )
    text += _remainder(found, ".6g") + _fault(found)
    record = {"prediction": mean} | _about(found, prior)
    record |= {"of_inputs": known[-1]} if of_inputs else {}
    observed = {"observation": take(z[: len(terms)]) + known[:-1]}
    return _answer(record, text, observed, found, "{:12.6g} {:+.6g}", options.top), found


def _channel(names: list[str], name: str) -> int:
    """The number of a channel. Raises `ConfigurationError` for one that is not there."""
    if name not in names:
        raise ConfigurationError(f"--contrast names {name!r}; the model has the channels {', '.join(names)}.")
    return names.index(name)


def _about(explanation: Any, prior: float) -> dict[str, Any]:
    """What the record says of every explanation."""
    from .._results import name_of

    remainder = float(explanation.remainder[0, 0])
    return {"method": explanation.method, "prior": prior, "remainder": remainder, "result": name_of(explanation.result)}


def _terms(explanation: Any) -> tuple[float, np.ndarray]:
    """The prior of the first column at the query, and one term per observation, or span of them, before it."""
    return float(explanation.prior[0, 0]), np.asarray(explanation.weights)[0, : len(_positions(explanation)), 0]


def _positions(explanation: Any) -> np.ndarray:
    """Where the observations, or spans, before the query begin."""
    starts = np.arange(explanation.weights.shape[1]) if explanation.spans is None else explanation.spans[:, 0]
    return starts[starts < int(explanation.queries[0])]


def _remainder(explanation: Any, form: str) -> str:
    """What the terms of a method that does not add up leave."""
    if explanation.method != "deletion":
        return ""
    return f" + {float(explanation.remainder[0, 0]):{form}} that none has alone"


def _fault(explanation: Any) -> str:
    """A line that says so if the explanation cannot be trusted."""
    if explanation.result == sx.RESULTS.successful:
        return ""
    return f"\nDo not trust these terms. {sx.RESULTS[explanation.result]}"


def _answer(record: dict[str, Any], text: str, observed: dict[str, Any], found: Any, form: str, top: int) -> Answer:
    """`observed` names the column of observations and holds them; the `top` largest terms are shown, with their
    observation in the format `form`, and the standard errors of sampled ones."""
    ((column, values),) = observed.items()
    terms, places = _terms(found)[1], _positions(found)
    errors = None if found.errors is None else np.asarray(found.errors)[0, :, 0]
    rows = [(int(at), values[s], terms[s], *(() if errors is None else (errors[s],))) for s, at in enumerate(places)]
    largest = [rows[s] for s in np.argsort(-np.abs(terms))[:top]]
    names = ("position", column, "term", *(() if errors is None else ("error",)))
    record |= {"time": int(found.queries[0]), "sum_of_all_terms": terms.sum()}
    record["terms"] = [dict(zip(names, row, strict=True)) for row in largest]
    sampled = lambda row: f" ± {row[3]:.2g}" if errors is not None else ""
    lines = [text, *(f"{row[0]:8d} {form.format(*row[1:3])}{sampled(row)}" for row in largest)]
    return Answer(record, "\n".join(lines), [names, *rows])
