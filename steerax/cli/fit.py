"""`steerax fit`: learn a model from sequences."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import steerax as sx

from .._bounds import COUNT, NOT_NEGATIVE, Range
from .._errors import ConfigurationError
from ..data.sequences import Sequences
from ..inference.kinds import EMISSIONS, Start
from ..runs.files import try_place
from ..runs.folder import Lock, discard
from .answers import Answer, in_words, standard_error
from .inputs import read_series, read_tokens
from .options import PACKAGED, Data, Overwrite, Seed, TableOptions, command
from .regressors import Regressors, input_columns, split_columns, without_effect

EMITTED = ("categorical", *EMISSIONS)  # tokens, and kinds of numbers


@dataclasses.dataclass(frozen=True)
class _Options(TableOptions):
    data: Data
    _: dataclasses.KW_ONLY
    model: Annotated[str, "kind of model: hmm (tokens, or numbers with --emission) or linear (real numbers)"] = "hmm"
    emission: Annotated[str, f"what an hmm emits: {', '.join(EMITTED)}"] = "categorical"
    states: Annotated[int, "number of hidden states", COUNT] = 8
    order: Annotated[int, "how many past states the next one depends on", COUNT] = 1
    start: Annotated[str, "first state of a linear model: stationary, diffuse (no level of its own) or free"] = (
        "stationary"
    )
    inputs: Annotated[
        str | None, "columns of known inputs, such as price,holiday (linear, or --emission regression)"
    ] = None
    restarts: Annotated[int, "random starts; the best one is kept (hmm)", COUNT] = 3
    iterations: Annotated[int, "largest number of iterations", COUNT] = 200
    tolerance: Annotated[float, "stop at a smaller gain, in nats per observation", NOT_NEGATIVE] = 1e-6
    shrinkage: Annotated[float, "weight of the prior of emissions of numbers, in observations (hmm)", NOT_NEGATIVE] = (
        1.0
    )
    pseudocount: Annotated[float, "added to every expected count; 0 is maximum likelihood (hmm)", NOT_NEGATIVE] = 0.1
    cut: Annotated[int | None, "cut sequences into pieces of at most this length", COUNT] = None
    held_out: Annotated[float, "share of the sequences kept to measure the model", Range(0, 1)] = 0.1
    out: Annotated[str | None, "folder for the model  [default: runs/DATA-MODEL]"] = None
    overwrite: Overwrite = False
    save_every: Annotated[float, "seconds between checkpoints (hmm)", NOT_NEGATIVE] = 30.0
    resume: Annotated[bool, "go on with a stopped fit of the same data and options (hmm)"] = False
    seed: Seed = 0

    @property
    def folder(self) -> Path:
        """Where the model goes."""
        return Path(self.out or f"runs/{Path(self.data.removeprefix(PACKAGED)).stem}-{self.model}")

    @property
    def unfinished(self) -> Path:
        """Where a fit is kept while it runs: beside the folder of the model."""
        return Path(f"{self.folder}.unfinished")


@command
def fit(options: _Options) -> Answer:
    """Learn a model from sequences and save it. Example: `steerax fit text.txt --states 16 --cut 256`.

    A series with regimes: `steerax fit returns.csv --tokens close --emission student-t --states 2`.
    """
    from ..runs.models import check_place

    if options.model not in ("hmm", "linear"):
        raise ConfigurationError(f"There is no model called {options.model!r}; choose hmm or linear.")
    is_hmm = options.model == "hmm"
    if options.emission not in EMITTED or (options.emission != "categorical" and not is_hmm):
        allowed = f"choose one of {', '.join(EMITTED)}" if is_hmm else "a linear model has none"
        raise ConfigurationError(f"--emission {options.emission} is unknown here; {allowed}.")
    of_tokens = is_hmm and options.emission == "categorical"
    if options.resume and not is_hmm:
        raise ConfigurationError("Fits of linear models are not kept while they run; leave out --resume.")
    if options.inputs is not None and is_hmm and options.emission != "regression":
        raise ConfigurationError(
            "Known inputs are of linear models and of regressions; leave out --inputs, or say --model linear or --emission regression."
        )
    inputs = input_columns(options.inputs, options.names)
    if options.emission == "regression" and not inputs:
        raise ConfigurationError(
            "A regression reads known inputs; name their columns, --inputs price,holiday for instance."
        )
    try_place(options.folder, folder=True)
    stopped = any(options.unfinished.glob("checkpoints/[0-9]*"))
    check_place(options.folder, options.overwrite or (options.resume and stopped))
    data = read_tokens(options.data, options) if of_tokens else read_series(options.data, options, inputs=inputs)
    data = data if options.cut is None else data.cut(options.cut)
    training, held_out = data, None
    if options.held_out > 0 and data.number > 1:
        training, held_out = data.split(options.held_out, options.seed)
    if not options.resume:
        if stopped and not options.overwrite:
            raise ConfigurationError(
                f"{options.unfinished} holds a stopped fit; go on with --resume, or discard it with --overwrite."
            )
        discard(options.unfinished)
    lock = Lock(options.unfinished)
    fitted, regressors = _fit_hmm(training, options, inputs) if is_hmm else _fit_series(training, options, inputs)
    interrupted = fitted.result == sx.RESULTS.interrupted
    kept = interrupted and is_hmm  # with all that a fit needs to go on; a linear model is saved as far as it came
    if not kept:
        sx.save(fitted.model, options.folder, overwrite=True, format=options.given, inputs=regressors.record)
        del lock
        discard(options.unfinished)
    outcome, n_iterations = sx.RESULTS[fitted.result], len(fitted.log_likelihoods) - 1
    record = {"model": None if kept else str(options.folder), "iterations": n_iterations, "outcome": outcome}
    record |= {"states": options.states, "order": options.order}
    record |= {"emission": options.emission} if is_hmm else {}
    if of_tokens:
        measured, lines = _measure_tokens(fitted, training, held_out)
    else:
        held_out = None if held_out is None else without_effect(held_out, regressors)
        measured, lines = _measure_series(fitted, training, held_out)
    lines += [outcome] if outcome else []
    lines += ["nothing is lost: go on with --resume" if kept else f"model in {options.folder}"]
    return Answer(record | measured, "\n".join(lines), code=130 if interrupted else 0)


def _fit_hmm(training: Sequences, options: _Options, inputs: list[str]) -> tuple[Any, Regressors]:
    numbers = options.emission != "categorical"
    # no transition is ruled out by what happened to be seen, as for tokens; emissions of numbers have a prior of their own
    prior = {"shrinkage": options.shrinkage} if numbers else {}
    emission = sx.emissions.Regression.kind(inputs=len(inputs)) if inputs else options.emission
    fitted = sx.fit(
        sx.HMM(options.states, order=options.order, emission=emission),
        training,
        options.seed,
        restarts=options.restarts,
        max_iterations=options.iterations,
        tolerance=options.tolerance,
        pseudocounts=options.pseudocount,
        run_folder=options.unfinished,
        resume=options.resume,
        save_every=options.save_every,
        **prior,
    )
    return fitted, Regressors()


def _fit_series(training: Sequences, options: _Options, inputs: list[str]) -> tuple[Any, Regressors]:
    known = None
    if inputs:
        training, known = split_columns(training, len(inputs))
    kind = sx.LinearGaussian(options.states, options.order, known, start=_start(options.start))
    fitted = sx.fit(kind, training, options.seed, max_iterations=options.iterations, tolerance=options.tolerance)
    return fitted, Regressors(tuple(inputs), fitted.input_weights) if inputs else Regressors()


def _start(name: str) -> Start:
    if name not in get_args(Start):
        raise ConfigurationError(f"There is no start called {name!r}; choose stationary, diffuse or free.")
    return cast(Start, name)


def _measure_tokens(fitted: Any, training: Sequences, held_out: Sequences | None) -> tuple[dict, list[str]]:
    """Cross-entropies of the training and the held-out sequences, as a record and as lines."""
    nats = -fitted.log_likelihood / training.n_observed
    record = {"training_cross_entropy": nats, "tokens": training.n_observed}
    lines = [
        f"{training.n_observed} tokens of {training.n_tokens} symbols in {training.number} sequence{'s' * (training.number > 1)}",
        f"training cross-entropy {nats:.4f} nats per token after {len(fitted.log_likelihoods) - 1} iterations",
    ]
    if held_out is not None and held_out.n_observed:
        scores = sx.score(fitted.model, held_out, on_impossible="skip")
        record["held_out_cross_entropy"] = scores.cross_entropy
        record["held_out_standard_error"] = standard_error(scores)
        lines.append(f"held-out cross-entropy {in_words(scores)} ({held_out.n_observed} tokens)")
    return record, lines


def _measure_series(fitted: Any, training: Sequences, held_out: Sequences | None) -> tuple[dict, list[str]]:
    """Log-likelihoods of the training and the held-out sequences, as a record and as lines."""
    noun = "observation" if hasattr(fitted.model, "emits_tokens") else "observed number"
    record = {"log_likelihood": fitted.log_likelihood, "bic": fitted.bic, "observed": fitted.n_observed}
    lines = [
        f"{fitted.n_observed} {noun}s in {training.number} sequence{'s' * (training.number > 1)}",
        f"log-likelihood {fitted.log_likelihood:.4f} nats after {len(fitted.log_likelihoods) - 1} iterations, "
        f"BIC {fitted.bic:.2f}",
    ]
    if held_out is not None:
        skip = {"on_impossible": "skip"} if noun == "observation" else {}
        record["held_out_log_likelihood"] = -sx.score(fitted.model, held_out, **skip).cross_entropy
        lines.append(
            f"held-out log-likelihood {record['held_out_log_likelihood']:.4f} nats per {noun.removeprefix('observed ')}"
        )
    return record, lines
