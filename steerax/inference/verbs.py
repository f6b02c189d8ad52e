"""The verbs of inference: each takes any model that it can serve, and one sequence or a `Sequences`.

A verb looks the model up in one table and calls the function of that room: `filter` is `hmm.filter.filter_tokens` for
a hidden Markov model, `generalised.filter.filter_tokens` for a generalised one, and `linear.filter.filter_series` for a
linear-Gaussian one. The functions of the rooms document the options that only they have.
"""

import concurrent.futures
import dataclasses
import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax

from .._bounds import COUNT, COUNT_OR_ZERO, bounded
from .._compiled import keep_few
from .._errors import ConfigurationError
from .._results import is_traced
from ..data.convert import as_sequences, converted, one_frame
from ..data.scores import TokenScores
from ..maths.keys import as_key
from ..models.conditional import AbstractConditionalHMM
from ..models.generalised import GeneralisedHMM
from ..models.hmm import HiddenMarkovModel
from ..models.linear_gaussian import AbstractLinearGaussianModel
from ..runs.executors import check_executor, sweep
from .explained import real_type
from .explanation import Explanation
from .kinds import HMM, Lagged, LinearGaussian
from .results import Candidate, DualFiltered, Filtered, Fitted, Selection, Smoothed
from .score import score_predictor
from .stream import Prediction, RememberingStream, SeriesStream, TokenStream


@dataclasses.dataclass(frozen=True)
class _Room:
    """Where the verbs of a kind of model live: `inference/{name}/{file}.py` defines `{verb}_{data}`; `lacks` says why it has
    no such verb."""

    name: str
    data: Literal["tokens", "series"]
    said: str
    lacks: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def taken(self, model: Any, data: Any, collect: bool = False) -> dict[str, Any]:
        """How data for a model of this room come through the door."""
        wanted = "tokens" if self.data == "tokens" else "observations"
        return {"data": data, "wanted": wanted, "vocabulary": getattr(model, "vocabulary", None), "collect": collect}

    def function(self, file: str, verb: str, options: Mapping[str, Any]) -> Any:
        """The function of a verb in this room. Raises `ConfigurationError` for an option that it does not have."""
        function = getattr(importlib.import_module(f".{self.name}.{file}", __package__), f"{verb}_{self.data}")
        known = inspect.signature(function).parameters if options else {}
        for name in options:
            if name not in known:
                named = ", ".join(name for name, p in known.items() if p.kind is p.KEYWORD_ONLY) or "none"
                raise ConfigurationError(f"{verb} of {self.said} has no option {name!r}; it has {named}.")
        return function

    def call(self, file: str, verb: str, *arguments: Any, **options: Any) -> Any:
        """The verb of this room. Raises `ConfigurationError` for an option that it does not have."""
        function = self.function(file, verb, options)
        keep_few()
        model, data, *more = arguments
        check = lambda columns: model.check_channels(columns)
        return function(model, one_frame(converted(**self.taken(model, data)), data, check), *more, **options)


_TOKENS = _Room("hmm", "tokens", "a HiddenMarkovModel")
_NUMBERS = _Room("densities", "series", "a HiddenMarkovModel of numbers")
_SERIES = _Room(
    "linear",
    "series",
    "a linear-Gaussian model",
    {
        "most_likely_states": "Its states are vectors; smooth gives their distributions, whose means are the likeliest path."
    },
)
_OPERATORS = _Room(
    "generalised",
    "tokens",
    "a GeneralisedHMM",
    {
        "most_likely_states": "Its states are no hidden states that a path could visit.",
        "smooth": "Its belief may have negative entries and is then no distribution of a hidden state; use filter, or a "
        "HiddenMarkovModel of the same tokens.",
        "fit": "The matrices whose strings all have probabilities cannot be searched; fit HMM(n_states) instead.",
    },
)
_CONDITIONAL = _Room("conditional", "tokens", "a conditionally Markov model")
_MODELS: dict[type, _Room] = {
    HiddenMarkovModel: _TOKENS,
    GeneralisedHMM: _OPERATORS,
    AbstractConditionalHMM: _CONDITIONAL,
    AbstractLinearGaussianModel: _SERIES,
}
_KINDS: dict[type, _Room] = {HMM: _TOKENS, Lagged: _CONDITIONAL, LinearGaussian: _SERIES, **_MODELS}


