"""Dual filter, GPT and counts on real data: English text by character, and Python programs by kind of token."""

import dataclasses
import io
import keyword
import pathlib
import sysconfig
import time
import tokenize
from functools import partial

import jax
import numpy as np

from ...data.corpora import pydoc_text
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...data.vocabulary import Vocabulary
from ...inference.hmm.fit import fit_tokens
from ...inference.kinds import HMM
from ...inference.score import difference, score_predictor
from ...report import figures
from ...report.words import Drawings, Findings
from ...training.gradient import train_gpt
from ...transformer.gpt import GPT, GPTConfig
from ..compare.scores import baseline_scores, dual_filter_scores


@dataclasses.dataclass(frozen=True)
class Config:
    """What two cores train in minutes; the network has the default size that `steerax compare` uses for data."""

    tokens: int = 400_000  # of each source; nearly all of the text
    length: int = 64
    states: int = 32
    iterations: int = 100
    decisive_iterations: int = 100
    restarts: int = 2
    layers: int = 2
    heads: int = 4
    width: int = 64
    learning_rate: float = 0.01 * (8 / 64) ** 0.5  # peak
    steps: int = 2000
    decisive_steps: int = 2000
    windows: int = 400  # held out: a standard error near 1 % of the loss
    shown_layers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    close: float = 0.01  # nats per token: losses nearer than this count as equal


