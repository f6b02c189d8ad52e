"""`fit`, `predict`, `explain` and `forecast` for hidden Markov models."""

import math
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

import steerax as sx
from steerax.data.scores import TokenScores

from .kinds import Answer


def fit(path: str, options: dict[str, Any]) -> Answer:
    """Baum–Welch on the training sequences; the cross-entropy of the held-out ones."""
    data = _read(path, options, None)
    if options["cut"] is not None:
        data = data.cut(options["cut"])
    if options["held_out"] > 0 and data.number > 1:
        training, held_out = data.split(options["held_out"], options["seed"])
    else:
        training, held_out = data, None
    folder = options["out"] or f"runs/{pathlib.Path(path).stem}-hmm"
    unfinished = pathlib.Path(f"{folder}.unfinished")  # the run, beside the model it will become
    if not options["resume"]:
        if any(unfinished.glob("checkpoints/[0-9]*")):
            raise sx.ConfigurationError(
                f"{unfinished} holds a fit that was stopped; go on with --resume, or remove it to start again."
            )
        shutil.rmtree(unfinished, ignore_errors=True)
    found = sx.fit(
        sx.HMM(options["states"], order=options["order"]),
        training,
        jax.random.key(options["seed"]),
        restarts=options["restarts"],
        max_iterations=options["iterations"],
        tolerance=options["tolerance"],
        pseudocounts=options["pseudocount"],
        run_folder=unfinished,
        resume=options["resume"],
    )
    sx.save(found.model, folder)
    if found.result != sx.RESULTS.interrupted:
        shutil.rmtree(unfinished)
    nats = -found.log_likelihoods[-1] / training.n_observed
    record = {
        "model": str(folder),
        "training_cross_entropy": float(nats),
        "iterations": len(found.log_likelihoods) - 1,
        "outcome": sx.RESULTS[found.result],
        "states": options["states"],
        "order": options["order"],
        "tokens": training.n_observed,
    }
    lines = [
        f"{training.n_observed} tokens of {training.n_tokens} symbols in {training.number} sequences",
        f"training cross-entropy {nats:.4f} nats per token after {record['iterations']} iterations",
    ]
    if held_out is not None and held_out.n_observed:
        scores = sx.score(found.model, held_out, on_impossible="skip")
        record["held_out_cross_entropy"], record["held_out_standard_error"], shown = _cross_entropy(scores)
        lines.append(f"held-out cross-entropy {shown} ({held_out.n_observed} tokens)")
    more = "go on with --resume" if found.result == sx.RESULTS.interrupted else ""
    lines += [line for line in (record["outcome"], more, f"model in {folder}") if line]
    return Answer(record, "\n".join(lines))


def predict(model: sx.HiddenMarkovModel, path: str, options: dict[str, Any]) -> Answer:
    """The likeliest next tokens of each sequence, and the cross-entropy so far."""
    data = _read(path, options, model)
    names = data.names or tuple(str(i) for i in range(data.number))
    laws = np.asarray(sx.forecast(model, _possible(model, data, options), 1).probabilities)[:, 0]
    scores = sx.score(model, data, on_impossible=options["on_impossible"])
    rows, lines = [], []
    for name, law in zip(names, laws, strict=True):
        best = np.argsort(-law)[: options["top"]]
        rows.append({"sequence": name, "next": {_symbol(model, z): float(law[z]) for z in best}})
        lines.append(f"{name}: " + "  ".join(f"{_symbol(model, z)!r} {law[z]:.4f}" for z in best))
    value, _, shown = _cross_entropy(scores)
    lines.append(f"cross-entropy so far {shown}")
    record = {"sequences": rows, "cross_entropy": value}
    table = [["sequence", "token", "probability"]]
    table += [[n, _symbol(model, z), p] for n, law in zip(names, laws, strict=True) for z, p in enumerate(law)]
    return Answer(record, "\n".join(lines), table)