def _room(value: Any, table: dict[type, _Room], verb: str) -> _Room:
    for kind, room in table.items():
        if isinstance(value, kind):
            room = room if getattr(value, "emits_tokens", True) else _NUMBERS
            if verb in room.lacks:
                raise ConfigurationError(f"{verb} does not take {room.said}. {room.lacks[verb]}")
            return room
    rooms = (_TOKENS, _NUMBERS, *table.values())
    takes = " or ".join(dict.fromkeys(room.said for room in rooms if verb not in room.lacks))
    also = (
        ", or the kinds HMM(n_states), Lagged(n_states, lags) and LinearGaussian(n_states)" if table is _KINDS else ""
    )
    raise ConfigurationError(f"{verb} takes {takes}{also}, not a {type(value).__name__}.")


def filter(model: Any, data: Any, **options: Any) -> Filtered:
    r"""The distribution of the hidden state and of the next observation, given the observations so far.

    `predicted[t]` is that of $X_t$ given $Z_{<t}$, `filtered[t]` given $Z_{\le t}$ too, `next(t)` that of $Z_t$ given
    $Z_{<t}$; $X_t$ emits $Z_t$, $t=0\dots T-1$.

    **Arguments:** `model`; `data`, one sequence (tokens `[T]` with −1 for a gap, or a series `[T p]` with NaN) or a
    `Sequences`; options of `filter_tokens`.

    **Raises:** `ConfigurationError` for another kind of model or an unknown option; `DataError` for data that do not fit it;
    `ImpossibleTokenError` for a token of probability zero.
    """
    return _room(model, _MODELS, "filter").call("filter", "filter", model, data, **options)


def smooth(model: Any, data: Any, **options: Any) -> Smoothed:
    """The distribution of every hidden state given all observations. **Raises:** as `filter`."""
    return _room(model, _MODELS, "smooth").call("smoother", "smooth", model, data, **options)


def most_likely_states(model: Any, data: Any) -> Any:
    r"""The path $X_0\dots X_{T-1}$ of greatest joint probability with the observations (Viterbi).

    `[T]`, or `[B T]` for a `Sequences`, with −1 beyond a sequence's end. $O(d^2T)$; ties go to the lower state.

    **Raises:** as `filter`, and `ConfigurationError` for a model without hidden states of its own.
    """
    return _room(model, _MODELS, "most_likely_states").call("smoother", "most_likely_states", model, data)


def dual_filter(model: Any, data: Any, *arguments: Any, **options: Any) -> DualFiltered:
    """The filter as the solution of an optimal-control problem: layers for a chain (`dual_filter_tokens`), a control of the
    costate for a linear model of any order (`dual_filter_series`), which list their options. **Raises:** as `filter`."""
    return _room(model, _MODELS, "dual_filter").call("dual", "dual_filter", model, data, *arguments, **options)


