"""Models of lags on data: programs by kind of token, and English text by letter."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...data.vocabulary import Vocabulary
from ...inference.kinds import HMM, Lagged
from ...inference.score import difference, score_predictor
from ...inference.verbs import fit
from ...report import figures
from ...report.words import Findings
from ...training.gradient import train_gpt
from ...transformer.gpt import GPT, GPTConfig
from ..compare.scores import baseline_scores
from ..real_data import experiment as real_data

BOTH = "lags, attention, also in the emission"


@dataclasses.dataclass(frozen=True)
class Config:
    """One layer and one head for the networks: of the width of the models' states, and as wide as makes as many parameters."""

    tokens: int = 100_000
    symbols: int = 30  # the most frequent ones; all others are one
    length: int = 64
    windows: int = 160
    states: int = 8
    lags: int = 3
    restarts: int = 2
    iterations: int = 100
    decisive_iterations: int = 100
    pseudocounts: float = 0.03
    widths: tuple[int, ...] = (8, 40)
    steps: int = 1600
    decisive_steps: int = 1600
    batch: int = 32


QUICK = Config(
    tokens=4_000, symbols=8, length=16, windows=20, states=2, lags=2, restarts=1, iterations=5, widths=(4,), steps=10
)


def run(config: Config, seed: int) -> Findings:
    """Every predictor on both sources."""
    read = real_data.Config(tokens=config.tokens, length=config.length, windows=config.windows)
    sources = [make(read) for make in (real_data.program_source, real_data.text_source)]
    numbers, drawings = {}, {}
    for i, source in enumerate(coarse(source, config.symbols) for source in sources):
        scores, sizes = scored(config, source, jax.random.key(seed + 100 * i))
        rows = [figures.Dot(n, s.cross_entropy, s.standard_error, _role(n)) for n, s in scores.items()]
        drawings[f"{source.name} losses"] = partial(
            figures.dots, rows=rows, error_label="bar: ± 2 standard errors over windows"
        )
        losses = {name: [s.cross_entropy, s.standard_error] for name, s in scores.items()}
        ahead = {name: [*difference(s, scores[BOTH])] for name, s in scores.items() if name != BOTH}
        gains = {name: [gain, 2 * error] for name, (gain, error) in ahead.items()}
        numbers[source.name] = {
            "description": source.description, "losses": losses, "gains": gains, "parameters": sizes,
            "narrow": f"GPT of width {config.widths[0]}", "wide": f"GPT of width {config.widths[-1]}",
        }  # fmt: skip
    return Findings(numbers, drawings)


def coarse(source: real_data.Source, symbols: int) -> real_data.Source:
    """The source with all but its most frequent symbols as one."""
    counts = np.bincount(source.training.values[source.training.mask], minlength=len(source.vocabulary))
    kept = np.sort(np.argsort(-counts, kind="stable")[: symbols - 1])
    names = [*(source.vocabulary.symbols[k] for k in kept), "other"]
    code = np.full(len(counts) + 1, len(kept))
    code[kept], code[-1] = np.arange(len(kept)), -1  # the last one is where a gap is
    vocabulary = Vocabulary(tuple(names))
    of = lambda data: Sequences.from_arrays([code[part] for part in data], vocabulary)
    description = f"{source.description} All but the {len(kept)} most frequent are one symbol."
    return real_data.Source(source.name, description, of(source.training), of(source.held_out), vocabulary)


def scored(config: Config, source: real_data.Source, key) -> tuple[dict[str, TokenScores], dict[str, int]]:
    """Scores on all tokens of the held-out windows but the first, and numbers of parameters."""
    V, data = len(source.vocabulary), source.held_out
    counted = data.mask & (np.arange(data.max_length) > 0)
    kinds = {
        "HMM": HMM(config.states),
        "lags, attention": Lagged(config.states, config.lags),
        BOTH: Lagged(config.states, config.lags, emission_lags=config.lags),
    }
    options = {"restarts": config.restarts, "max_iterations": config.iterations, "tolerance": 1e-5, "progress": False}
    scores, sizes = dict(baseline_scores(source.training, data, V)), {}
    for name, kind in kinds.items():
        found = fit(kind, source.training, key, pseudocounts=config.pseudocounts, **options)
        scores[name], sizes[name] = (
            score_predictor(found.model, data, on_impossible="skip").on(counted),
            found.n_parameters,
        )
    for width in config.widths:
        name, keys = f"GPT of width {width}", jax.random.split(jax.random.fold_in(key, width))
        gpt = GPT(GPTConfig(V, config.length, 1, 1, width), key=keys[0])
        rate = 0.01 * min(1.0, (8 / width) ** 0.6)
        options = {"learning_rate": rate, "batch_size": config.batch, "progress": False}
        scores[name] = score_predictor(train_gpt(gpt, source.training, config.steps, keys[1], **options).model, data)
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(gpt) if hasattr(leaf, "size"))
    return {name: each.on(counted) for name, each in scores.items()}, sizes


def _role(name: str) -> str:
    if name.startswith("GPT"):
        return "transformer"
    return "filter" if name == "HMM" else "accent" if "lags" in name else "baseline"
