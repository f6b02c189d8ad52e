"""The comparison from end to end: source → models → scores → window → report."""

import json
import pathlib
import shutil
import sys
import time
from typing import Any

import jax
import numpy as np

from ... import __version__
from ..._errors import ConfigurationError
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...inference.hmm.dual import dual_filter_tokens
from ...inference.hmm.explain import explain_norms, explain_tokens
from ...inference.hmm.filter import filter_tokens, next_tokens, score_tokens
from ...inference.reference import Reference, support
from ...models.entropy import conditional_entropy
from ...models.hmm import HiddenMarkovModel
from ...report import page
from ...runs import models
from ...runs.files import RunFolder, content_hash, write_whole
from ...transformer.gpt import GPT
from . import content, networks
from .config import Config
from .contributions import adapted_weights, hmm_predictor, path_contributions
from .predictors import gpt_log_probabilities, gpt_probabilities
from .result import Result
from .scores import Score, bigram, count_log_probabilities, score, unigram
from .sources import Source, resolve
from .window import Agreement, Window, agree

LAYERS_SHOWN = (1, 4, 16)
SEQUENCES_FOR_LAYERS = 64
SMALL_VOCABULARY = 8  # the full U costs V times more
REFERENCES = {
    "support": "uniform over the tokens that can come next under the process",
    "uniform": "uniform over all tokens",
    "hmm": "drawn from the hidden Markov model",
}


class Interrupted(Exception):
    """Training was interrupted by Ctrl-C; its checkpoint is in the folder. The message says how to go on."""


def run(config: Config, resume: bool = False, overwrite: bool = False, train: bool = True) -> Result:
    """Compare, write `compare.html`, `compare.json` and the two models into `config.folder`, and return the findings.

    **Arguments:** `resume`, whether an unfinished comparison in the folder is continued; `overwrite`, whether it is
    discarded; `train`, False to report on what an unfinished one has trained so far.

    **Raises:** `SteeraxError` for input that cannot be used; `Interrupted` on Ctrl-C during training.
    """
    clock = Clock()
    source = resolve(config)
    shape = networks.shape_of(config, source)
    if config.folder.exists() and not config.folder.is_dir():
        raise ConfigurationError(f"{config.folder} is a file; give a folder to write to with --out.")
    unfinished = config.folder / "unfinished"
    if unfinished.exists() and not (resume or overwrite):
        raise ConfigurationError(
            f"{config.folder} holds an unfinished comparison; continue it with --resume, report on it with --report-only, "
            "discard it with --overwrite, or choose another --out."
        )
    if not train and not unfinished.exists():
        raise ConfigurationError(f"{config.folder} holds no unfinished comparison to report on.")
    if overwrite:
        shutil.rmtree(unfinished, ignore_errors=True)
    RunFolder(unfinished, identity(config, source), resume=True)

    say(f"{source.description}")
    hmm, model_text = networks.hidden_markov_model(config, source, unfinished / "hmm")
    clock.lap("hidden Markov model")
    trained = networks.gpt(config, source, shape, unfinished / "gpt", train)
    clock.lap("training the GPT")
    if trained.interrupted and train:
        raise Interrupted(
            f"Interrupted after {trained.steps:,} training steps; nothing is lost. Continue with --resume, or report on "
            "what is there with --report-only."
        )

    say("scoring held-out sequences")
    scores, floor = all_scores(config, source, hmm, trained.gpt)
    clock.lap("scores")
    say("looking at one window")
    window = look_at_window(config, source, hmm, trained.gpt)
    layers = layer_findings(source, hmm, window.tokens)
    clock.lap("window and layers")
    result = Result(
        config=config,
        description=source.description,
        model_text=model_text,
        network_text=trained.text,
        vocabulary=list(source.vocabulary.symbols),
        held_out=source.held_out.number,
        scored=int(source.held_out.mask[:, 1:].sum()),
        floor=floor,
        scores=scores,
        excess=excess_over(scores, "HMM filter"),
        **layers,
        window=window,
        agreements=agreements(window),
        facts=facts(source, hmm, trained.gpt, window),
        losses=trained.losses,
        steps=trained.steps,
        interrupted=trained.interrupted,
        seconds=clock.seconds,
        versions=versions(),
    )
    write(result, hmm, trained.gpt, source)
    if not trained.interrupted:
        shutil.rmtree(unfinished)
    return result