def explain(
    model: Any,
    data: Any,
    queries: Any = -1,
    target: Any = "next",
    method: str | None = None,
    contrast: Any = None,
    **options: Any,
) -> Explanation:
    r"""The prediction at each query as a prior term plus one term per past observation:

    $$\text{prediction}(q)=\text{prior}(q)+\sum_{s<q}\text{weights}(q,s).$$

    **Arguments:**

    - `queries`: a time 0 … T (negative ones count from the end, −1 is `T`), several, or `"all"`; for a `Sequences`, −1 (each at its
      own end) or `"all"`.
    - `target`: `"next"`, the next observation; `"state"`; or an array `[d k]`.
    - `method`: `"integrated"` (what `None` means, but for a conditionally Markov model), the nearest to Shapley values at the cost of some
      fifty filters; `"control"`, the weights of the dual filter, and the only one for a conditionally Markov model, where `None` means
      it; `"news"`, what each observation changed when it arrived; `"shapley"`, exact or with standard errors; `"deletion"`, what
      would be missing without it, which does not add up. `explain_tokens` and `explain_series` give the formulas.
    - `contrast`: a pair of tokens, or of channels of a series: the difference of the two predictions is explained.
    - options of `explain_tokens` or `explain_series`.

    **Raises:** as `filter`; `ConfigurationError` for a query, method, contrast or type that does not fit.
    """
    if options.get("dtype") is not None:
        options["dtype"] = real_type(options["dtype"])
    asked = {"contrast": contrast} | ({} if method is None else {"method": method})
    room = _room(model, _MODELS, "explain")
    return room.call("explain", "explain", model, data, queries, target, **asked, **options)


@bounded(steps=COUNT)
def forecast(model: Any, data: Any, steps: int, **options: Any) -> Any:
    """The distributions of the next `steps` observations, for a `Sequences` from each sequence's own end.

    A `TokenForecast` or a `SeriesForecast`; both have `interval(coverage)`.

    **Raises:** `ConfigurationError` for fewer than one step; otherwise as `filter`.
    """
    room = _room(model, _MODELS, "forecast")
    return room.call("forecast", "forecast", model, data, steps, **options)


@bounded(number=COUNT)
def start(model: Any, number: int | None = None) -> TokenStream | RememberingStream | SeriesStream:
    """What a model knows before the first observation of a stream, or of `number` independent streams: for `step`.

    **Raises:** `ConfigurationError` for another kind of model; `DataError` for a linear one that varies in time.
    """
    keep_few()
    return _room(model, _MODELS, "start").function("stream", "start", {})(model, number)


def step(model: Any, state: Any, observation: Any, **options: Any) -> tuple[Any, Prediction]:
    """One observation of a stream: `(state, prediction)`, the state after it and what was and is expected.

    The same numbers as `filter` to rounding, with memory and time that do not grow. Compiled once per model and kind of state; pure, so
    it also runs inside `jit`, `scan` and `vmap`. A state is saved and loaded like a model.

    **Arguments:** `state`, of `start` or `step`; `observation`: a code or symbol, −1 for a missing token; or the numbers `[p]` of a
    series, NaN where missing (one number for one channel); for a state of several streams with a leading axis.
    `on_impossible` of tokens: `"raise"` (the state that was given is as good as before), or `"skip"`.

    **Raises:** as `filter`.
    """
    return _room(model, _MODELS, "step").function("stream", "step", options)(model, state, observation, **options)


