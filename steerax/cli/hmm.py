"""`fit`, `predict`, `explain` and `forecast` for hidden Markov models."""

import math
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

import steerax as sx

from ..data.scores import TokenScores
from ..inference.results import Fitted
from .answers import Answer, Terms, names_of
from .options import ExplainOptions, FitOptions, ForecastOptions, PredictOptions, TableOptions


def read(path: str, table: TableOptions, model: sx.HiddenMarkovModel | None = None) -> sx.Sequences:
    """Tokens, in the vocabulary of the model if there is one."""
    vocabulary = None if model is None else model.vocabulary
    return sx.Sequences.read(path, table.tokens, table.sequence, vocabulary, words=table.words)


def learn(training: sx.Sequences, options: FitOptions) -> Fitted:
    """Baum–Welch, kept while it runs in a folder beside that of the model."""
    unfinished = pathlib.Path(f"{options.folder}.unfinished")
    if not options.resume:
        if any(unfinished.glob("checkpoints/[0-9]*")):
            raise sx.ConfigurationError(
                f"{unfinished} holds a fit that was stopped; go on with --resume, or remove it to start again."
            )
        shutil.rmtree(unfinished, ignore_errors=True)
    fitted = sx.fit(
        sx.HMM(options.states, order=options.order),
        training,
        jax.random.key(options.seed),
        restarts=options.restarts,
        max_iterations=options.iterations,
        tolerance=options.tolerance,
        pseudocounts=options.pseudocount,
        run_folder=unfinished,
        resume=options.resume,
    )
    sx.save(fitted.model, options.folder)
    if fitted.result != sx.RESULTS.interrupted:
        shutil.rmtree(unfinished)
    return fitted


def measured(fitted: Fitted, training: sx.Sequences, held_out: sx.Sequences | None) -> tuple[dict[str, Any], list[str]]:
    """The cross-entropy of the training sequences and of the held-out ones."""
    nats = -fitted.log_likelihood / training.n_observed
    record: dict[str, Any] = {"training_cross_entropy": nats, "tokens": training.n_observed}
    lines = [
        f"{training.n_observed} tokens of {training.n_tokens} symbols in {training.number} sequences",
        f"training cross-entropy {nats:.4f} nats per token after {len(fitted.log_likelihoods) - 1} iterations",
    ]
    if held_out is not None and held_out.n_observed:
        scores = sx.score(fitted.model, held_out, on_impossible="skip")
        record["held_out_cross_entropy"] = scores.cross_entropy
        record["held_out_standard_error"] = _standard_error(scores)
        lines.append(f"held-out cross-entropy {_shown(scores)} ({held_out.n_observed} tokens)")
    return record, lines


def predict(model: sx.HiddenMarkovModel, data: sx.Sequences, options: PredictOptions) -> Answer:
    """The likeliest next tokens of each sequence, and the cross-entropy so far."""
    next_tokens = sx.forecast(model, data, 1, on_impossible=options.on_impossible)
    scores = sx.score(model, data, on_impossible=options.on_impossible)
    symbols = _symbols(model)
    rows, lines, table = [], [], [["sequence", "token", "probability"]]
    for name, p in zip(names_of(data), np.asarray(next_tokens.probabilities)[:, 0], strict=True):
        best = np.argsort(-p)[: options.top]
        rows.append({"sequence": name, "next": {symbols[z]: p[z] for z in best}})
        lines.append(f"{name}: {_ranked(symbols, p, best)}")
        table += [[name, *row] for row in zip(symbols, p, strict=True)]
    lines.append(f"cross-entropy so far {_shown(scores)}")
    return Answer({"sequences": rows, "cross_entropy": scores.cross_entropy}, "\n".join(lines), table)


def explain(model: sx.HiddenMarkovModel, z: np.ndarray, options: ExplainOptions) -> Answer:
    """The prior and the terms of one prediction, largest first."""
    p = np.asarray(sx.filter(model, z, on_impossible=options.on_impossible).next(options.query))
    symbols = _symbols(model)
    token = int(p.argmax()) if options.token is None else int(sx.Vocabulary(symbols).encode([options.token])[0])
    target = model.emission[:, token : token + 1]
    explanation = sx.explain(model, z, options.query, target, on_impossible=options.on_impossible)
    terms, name = Terms.of(explanation, options.top), symbols[token]
    return terms.answer(
        {"token": name, "probability": p[token]},
        f"P(next = {name!r}) = {p[token]:.6f} = prior {terms.prior:.6f} + {terms.sum:.6f} from {terms.time} tokens",
        "token",
        ["missing" if code < 0 else symbols[code] for code in z],
        "{!r:>8}",
    )


def forecast(model: sx.HiddenMarkovModel, z: np.ndarray, options: ForecastOptions) -> Answer:
    """The distribution of each of the next tokens, and the smallest set that covers it."""
    ahead = sx.forecast(model, z, options.steps, on_impossible=options.on_impossible)
    sets, symbols = np.asarray(ahead.interval(options.coverage)), _symbols(model)
    steps, lines, table = [], [], [["step", "token", "probability"]]
    for step, (p, chosen) in enumerate(zip(np.asarray(ahead.probabilities), sets, strict=True), start=1):
        members = [code for code in np.argsort(-p) if chosen[code]]
        steps.append({symbols[code]: p[code] for code in members})
        more = f"  … {len(members)} tokens" if len(members) > 8 else ""
        lines.append(f"+{step}: {_ranked(symbols, p, members[:8])}{more}")
        table += [[step, *row] for row in zip(symbols, p, strict=True)]
    return Answer({"coverage": options.coverage, "steps": steps}, "\n".join(lines), table)


def _symbols(model: sx.HiddenMarkovModel) -> tuple[str, ...]:
    return (model.vocabulary or sx.Vocabulary.of_codes(model.n_tokens)).symbols


def _ranked(symbols: tuple[str, ...], p: np.ndarray, codes: Iterable[int]) -> str:
    return "  ".join(f"{symbols[code]!r} {p[code]:.4f}" for code in codes)


def _standard_error(scores: TokenScores) -> float | None:
    """Nats per token, as a JSON value; one sequence has no spread to judge by."""
    return scores.standard_error if len(scores.scored) > 1 and math.isfinite(scores.cross_entropy) else None


def _shown(scores: TokenScores) -> str:
    """The cross-entropy and its standard error in words."""
    if not math.isfinite(scores.cross_entropy):
        return "infinite"
    error = _standard_error(scores)
    return f"{scores.cross_entropy:.4f}{'' if error is None else f' ± {error:.4f}'} nats per token"
