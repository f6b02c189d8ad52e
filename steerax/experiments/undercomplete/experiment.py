"""Too few states: what an order-k model and a network of dual-filter layers win back, beside a GPT."""

import dataclasses
from functools import partial

import jax
import numpy as np
import optax

from ...data.sequences import Sequences
from ...inference import kinds
from ...inference.gradient import fit_by_gradient
from ...inference.hmm.fit import fit_tokens
from ...inference.hmm.network import DualFilterNetwork
from ...models import sample_sequences, two_cycle
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from ...report.words import Drawings, Findings, table
from ..networks import HeldOut, Recipe, floor, trained

HMM, NETWORK, SCRATCH, GPT_ = "HMM", "dual-filter network", "dual-filter network from scratch", "GPT"


@dataclasses.dataclass(frozen=True)
class Config:
    """Fewer than the eight true states; an order-k model has d^k tuples, of which at most 64 are allowed, the number of
    a model that already has every state of the process eight times over. Networks, like GPTs, learn from more sequences
    and for longer than Baum-Welch needs: with 400 sequences and 600 steps they were still at 94 % of the floor."""

    dimensions: tuple[int, ...] = (4, 6)
    orders: tuple[int, ...] = (2, 3)
    tuples: int = 64
    decided_at: int = 4  # the dimension that the claims are about: half of the true number
    seeds: int = 3
    length: int = 64
    training: int = 400
    restarts: int = 5
    layers: int = 6
    network_training: int = 2000
    network_steps: int = 2500
    decisive_network_steps: int = 2500
    steps: int = 5000
    decisive_steps: int = 5000
    starts: int = 2  # of each GPT


QUICK = Config(
    dimensions=(4,),
    orders=(2,),
    seeds=1,
    length=32,
    training=100,
    restarts=2,
    layers=3,
    network_steps=100,
    steps=800,
    starts=1,
)


def run(config: Config, seed: int) -> Findings:
    """Learn every kind of model at every dimension, score them on the same fresh sequences."""
    above: dict[str, dict[int, list[float]]] = {}
    lowest = floor(two_cycle(), config.length)
    for i in range(config.seeds):
        for d in config.dimensions:
            for name, value in excesses(config, d, lowest, jax.random.key(1000 * seed + i)).items():
                above.setdefault(name, {}).setdefault(d, []).append(value)
    medians = {name: {str(d): float(np.median(v)) for d, v in by_d.items()} for name, by_d in above.items()}
    at_d = {name: by_d[str(config.decided_at)] for name, by_d in medians.items() if str(config.decided_at) in by_d}
    least = lambda names: min(names, key=lambda name: at_d[name])
    numbers = {
        "above_the_true_filter": {name: {str(d): v for d, v in by_d.items()} for name, by_d in above.items()},
        "medians": medians,
        "at_d": at_d,
        "best_order": least([name for name in at_d if name.startswith("HMM of order")]),
        "best_network": least([NETWORK, SCRATCH]),
        "best_other": least([name for name in at_d if name != GPT_]),
        "floor": lowest,
    }
    return Findings(numbers, drawings(above))


def excesses(config: Config, d: int, lowest: float, key) -> dict[str, float]:
    """Loss above the true filter, as a share of the floor, of every kind of model at one dimension."""
    process = two_cycle()
    keys = jax.random.split(key, 7)
    many = sample_sequences(process, keys[0], config.network_training, config.length + 1)
    training = many.select(range(config.training))
    fresh = HeldOut.of(process, config.length, 512, keys[1], lowest)
    hmm = learned(training, d, 1, config.restarts, keys[2])
    found = {HMM: fresh.above(hmm)}
    for order in config.orders:
        if d**order <= config.tuples:
            found[f"HMM of order {order}"] = fresh.above(learned(training, d, order, config.restarts, keys[2]))
    rate = optax.warmup_cosine_decay_schedule(0.0, 0.03, config.network_steps // 10, config.network_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    networks = {
        NETWORK: (DualFilterNetwork.of(hmm, config.layers), keys[3]),
        SCRATCH: (DualFilterNetwork.random(keys[5], d, process.n_tokens, config.layers), keys[6]),
    }
    for name, (start, order_of_data) in networks.items():
        fit = fit_by_gradient(start, many, config.network_steps, order_of_data, progress=False, optimizer=optimizer)
        found[name] = fresh.above(fit.model)
    gpt, _ = trained(process, Recipe(d, config.length, config.steps, starts=config.starts), keys[4])
    return found | {GPT_: fresh.above(gpt)}


def learned(training: Sequences, d: int, order: int, restarts: int, key) -> HiddenMarkovModel:
    """The best of several starts of Baum-Welch; small pseudocounts keep every token possible."""
    kind = kinds.HMM(d, order=order)
    return fit_tokens(
        kind, training, key, restarts=restarts, pseudocounts=0.01, max_iterations=300, progress=False
    ).model


def drawings(above: dict[str, dict[int, list[float]]]) -> Drawings:
    """Loss against dimension, and the table."""
    roles = {HMM: "filter", NETWORK: "accent", SCRATCH: "accent", GPT_: "transformer"}
    curves, rows = [], []
    for name, by_d in above.items():
        values = np.array([by_d[d] for d in sorted(by_d)])
        band = np.median(values, 1), roles.get(name, "dual"), values.min(1), values.max(1)
        curves.append(figures.Line(name, sorted(by_d), *band))
        for d, v in zip(sorted(by_d), 100 * values, strict=True):
            rows.append([name, d, f"{np.median(v):.1f} %", f"{v.min():.1f} % to {v.max():.1f} %"])
    return {"losses": partial(figures.lines, curves=curves, log_y=True), "numbers": table(rows)}