def versions() -> dict[str, str]:
    """Of the software that the numbers depend on."""
    return {
        "steerax": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


def identity(config: Config, source: Source) -> dict[str, Any]:
    """What makes two comparisons the same: the options and the data."""
    options = {k: v for k, v in vars(config).items() if k != "out"}
    return {"options": content_hash(options), "data": content_hash(source.training.values, source.held_out.values)}


def all_scores(config: Config, source: Source, hmm: HiddenMarkovModel, gpt: GPT) -> tuple[list[Score], float | None]:
    """Every predictor on the held-out sequences, simplest first, and the entropy floor if the process is known."""
    held_out, size = source.held_out, len(source.vocabulary)
    first, second = unigram(source.training, size), bigram(source.training, size)
    scores = [
        score("unigram", "baseline", count_log_probabilities(held_out, first), held_out),
        score("bigram", "baseline", count_log_probabilities(held_out, first, second), held_out),
    ]
    depth = held_out.max_length
    for layers in (*(n for n in LAYERS_SHOWN if n < depth), depth):
        found = dual_filter_tokens(hmm, held_out, layers=layers, initial="prior")
        p = np.asarray(found.predicted[:, 1:-1] @ hmm.emission)
        after = np.maximum(held_out.values[:, 1:], 0)
        with np.errstate(divide="ignore"):
            log_p = np.log(np.take_along_axis(p, after[..., None], axis=2)[..., 0])
        scores.append(score(f"dual filter, {layers} layer{'s' * (layers > 1)}", "dual", log_p, held_out))
    scores.append(score("HMM filter", "filter", score_tokens(hmm, held_out).log_likelihoods[:, 1:], held_out))
    scores.append(score("GPT", "transformer", gpt_log_probabilities(gpt, held_out), held_out))
    if source.process is None:
        return scores, None
    floor = conditional_entropy(source.process, config.length + 1, key=config.key("entropy"))
    return scores, float(floor.per_token[1:].mean())


def excess_over(scores: list[Score], name: str) -> dict[str, tuple[float, float]]:
    """Loss above that of the predictor `name` on the same sequences, nats per token, and its standard error."""
    base = next(s for s in scores if s.name == name).scores
    found = {}
    for s in scores:
        with np.errstate(invalid="ignore"):
            difference = TokenScores(s.scores.log_likelihoods - base.log_likelihoods, base.scored)
        finite = np.isfinite(difference.cross_entropy)
        found[s.name] = (
            (difference.cross_entropy, difference.standard_error) if finite else (float("inf"), float("nan"))
        )
    return found


def layer_findings(source: Source, hmm: HiddenMarkovModel, tokens: np.ndarray) -> dict[str, Any]:
    """Loss and change by number of layers on some held-out sequences, and the layers the window needs."""
    some = source.held_out.select(np.arange(min(SEQUENCES_FOR_LAYERS, source.held_out.number)))
    layers = some.max_length
    history = dual_filter_tokens(hmm, some, layers=layers, initial="prior", keep=True)
    assert history.history is not None
    after = np.maximum(some.values[:, 1:], 0)
    mask = some.mask[:, 1:]

    def loss(states) -> float:
        p = np.take_along_axis(np.asarray(states[:, 1:-1] @ hmm.emission), after[..., None], axis=2)[..., 0]
        with np.errstate(divide="ignore"):
            return float(-np.where(mask, np.log(np.where(mask, p, 1.0)), 0.0).sum() / mask.sum())

    exact = filter_tokens(hmm, tokens).predicted
    window = dual_filter_tokens(hmm, tokens, layers=len(tokens), initial="prior", keep=True)
    difference = np.abs(np.asarray(window.history) - np.asarray(exact)).sum(-1).max(-1)
    needed = int(np.argmax(difference <= 64 * np.finfo(np.float64).eps))
    return {
        "layer_scores": np.array([loss(states) for states in history.history]),
        "layer_limit": loss(filter_tokens(hmm, some).predicted),
        "residuals": np.asarray(history.residuals),
        "layers_needed": needed if difference[needed] <= 64 * np.finfo(np.float64).eps else len(tokens),
        "dual_difference": float(np.abs(np.asarray(window.predicted) - np.asarray(exact)).max()),
    }


def look_at_window(config: Config, source: Source, hmm: HiddenMarkovModel, gpt: GPT) -> Window:
    """Control, contributions, attention and adapted weights on the first held-out window without gaps."""
    sequence = best_window(source.held_out)
    tokens, T = sequence[: config.length], min(config.length, len(sequence))
    filtered = filter_tokens(hmm, tokens)
    predictive = np.asarray(filtered.next_all())
    targets = targets_of(sequence, predictive, T)
    of_states = explain_norms(hmm, tokens)
    of_tokens = np.asarray(explain_tokens(hmm, tokens, queries="all", target="next").weights)
    probabilities = gpt_probabilities(gpt, tokens[None])[0]
    every = np.arange(T + 1)

    kind = config.reference or ("support" if source.process is not None else "hmm")
    size = len(source.vocabulary)
    reference = Reference.of({"support": support(hmm), "uniform": "uniform", "hmm": hmm}[kind], size)
    predictors = {
        "HMM": hmm_predictor(hmm, targets),
        "GPT": lambda paths: gpt_probabilities(gpt, paths)[:, np.arange(T), targets[1:]],
    }
    if (tokens < 0).any():
        contributions, errors, steps = {}, {}, {}
    else:
        contributions, errors = path_contributions(predictors, tokens, reference, config.samples, config.seed)
        small = reference.uniform and size <= SMALL_VOCABULARY
        steps = adapted_weights(predictors, tokens, reference, config.samples, config.seed) if small else {}
    attention = np.asarray(gpt.attention(jax.numpy.asarray(tokens)), np.float64)
    with_query_zero = np.concatenate([np.zeros((*attention.shape[:2], 1, T)), attention], axis=2)
    seen = np.asarray(predictive[np.arange(T), np.maximum(tokens, 0)])
    return Window(
        tokens=tokens,
        targets=targets,
        control=np.asarray(of_states.norms),
        control_target=np.take_along_axis(of_tokens, targets[:, None, None], axis=2)[..., 0],
        probability={
            "HMM": predictive[every, targets],
            "GPT": np.concatenate([[np.nan], probabilities[np.arange(T), targets[1:]]]),
        },
        contributions=contributions,
        errors=errors,
        attention={
            f"layer {layer + 1}, head {head + 1}": with_query_zero[layer, head]
            for layer in range(attention.shape[0])
            for head in range(attention.shape[1])
        },
        steps=steps,
        certain=(tokens < 0) | (seen > 1 - 1e-12),
        reference=REFERENCES[kind],
    )


def best_window(held_out: Sequences) -> np.ndarray:
    """The longest held-out sequence with the fewest gaps; the first of them."""
    gaps = (held_out.inside & ~held_out.mask).sum(1)
    return held_out[int(np.lexsort((-held_out.lengths, gaps > 0))[0])]


def targets_of(sequence: np.ndarray, predictive: np.ndarray, T: int) -> np.ndarray:
    """The token whose probability is explained at each query: 1 for binary tokens, otherwise the one that came (the
    most probable one where it is missing)."""
    if predictive.shape[1] == 2:
        return np.ones(T + 1, dtype=int)
    came = np.full(T + 1, -1)
    came[: min(T + 1, len(sequence))] = sequence[: T + 1]
    return np.where(came >= 0, came, predictive.argmax(1))


def agreements(window: Window) -> list[Agreement]:
    """Every pair of weights that a reader will want to compare."""
    weights = {"control of the dual filter": window.control, "attention of the GPT": window.mean_attention()}
    weights |= {f"change of expectation, {name}": matrix for name, matrix in window.contributions.items()}
    names = list(weights)
    return [agree(a, weights[a], b, weights[b]) for i, a in enumerate(names) for b in names[i + 1 :]]


def facts(source: Source, hmm: HiddenMarkovModel, gpt: GPT, window: Window) -> list[tuple[str, Any]]:
    """Numbers about the predictions on all held-out sequences, and about the control in the window."""
    held_out = source.held_out
    p = next_tokens(hmm, held_out)[:, 1:-1]
    q = gpt_probabilities(gpt, held_out.values[:, :-1])
    mask = held_out.mask[:, 1:]
    with np.errstate(divide="ignore"):
        divergence = np.sum(p * (np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, q, 1))), axis=2)[mask]
    found = [
        (
            "Divergence of the GPT from the HMM filter, nats per token (Kullback-Leibler, mean)",
            float(divergence.mean()),
        ),
        ("Largest difference of a probability", float(np.abs(p - q).max(2)[mask].max())),
        ("Mean of the largest difference at each token", float(np.abs(p - q).max(2)[mask].mean())),
    ]
    if window.certain.any():
        found.append(
            (
                "Largest control where the exact filter is certain of the token",
                float(window.control[:, window.certain].max()),
            )
        )
        found.append(("Steps of the window where it is certain", int(window.certain.sum())))
    return found


