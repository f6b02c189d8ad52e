"""`fit`, `predict`, `explain` and `forecast` for linear-Gaussian models."""

import pathlib
from typing import Any

import jax
import numpy as np

import steerax as sx

from ..inference.results import Fitted
from .answers import Answer, Terms, names_of
from .options import PACKAGED, ExplainOptions, FitOptions, ForecastOptions, PredictOptions, TableOptions


def read(path: str, table: TableOptions, model: Any = None) -> sx.Sequences:
    """Observations; for a table, `--tokens a,b` names the columns of numbers."""
    columns = table.tokens.split(",")
    if path.startswith(PACKAGED):
        return _packaged(path.removeprefix(PACKAGED), columns)
    is_table = pathlib.Path(path).suffix in (".csv", ".tsv", ".parquet")
    data = sx.Sequences.read(path, sequence=table.sequence, values=columns if is_table else None)
    if data.is_tokens:
        return sx.Sequences.from_arrays([np.where(s < 0, np.nan, s).astype(float) for s in data], names=data.names)
    return data


def learn(training: sx.Sequences, options: FitOptions) -> Fitted:
    """Maximum likelihood."""
    if options.resume:
        raise sx.ConfigurationError("Fits of linear models are not kept while they run; leave out --resume.")
    fitted = sx.fit(
        sx.LinearGaussian(options.states, options.order),
        training,
        jax.random.key(options.seed),
        max_iterations=options.iterations,
        tolerance=options.tolerance,
    )
    sx.save(fitted.model, options.folder)
    return fitted


def measured(fitted: Fitted, training: sx.Sequences, held_out: sx.Sequences | None) -> tuple[dict[str, Any], list[str]]:
    """The log-likelihood of the training sequences and of the held-out ones."""
    record = {"log_likelihood": fitted.log_likelihood, "bic": fitted.bic, "observed": fitted.n_observed}
    lines = [
        f"{fitted.n_observed} observed numbers in {training.number} sequences",
        f"log-likelihood {fitted.log_likelihood:.4f} nats after {len(fitted.log_likelihoods) - 1} iterations, "
        f"BIC {fitted.bic:.2f}",
    ]
    if held_out is not None:
        record["held_out_log_likelihood"] = -sx.score(fitted.model, held_out).cross_entropy
        lines.append(f"held-out log-likelihood {record['held_out_log_likelihood']:.4f} nats per number")
    return record, lines


def predict(model: sx.LinearGaussianModel, data: sx.Sequences, options: PredictOptions) -> Answer:
    """The next observation of each sequence, with its standard deviation."""
    ahead = sx.forecast(model, data, 1)
    means = np.asarray(ahead.mean)[:, 0]
    sds = np.sqrt(np.diagonal(np.asarray(ahead.covariance)[:, 0], axis1=1, axis2=2))
    rows, lines, table = [], [], [["sequence", "channel", "mean", "sd"]]
    for name, mean, sd in zip(names_of(data), means, sds, strict=True):
        rows.append({"sequence": name, "mean": mean, "sd": sd})
        lines.append(f"{name}: " + "  ".join(f"{m:.6g} ± {s:.3g}" for m, s in zip(mean, sd, strict=True)))
        table += [[name, channel, mean[channel], sd[channel]] for channel in range(len(mean))]
    return Answer({"sequences": rows}, "\n".join(lines), table)


def explain(model: sx.LinearGaussianModel, z: np.ndarray, options: ExplainOptions) -> Answer:
    """The prior and the terms of one prediction of the first channel, largest first."""
    terms = Terms.of(sx.explain(model, z, options.query, "next"), options.top)
    prediction = terms.prior + terms.sum
    return terms.answer(
        {"prediction": prediction},
        f"prediction {prediction:.6g} = prior {terms.prior:.6g} + {terms.sum:.6g} from {terms.time} observations",
        "observation",
        z[:, 0],
        "{:12.6g}",
    )


def forecast(model: sx.LinearGaussianModel, z: np.ndarray, options: ForecastOptions) -> Answer:
    """Mean and interval of each of the next observations."""
    ahead = sx.forecast(model, z, options.steps)
    steps, lines, table = [], [], [["step", "channel", "mean", "low", "high"]]
    ends = np.asarray(ahead.interval(options.coverage))
    for step, (mean, interval) in enumerate(zip(np.asarray(ahead.mean), ends, strict=True), start=1):
        rows = [(m, low, high) for m, (low, high) in zip(mean, interval, strict=True)]
        steps.append({"mean": mean, "interval": interval})
        lines.append(f"+{step}: " + "  ".join(f"{m:.6g} [{low:.6g}, {high:.6g}]" for m, low, high in rows))
        table += [[step, channel, *row] for channel, row in enumerate(rows)]
    return Answer({"coverage": options.coverage, "steps": steps}, "\n".join(lines), table)


def _packaged(name: str, columns: list[str]) -> sx.Sequences:
    """Columns of a data set that comes with statsmodels, as one sequence."""
    try:
        import statsmodels.datasets as datasets
    except ImportError:
        raise sx.ConfigurationError(
            f"{PACKAGED}{name} needs the package statsmodels; install it or give a file."
        ) from None
    load = getattr(getattr(datasets, name, None), "load_pandas", None)
    if load is None:
        raise sx.DataError(f"statsmodels has no data set {name!r}; sunspots, co2 and macrodata are three that it has.")
    table = load().data
    if missing := [c for c in columns if c not in table]:
        raise sx.DataError(
            f"The data set {name!r} has no column {missing[0]!r}; name some of {', '.join(table)} with --tokens."
        )
    return sx.Sequences.from_arrays([np.asarray(table[columns], float)], names=[name])