def explain(model: sx.HiddenMarkovModel, path: str, options: dict[str, Any]) -> Answer:
    """The prior and the terms of one prediction, largest first."""
    data = _read(path, options, model)
    z = _one(data, options["number"])
    filtered = sx.filter(model, z, options["on_impossible"])
    law = np.asarray(filtered.next_all())[options["query"]]
    token = int(law.argmax()) if options["token"] is None else _code(model, options["token"])
    target = model.emission[:, token : token + 1]
    e = sx.explain(model, z, options["query"], target, on_impossible=options["on_impossible"])
    time = int(e.queries[0])
    prior, terms = float(e.prior[0, 0]), np.asarray(e.weights)[0, :time, 0]
    largest = np.argsort(-np.abs(terms))[: options["top"]]
    name = _symbol(model, token)
    record = {
        "token": name,
        "time": time,
        "probability": float(law[token]),
        "prior": prior,
        "terms": [
            {"position": int(s), "token": _symbol(model, z[s]), "term": float(terms[s])} for s in map(int, largest)
        ],
        "sum_of_all_terms": float(terms.sum()),
    }
    lines = [f"P(next = {name!r}) = {law[token]:.6f} = prior {prior:.6f} + {terms.sum():.6f} from {time} tokens"]
    lines += [f"{s:8d} {_symbol(model, z[s])!r:>8} {terms[s]:+.6f}" for s in map(int, largest)]
    table = [["position", "token", "term"], *([s, _symbol(model, z[s]), terms[s]] for s in range(time))]
    return Answer(record, "\n".join(lines), table)


def forecast(model: sx.HiddenMarkovModel, path: str, options: dict[str, Any]) -> Answer:
    """The law of each of the next tokens, and the smallest set that covers it."""
    z = _one(_read(path, options, model), options["number"])
    z = np.asarray(sx.filter(model, z, options["on_impossible"]).tokens)
    found = sx.forecast(model, z, options["steps"])
    laws, sets = np.asarray(found.probabilities), np.asarray(found.interval(options["coverage"]))
    record, lines = {"coverage": options["coverage"], "steps": []}, []
    for j, (law, chosen) in enumerate(zip(laws, sets, strict=True)):
        members = [z for z in np.argsort(-law) if chosen[z]]
        record["steps"].append({_symbol(model, z): float(law[z]) for z in members})
        lines.append(f"+{j + 1}: " + "  ".join(f"{_symbol(model, z)!r} {law[z]:.4f}" for z in members[:8]))
        lines[-1] += f"  … {len(members)} tokens" if len(members) > 8 else ""
    table = [["step", "token", "probability"]]
    table += [[j + 1, _symbol(model, z), p] for j, law in enumerate(laws) for z, p in enumerate(law)]
    return Answer(record, "\n".join(lines), table)


def _cross_entropy(scores: TokenScores) -> tuple[float | None, float | None, str]:
    """Nats per token and their standard error as JSON values, and in words; one sequence has no spread to judge by."""
    value, error = scores.cross_entropy, scores.standard_error
    if not math.isfinite(value):
        return None, None, "infinite"
    if len(scores.scored) == 1:
        return value, None, f"{value:.4f} nats per token"
    return value, error, f"{value:.4f} ± {error:.4f} nats per token"


def _read(path: str, options: dict[str, Any], model: sx.HiddenMarkovModel | None) -> sx.Sequences:
    vocabulary = None if model is None else model.vocabulary
    return sx.read(path, options["tokens"], options["sequence"], vocabulary, words=options["words"])


def _possible(model, data: sx.Sequences, options) -> sx.Sequences:
    """The data with impossible tokens refused, or made missing on request."""
    found = sx.filter(model, data, options["on_impossible"])
    return sx.Sequences(np.asarray(found.tokens).T, data.lengths)


def _one(data: sx.Sequences, number: int) -> np.ndarray:
    if not 0 <= number < data.number:
        raise sx.DataError(f"There is no sequence {number}; the data hold {data.number}, counted from 0.")
    return data[number]


def _symbol(model: sx.HiddenMarkovModel, code: int | np.integer) -> str:
    if code < 0:
        return "missing"
    return str(code) if model.vocabulary is None else model.vocabulary.symbols[code]


def _code(model: sx.HiddenMarkovModel, symbol: str) -> int:
    vocabulary = model.vocabulary or sx.Vocabulary.of_codes(model.n_tokens)
    return int(vocabulary.encode([symbol])[0])
