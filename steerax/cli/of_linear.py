"""`fit`, `predict`, `explain` and `forecast` for linear-Gaussian models."""

import pathlib
from typing import Any

import jax
import numpy as np

import steerax as sx

from .kinds import Answer

PACKAGED = "statsmodels:"  # in front of the name of a data set instead of a file


def fit(path: str, options: dict[str, Any]) -> Answer:
    """Maximum likelihood; with several sequences, the log-likelihood of held-out ones."""
    if options["resume"]:
        raise sx.ConfigurationError("Fits of linear models are not kept while they run; leave out --resume.")
    data = _read(path, options)
    if options["held_out"] > 0 and data.number > 1:
        training, held_out = data.split(options["held_out"], options["seed"])
    else:
        training, held_out = data, None
    found = sx.fit(
        sx.LinearGaussian(options["states"], order=options["order"]),
        training,
        jax.random.key(options["seed"]),
        max_iterations=options["iterations"],
        tolerance=options["tolerance"],
    )
    folder = options["out"] or f"runs/{pathlib.Path(path.removeprefix(PACKAGED)).stem}-linear"
    sx.save(found.model, folder)
    numbers = int(np.isfinite(training.values).sum())
    record = {
        "model": str(folder),
        "log_likelihood": float(found.log_likelihoods[-1]),
        "bic": float(found.bic),
        "iterations": len(found.log_likelihoods) - 1,
        "outcome": sx.RESULTS[found.result],
        "states": options["states"],
        "order": options["order"],
        "observed": numbers,
    }
    lines = [
        f"{numbers} observed numbers in {training.number} sequences",
        f"log-likelihood {record['log_likelihood']:.4f} nats after {record['iterations']} iterations, "
        f"BIC {record['bic']:.2f}",
    ]
    if held_out is not None:
        per_number = float(sx.filter(found.model, held_out).log_likelihood.sum())
        per_number /= int(np.isfinite(held_out.values).sum())
        record["held_out_log_likelihood"] = per_number
        lines.append(f"held-out log-likelihood {per_number:.4f} nats per number")
    lines += [line for line in (record["outcome"], f"model in {folder}") if line]
    return Answer(record, "\n".join(lines))


def predict(model: sx.LinearGaussianModel, path: str, options: dict[str, Any]) -> Answer:
    """The next observation of each sequence, with its standard deviation."""
    data = _read(path, options)
    found = sx.forecast(model, data, 1)
    mean = np.asarray(found.mean)[:, 0]
    sd = np.sqrt(np.diagonal(np.asarray(found.covariance)[:, 0], axis1=1, axis2=2))
    names = data.names or tuple(str(i) for i in range(data.number))
    rows = [{"sequence": n, "mean": m.tolist(), "sd": s.tolist()} for n, m, s in zip(names, mean, sd, strict=True)]
    lines = [f"{n}: " + _numbers(m, s) for n, m, s in zip(names, mean, sd, strict=True)]
    table = [["sequence", "channel", "mean", "sd"]]
    table += [[n, c, m[c], s[c]] for n, m, s in zip(names, mean, sd, strict=True) for c in range(len(m))]
    return Answer({"sequences": rows}, "\n".join(lines), table)


def explain(model: sx.LinearGaussianModel, path: str, options: dict[str, Any]) -> Answer:
    """The prior and the terms of one prediction of the first channel, largest first."""
    z = _one(_read(path, options), options["number"])
    e = sx.explain(model, z, options["query"], "next")
    time, prior = int(e.queries[0]), float(e.prior[0, 0])
    terms = np.asarray(e.weights)[0, :time, 0]
    largest = np.argsort(-np.abs(terms))[: options["top"]]
    record = {
        "time": time,
        "prediction": prior + float(terms.sum()),
        "prior": prior,
        "terms": [{"position": int(s), "observation": _value(z[s, 0]), "term": float(terms[s])} for s in largest],
        "sum_of_all_terms": float(terms.sum()),
    }
    lines = [f"prediction {record['prediction']:.6g} = prior {prior:.6g} + {terms.sum():.6g} from {time} observations"]
    lines += [f"{s:8d} {z[s, 0]:12.6g} {terms[s]:+.6g}" for s in largest]
    table = [["position", "observation", "term"], *([s, z[s, 0], terms[s]] for s in range(time))]
    return Answer(record, "\n".join(lines), table)


def forecast(model: sx.LinearGaussianModel, path: str, options: dict[str, Any]) -> Answer:
    """Mean and interval of each of the next observations."""
    z = _one(_read(path, options), options["number"])
    found = sx.forecast(model, z, options["steps"])
    mean, ends = np.asarray(found.mean), np.asarray(found.interval(options["coverage"]))
    steps = [{"mean": m.tolist(), "interval": e.tolist()} for m, e in zip(mean, ends, strict=True)]
    lines = [
        f"+{j + 1}: " + "  ".join(f"{m:.6g} [{low:.6g}, {high:.6g}]" for m, (low, high) in zip(row, e, strict=True))
        for j, (row, e) in enumerate(zip(mean, ends, strict=True))
    ]
    table = [["step", "channel", "mean", "low", "high"]]
    table += [[j + 1, c, mean[j, c], *ends[j, c]] for j in range(len(mean)) for c in range(mean.shape[1])]
    return Answer({"coverage": options["coverage"], "steps": steps}, "\n".join(lines), table)


def _read(path: str, options: dict[str, Any]) -> sx.Sequences:
    """Observations; for a table, `--tokens a,b` names the columns of numbers."""
    columns = options["tokens"].split(",")
    if path.startswith(PACKAGED):
        return _packaged(path.removeprefix(PACKAGED), columns)
    table = pathlib.Path(path).suffix in (".csv", ".tsv", ".parquet")
    data = sx.read(path, sequence=options["sequence"], values=columns if table else None)
    if data.is_tokens:
        return sx.Sequences.from_arrays([np.where(s < 0, np.nan, s).astype(float) for s in data], names=data.names)
    return data


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


def _one(data: sx.Sequences, number: int) -> np.ndarray:
    if not 0 <= number < data.number:
        raise sx.DataError(f"There is no sequence {number}; the data hold {data.number}, counted from 0.")
    return data[number]


def _value(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _numbers(mean: np.ndarray, sd: np.ndarray) -> str:
    return "  ".join(f"{m:.6g} ± {s:.3g}" for m, s in zip(mean, sd, strict=True))