def write(result: Result, hmm: HiddenMarkovModel, gpt: GPT, source: Source) -> None:
    """Both models, the numbers and the page, each file whole or not at all."""
    folder = result.config.folder
    models.save(hmm, folder / "hmm", source.vocabulary)
    models.save(gpt, folder / "gpt", source.vocabulary)
    sections = content.sections(result)
    figures = [figure for section in sections for figure in section.figures]
    write_whole(folder / "compare.json", json.dumps(result.numbers | {"figures": figures}, allow_nan=False))
    command = "steerax compare " + " ".join(sys.argv[2:]) if pathlib.Path(sys.argv[0]).name == "steerax" else "compare"
    facts = [
        ("Command", command.strip()),
        (
            "Time",
            f"{sum(result.seconds.values()):.0f} s: " + ", ".join(f"{k} {v:.0f} s" for k, v in result.seconds.items()),
        ),
        ("Versions", ", ".join(f"{name} {number}" for name, number in result.versions.items())),
        ("Seed", result.config.seed),
        ("Files", "compare.json (all numbers), hmm/ and gpt/ (models for steerax.load)"),
    ]
    page.write(folder / "compare.html", f"Three predictors of {source.name}", content.lead(result), sections, facts)


class Clock:
    """Wall time by part."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def say(text: str) -> None:
    """One line of progress on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(text + "\n")