def score(predictor: Any, data: Any, **options: Any) -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every observation of a data set, their mean and its standard error over sequences.

    **Arguments:** `predictor`: a model, or anything else that predicts tokens (see `as_predictor`); options of
    `score_predictor`.

    **Raises:** as `filter`.
    """
    if is_traced(predictor, data):
        raise ConfigurationError(
            "score measures data sets outside jit; inside, use filter(model, data).log_likelihoods."
        )
    room = _room(predictor, _MODELS, "score") if isinstance(predictor, tuple(_MODELS)) else _TOKENS
    data = as_sequences(**room.taken(predictor, data))
    if room.data == "series":
        return room.call("filter", "score", predictor, data, **options)
    return score_predictor(predictor, data, **options)


@bounded(length=COUNT_OR_ZERO, number=COUNT)
def sample(model: Any, key: Any, length: int, number: int | None = None, *, inputs: Any = None) -> tuple[Any, Any]:
    """`(states, observations)` of length `length`, with a leading axis of `number` independent sequences if it is given.

    **Arguments:** `key`, a seed or a typed key; `inputs`, `[length q]` or `[number length q]`, of an emission that reads them: they are
    then the last columns of the observations.

    **Raises:** `ConfigurationError` for an object that cannot be sampled, and for inputs that are missing or not read.
    """
    if not hasattr(model, "sample"):
        raise ConfigurationError(f"sample takes a model, not a {type(model).__name__}.")
    key = as_key(key)
    if inputs is not None or getattr(model, "n_inputs", 0):
        if not isinstance(model, HiddenMarkovModel):
            raise ConfigurationError(
                f"inputs= is of hidden Markov models whose emission reads them, not of a {type(model).__name__}."
            )
        shape = (length,) if number is None else (number, length)
        inputs = model.known_inputs(inputs, shape, f"A sample of {length} observations")
        if number is None:
            return model.sample(key, length, inputs)
        return jax.vmap(lambda k, u: model.sample(k, length, u))(jax.random.split(key, number), inputs)
    if number is None:
        return model.sample(key, length)
    return jax.vmap(lambda k: model.sample(k, length))(jax.random.split(key, number))


def fit(kind: Any, data: Any, key: Any = 0, **options: Any) -> Fitted:
    """Maximum likelihood from data with gaps and ragged lengths.

    **Arguments:** `kind`: `HMM(n_states, order=…, emission=…)`, `Lagged(n_states, lags, …)`, `LinearGaussian(n_states, order, …)`, or a
    model to start from; `data`; `key`, a seed or a typed key; options of `fit_tokens` or `fit_series`.

    **Raises:** `ConfigurationError` for another kind or options that cannot work; `DataError` for data without
    observations of that kind.
    """
    room = _room(kind, _KINDS, "fit")
    data = as_sequences(**room.taken(kind, data, collect=isinstance(kind, HMM | Lagged)))
    check_executor(options.get("executor"))
    if data.devices is not None and options.get("executor") is not None:
        raise ConfigurationError("Data over devices stay in their process; leave out the executor, or `over`.")
    return room.call("fit", "fit", kind, data, as_key(key), **options)


def select(
    kinds: Sequence[Any],
    data: Any,
    criterion: str = "bic",
    held_out: Any = None,
    key: Any = 0,
    executor: concurrent.futures.Executor | Any = None,
    **options: Any,
) -> Selection:
    r"""Fit every kind and compare: $2(p-\ell)$ (AIC), $p\log n-2\ell$ (BIC), or held-out nats per observation.

    `p` counts free parameters, $\ell$ is the log-likelihood, `n` the observed tokens or numbers. AIC and BIC are asymptotic
    and assume an identifiable model; held-out data assume nothing.

    **Arguments:** `kinds`, at least one, as `fit` takes them; `criterion`, `"aic"`, `"bic"` or `"held_out"`, which needs
    `held_out` sequences (a token impossible there scores infinity); `key` and options go to `fit`; `executor`, whose workers
    fit the kinds side by side (see `sweep`), to the same numbers.

    **Raises:** `ConfigurationError` for no kinds, an unknown criterion or missing held-out data; `WorkerError` as `sweep`.
    """
    kinds = list(kinds)
    if criterion not in ("aic", "bic", "held_out") or (criterion == "held_out" and held_out is None):
        raise ConfigurationError(f"criterion={criterion!r} needs to be 'aic', 'bic', or 'held_out' with held-out data.")
    if not kinds:
        raise ConfigurationError("select needs at least one kind of model, HMM(4) for instance.")
    keys = jax.random.split(as_key(key), len(kinds))
    cases = [(kind, data, each, held_out, options) for kind, each in zip(kinds, keys, strict=True)]
    return Selection(tuple(sweep(_candidate, cases, executor)), criterion)


def _candidate(case: tuple) -> Candidate:
    """One kind of `select`, fitted and measured."""
    kind, data, key, held_out, options = case
    fitted = fit(kind, data, key, **options)
    value, error = None, None
    if held_out is not None:
        skip = {"on_impossible": "skip"} if isinstance(fitted.model, HiddenMarkovModel | AbstractConditionalHMM) else {}
        scores = score(fitted.model, held_out, **skip)
        value, error = scores.cross_entropy, scores.standard_error if math.isfinite(scores.cross_entropy) else None
    return Candidate(kind, fitted, value, error)