QUICK = Config(
    tokens=40_000, length=32, states=8, iterations=20, restarts=1, layers=1, width=16,
    learning_rate=0.01 * (8 / 16) ** 0.5, steps=150, windows=100, shown_layers=(1, 2, 4, 8, 16, 32),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Source:
    """Windows to train on and to compare on."""

    name: str
    description: str
    training: Sequences
    held_out: Sequences
    vocabulary: Vocabulary


@dataclasses.dataclass(frozen=True)
class Found:
    """The scores of every predictor on one source.

    **Attributes:** `scores`; `layers`, number of dual-filter layers → score; `difference`, largest, of the dual filter
    with as many layers as tokens to the exact filter; `seconds`, of training the model and the network.
    """

    source: Source
    scores: dict[str, TokenScores]
    layers: dict[int, TokenScores]
    difference: float
    seconds: dict[str, float]

    def gain(self, better: str, worse: str) -> tuple[float, float]:
        """(mean, standard error) of the loss of `worse` minus that of `better` on the same tokens."""
        return difference(self.scores[worse], self.scores[better])

    def enough(self, close: float) -> int:
        """The fewest of the tried numbers of layers whose loss is at most `close` above that of all."""
        all_of_them = self.layers[max(self.layers)].cross_entropy
        return min(n for n, s in self.layers.items() if s.cross_entropy - all_of_them <= close)


def run(config: Config, seed: int) -> Findings:
    """Learn every predictor on the same training windows and score it on the same held-out ones."""
    sources = [text_source(config), program_source(config)]
    found = [compare(config, source, jax.random.key(seed + 100 * i)) for i, source in enumerate(sources)]
    return Findings(
        {"sources": {f.source.name: numbers(config, f) for f in found}},
        {name: drawing for f in found for name, drawing in drawings(f).items()},
    )


def text_source(config: Config) -> Source:
    """Python's own documentation, `pydoc_data.topics`, by character."""
    text = pydoc_text()[: config.tokens]
    vocabulary = Vocabulary.collect(text)
    description = f"the text of Python's language reference, {len(text):,} characters, {len(vocabulary)} distinct."
    return windows("pydoc", description, vocabulary.encode(text), vocabulary, config)


def program_source(config: Config) -> Source:
    """Modules of the standard library, by the kind of every token: keyword, operator, name, number, …"""
    kinds: list[str] = []
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        if len(kinds) >= config.tokens:
            break
        kinds += token_kinds(path.read_text(encoding="utf-8"))
    kinds = kinds[: config.tokens]
    vocabulary = Vocabulary.collect(kinds)
    description = (
        f"programs of Python's standard library as kinds of tokens (each keyword and operator its own, names, numbers and "
        f"strings one each), {len(kinds):,} tokens, {len(vocabulary)} distinct."
    )
    return windows("programs", description, vocabulary.encode(kinds), vocabulary, config)


def token_kinds(program: str) -> list[str]:
    """The kind of every token of a program; comments and blank lines are left out."""
    kinds = []
    for token in tokenize.generate_tokens(io.StringIO(program).readline):
        if token.type == tokenize.OP or (token.type == tokenize.NAME and keyword.iskeyword(token.string)):
            kinds.append(token.string)
        elif token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
            kinds.append(tokenize.tok_name[token.type])
    return kinds


def windows(name: str, description: str, codes: np.ndarray, vocabulary: Vocabulary, config: Config) -> Source:
    """Nine tenths to train on, and evenly spaced windows of the last tenth."""
    end, size = int(0.9 * len(codes)), config.length + 1
    pieces = [codes[i : i + 4 * size] for i in range(0, end - 4 * size, 4 * size)]
    starts = np.unique(np.linspace(end, len(codes) - size, config.windows).astype(int))
    of = lambda parts: Sequences.from_arrays(parts, vocabulary)
    return Source(name, description, of(pieces), of([codes[s : s + size] for s in starts]), vocabulary)


def compare(config: Config, source: Source, key) -> Found:
    """Train on one source and score on its held-out windows."""
    keys = jax.random.split(key, 3)
    seconds, started = {}, time.perf_counter()
    hmm = fit_tokens(HMM(config.states), source.training, keys[0], restarts=config.restarts, pseudocounts=0.1, max_iterations=config.iterations, tolerance=1e-5, progress=False).model  # fmt: skip
    seconds["HMM"], started = time.perf_counter() - started, time.perf_counter()
    shape = GPTConfig(len(source.vocabulary), config.length, config.layers, config.heads, config.width)
    gpt = train_gpt(
        GPT(shape, key=keys[1]), source.training, config.steps, keys[2],
        learning_rate=config.learning_rate, progress=False,
    ).model  # fmt: skip
    seconds["GPT"] = time.perf_counter() - started
    data = source.held_out
    scored = data.mask & (np.arange(data.max_length) > 0)
    exact = score_predictor(hmm, data).on(scored)
    layers = {n: dual_filter_scores(hmm, data, n).on(scored) for n in config.shown_layers}
    dual = layers[max(layers)]
    scores = baseline_scores(source.training, data, len(source.vocabulary))
    scores |= {"dual filter": dual, "GPT": score_predictor(gpt, data)}
    apart = float(np.abs(np.exp(dual.log_likelihoods) - np.exp(exact.log_likelihoods)).max())
    return Found(source, scores, layers, apart, seconds)


def drawings(found: Found) -> Drawings:
    """Losses with their errors, and loss by number of dual-filter layers."""
    roles = {"unigram": "baseline", "bigram": "baseline", "dual filter": "dual", "GPT": "transformer"}
    rows = [figures.Dot(n, s.cross_entropy, s.standard_error, roles[n]) for n, s in found.scores.items()]
    counts = sorted(found.layers)
    values = np.array([found.layers[n].cross_entropy for n in counts])
    errors = 2 * np.array([found.layers[n].standard_error for n in counts])
    curve = figures.Line("dual filter", counts, values, "dual", values - errors, values + errors)
    reference = ("GPT", found.scores["GPT"].cross_entropy)
    return {
        f"{found.source.name} losses": partial(
            figures.dots, rows=rows, error_label="bar: ± 2 standard errors over windows"
        ),
        f"{found.source.name} layers": partial(figures.lines, curves=[curve], reference=reference, log_x=True),
    }


def numbers(config: Config, found: Found) -> dict:
    """What is shown of one source, as JSON; gains with two standard errors."""
    pairs = (("GPT", "dual filter"), ("GPT", "bigram"), ("dual filter", "bigram"))
    gains = {f"{a} over {b}": found.gain(a, b) for a, b in pairs}
    return {
        "description": found.source.description,
        "training_tokens": found.source.training.n_observed,
        "held_out_windows": found.source.held_out.number,
        "vocabulary": list(found.source.vocabulary.symbols),
        "losses": {name: [s.cross_entropy, s.standard_error] for name, s in found.scores.items()},
        "by_layers": {str(n): [s.cross_entropy, s.standard_error] for n, s in found.layers.items()},
        "one_layer_behind": found.layers[1].cross_entropy - found.layers[max(found.layers)].cross_entropy,
        "enough_layers": found.enough(config.close),
        "gains": {name: [gain, 2 * error] for name, (gain, error) in gains.items()},
        "difference_to_the_exact_filter": found.difference,
        "seconds": found.seconds,
    }
