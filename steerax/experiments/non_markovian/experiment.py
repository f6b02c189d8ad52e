"""Beyond Markov: which kind of memory closes the gap of too few states, on the two-cycle process, a process with memory, and data."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...data.sequences import Sequences
from ...inference.kinds import HMM, Lagged
from ...inference.verbs import fit
from ...models import sample_sequences, two_cycle
from ...models.lagged import LaggedHMM
from ...report import figures
from ...report.words import Drawings, Findings, table
from ..networks import HeldOut, Recipe, floor, trained
from ..study import attention_of, certain_steps
from . import memory as with_memory
from . import real as on_data

CHAIN, EDGE, CONSTANT, ATTENTION, GPT_ = (
    "HMM",
    "edge-emitting chain",
    "lags, constant weights",
    "lags, attention",
    "GPT",
)

MEMORY, DATA = with_memory.Config(), on_data.Config()


@dataclasses.dataclass(frozen=True)
class Config:
    """Fewer than the eight true states. A chain of order k has d^k tuples, of which at most 64 are allowed. Eight lags reach over one
    long cycle. All models but the GPT, which draws fresh sequences, learn from the same 400."""

    dimensions: tuple[int, ...] = (2, 4, 6)
    orders: tuple[int, ...] = (2, 3)
    tuples: int = 64
    lags: int = 8
    decided_at: int = 4  # the dimension that the claims are about: half of the true number
    seeds: int = 5
    decisive_seeds: int = 5
    length: int = 64
    training: int = 400
    restarts: int = 3
    iterations: int = 300
    steps: int = 5000
    decisive_steps: int = 5000
    starts: int = 1  # of each GPT
    memory: with_memory.Config = MEMORY
    real: on_data.Config = DATA


QUICK = Config(
    dimensions=(4,),
    orders=(2,),
    seeds=1,
    length=32,
    training=100,
    restarts=2,
    iterations=60,
    steps=100,
    memory=with_memory.QUICK,
    real=on_data.QUICK,
)


def run(config: Config, seed: int) -> Findings:
    """Learn every kind of model at every dimension, and on the other sources; score all on the same fresh sequences."""
    above: dict[str, dict[int, list[float]]] = {}
    lowest, shown = floor(two_cycle(), config.length), None
    for i in range(config.seeds):
        for d in config.dimensions:
            found, models = excesses(config, d, lowest, jax.random.key(1000 * seed + i))
            shown = models if shown is None and d == config.decided_at else shown
            for name, value in found.items():
                above.setdefault(name, {}).setdefault(d, []).append(value)
    medians = {name: {str(d): float(np.median(v)) for d, v in by_d.items()} for name, by_d in above.items()}
    at_d = {name: by_d[str(config.decided_at)] for name, by_d in medians.items() if str(config.decided_at) in by_d}
    maps, looked = attention_maps(config, shown, jax.random.key(1000 * seed + 99))
    kept, sources = with_memory.run(config.memory, seed), on_data.run(config.real, seed)
    numbers = {
        "above_the_true_filter": {name: {str(d): v for d, v in by_d.items()} for name, by_d in above.items()},
        "medians": medians,
        "at_d": at_d,
        "best_order": min((name for name in at_d if name.startswith("HMM of order")), key=lambda name: at_d[name]),
        "floor": lowest,
        "attention": looked,
        "memory": kept.numbers,
        "real": sources.numbers,
    }
    return Findings(numbers, {**drawings(above), **maps, **kept.drawings, **sources.drawings})


def excesses(config: Config, d: int, lowest: float, key) -> tuple[dict[str, float], tuple]:
    """Loss above the true filter, as a share of the floor, of every kind of model at one dimension; the two models with attention."""
    process, keys = two_cycle(), jax.random.split(key, 4)
    training = sample_sequences(process, keys[0], config.training, config.length + 1)
    fresh = HeldOut.of(process, config.length, 512, keys[1], lowest)
    kinds = {CHAIN: HMM(d)}
    kinds |= {f"HMM of order {k}": HMM(d, order=k) for k in config.orders if d**k <= config.tuples}
    kinds |= {EDGE: Lagged(d, 1), CONSTANT: Lagged(d, config.lags, attention=False), ATTENTION: Lagged(d, config.lags)}
    models = {name: learned(kind, training, config, keys[2]) for name, kind in kinds.items()}
    gpt, _ = trained(process, Recipe(d, config.length, config.steps, starts=config.starts), keys[3])
    found = {name: fresh.above(model) for name, model in models.items()}
    return found | {GPT_: fresh.above(gpt)}, (models[ATTENTION], gpt)


def learned(kind, training: Sequences, config: Config, key):
    """The best of several starts of expectation-maximisation; small pseudocounts keep every token possible."""
    options = {"restarts": config.restarts, "max_iterations": config.iterations, "progress": False}
    return fit(kind, training, key, pseudocounts=0.01, **options).model


def attention_maps(config: Config, models, key) -> tuple[Drawings, dict]:
    """The weights of the lags and the attention of the GPT on one fresh string, and how much of each lies on 1s that tell where in
    the cycle the process is: the last 1 before the query."""
    if models is None:
        return {}, {}
    lagged, gpt = models
    process = two_cycle()
    tokens = np.asarray(sample_sequences(process, key, 1, config.length).values[0])
    maps = {ATTENTION: lag_map(lagged, tokens), GPT_: attention_of(gpt, tokens)}
    ones, certain = np.flatnonzero(tokens == 1), certain_steps(process, tokens)
    start = max(config.lags, ones[0] + 1)
    last = [int(ones[ones < q][-1]) for q in range(start, len(tokens) + 1)]
    rows = np.arange(start, len(tokens) + 1)
    shares = {name: float(m[rows, last].mean()) for name, m in maps.items()}
    found = {"on_the_last_one": shares, "tokens": tokens.tolist(), "branching_steps": int((~certain).sum())}
    return {"attention": partial(figures.matrix, choices=maps)}, found


def lag_map(model: LaggedHMM, tokens: np.ndarray) -> np.ndarray:
    """Weights `[T+1 T]`: row `q` belongs to the prediction after `q` tokens, whose last step reads tokens up to `q - 1`."""
    return np.concatenate([np.zeros((1, len(tokens))), np.asarray(model.attention_map(tokens))])


def drawings(above: dict[str, dict[int, list[float]]]) -> Drawings:
    """Loss against dimension, and the table."""
    roles = {CHAIN: "filter", ATTENTION: "accent", CONSTANT: "accent", GPT_: "transformer"}
    curves, rows = [], []
    for name, by_d in above.items():
        values = np.array([by_d[d] for d in sorted(by_d)])
        band = np.median(values, 1), roles.get(name, "dual"), values.min(1), values.max(1)
        curves.append(figures.Line(name, sorted(by_d), *band))
        for d, v in zip(sorted(by_d), 100 * values, strict=True):
            rows.append([name, d, f"{np.median(v):.1f} %", f"{v.min():.1f} % to {v.max():.1f} %"])
    return {"losses": partial(figures.lines, curves=curves, log_y=True), "numbers": table(rows)}
