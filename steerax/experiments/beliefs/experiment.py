"""What a trained network knows of four processes: probes with nulls, the causal test, and the machine it has become."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from ...beliefs import extract, picture, probe, swap
from ...inference.score import next_token_log_probabilities
from ...inference.verbs import filter as exact_filter
from ...models import as_generalised, sample_sequences
from ...models.catalogue import named_process
from ...report import figures
from ...report.words import Findings, table
from ...training.gradient import train_gpt
from ...transformer.gpt import GPT, GPTConfig
from ..networks import Batches, optimiser_of

SHOWN = ("mess3(0.05, 0.85)", "rrxor", "tom-quantum", "casino")


@dataclasses.dataclass(frozen=True)
class Config:
    """Two layers where one does not suffice (RRXOR); the dimension of each process is known."""

    processes: tuple[str, ...] = SHOWN
    extracted: tuple[str, ...] = ("mess3(0.05, 0.85)", "casino", "golden-mean", "even", "sns", "zero-one-random", "parentheses", "coin", "mr-name", "tom-quantum", "rrxor")  # fmt: skip
    seeds: int = 3
    length: int = 16
    width: int = 32
    steps: int = 8000
    decisive_steps: int = 8000
    strings: int = 4000


QUICK = Config(("mess3(0.05, 0.85)",), ("casino",), seeds=1, width=16, steps=150, strings=256)


def run(config: Config, seed: int) -> Findings:
    """Train once per process and seed; probe, exchange, extract."""
    rows, curves, drawn = [], [], {}
    for name in config.processes:
        process = stationary(name)
        strings = np.asarray(sample_sequences(process, 500 + seed, config.strings, config.length).values)
        for i in range(config.seeds):
            network = trained(config, process, 100 * seed + i)
            row, curve, probed = measured(name, process, network, strings, i)
            rows.append(row)
            if i == 0:
                curves.append(curve)
                drawn[f"beliefs {len(drawn)}"] = partial(_picture, probed)
    machines = [machine(config, name, seed) for name in config.extracted]
    by_name = {name: [r for r in rows if r["process"] == name] for name in config.processes}
    numbers = {
        "runs": rows, "machines": machines, "processes": len(config.processes),
        "means": {name: {k: mean_of(found, k) for k in ("r2", "remainder", "ceiling", "untrained", "shuffled", "effect", "random", "kl")} for name, found in by_name.items()},
        "least_effect": min(np.mean([r["effect"] for r in found]) for found in by_name.values()),
        "most_random": max(np.mean([r["random"] for r in found]) for found in by_name.values()),
        "gain_over_untrained": min(np.mean([r["remainder"] - r["remainder_untrained"] for r in found]) for found in by_name.values()),
        "right": sum(m["states"] == m["true"] for m in machines), "within": sum(m["excess"] <= 1e-3 for m in machines), "machines_number": len(machines),
    }  # fmt: skip
    cells = [[r["process"], r["seed"], f"{r['kl']:.5f}", r["place"], f"{r['r2']:.4f} ± {r['error']:.4f}", f"{r['ceiling']:.3f}", f"{r['untrained']:.3f}", f"{r['shuffled']:.3f}",
              f"{r['last_token']:.3f}", f"{r['next_token']:.3f}", f"{r['remainder']:.3f}", f"{r['remainder_untrained']:.3f}", f"{100 * r['effect']:.0f} %", f"{100 * r['random']:.0f} %"] for r in rows]  # fmt: skip
    sizes = [[m["process"], m["true"], m["states"], f"{m['excess']:.5f} ± {m['error']:.5f}", f"{m['kl']:.5f}"] for m in machines]  # fmt: skip
    return Findings(numbers, drawn | {"probes": table(cells), "machines": table(sizes), "swap": partial(figures.lines, curves=curves, log_y=True)})  # fmt: skip


def stationary(name: str) -> Any:
    """A process of the catalogue from its stationary start."""
    return named_process(name).started("stationary")


def trained(config: Config, process: Any, seed: int) -> GPT:
    """A network after training on fresh strings; two layers of two heads."""
    shape = GPTConfig(process.n_tokens, config.length, 2, 2, config.width, tied=False)
    data = Batches(process, 64, config.length + 1)
    return train_gpt(GPT(shape, key=seed), data, config.steps, seed + 1, optimiser_of(config.steps, 5e-3, None), progress=False).model  # fmt: skip


def measured(name: str, process: Any, network: GPT, strings: np.ndarray, seed: int):
    """Probes with nulls and the causal test of one network; the row, the curve and what `probe` returned."""
    p = probe(network, process, strings, key=seed)
    at = int(np.nanargmax(p.r2))
    half = len(strings) // 2
    s = swap(network, process, strings[:half], strings[half:], p.layers[at], steps=5, key=seed)
    start, end = s.controls["no change"][0], s.floor[0]
    row = {
        "process": name, "seed": seed, "kl": divergence(process, network, strings), "place": p.layers[at],
        "r2": float(p.r2[at]), "error": float(p.r2_error[at]), "ceiling": float(p.nulls["wiener"][0]),
        "untrained": float(np.nanmax(p.nulls["untrained"])), "shuffled": float(p.nulls["shuffled"][at]),
        "last_token": float(p.nulls["last_token"][0]), "next_token": float(p.nulls["next_token"][0]),
        "remainder": float(np.nanmax(p.remainder)), "remainder_untrained": float(np.nanmax(p.remainder_nulls["untrained"])),
        "effect": s.effect, "random": (start - s.controls["random direction"][0]) / (start - end),
        "curve": s.divergence.tolist(), "controls": s.controls, "floor": s.floor,
    }  # fmt: skip
    curve = figures.Line(name, s.shares, s.divergence, "transformer", s.divergence - 2 * s.divergence_error, s.divergence + 2 * s.divergence_error)  # fmt: skip
    return row, curve, p


def machine(config: Config, name: str, seed: int) -> dict[str, Any]:
    """The smallest machine within 1e-3 nats of a trained network, beside the dimension of the process."""
    process = stationary(name)
    network = trained(config, process, 100 * seed + 7)
    strings = np.asarray(sample_sequences(process, 900 + seed, min(1000, config.strings), config.length).values)
    found = extract(network, strings, 1e-3, key=seed)
    true = len(extract(process, strings, 1e-6, key=seed).candidates)
    return {"process": name, "true": true, "states": found.best.n_states, "excess": found.excess, "error": found.best.error,
            "kl": divergence(process, network, strings)}  # fmt: skip


def divergence(process: Any, network: GPT, strings: np.ndarray) -> float:
    """Nats per token by which the network differs from Bayes' answer."""
    exact = np.asarray(exact_filter(as_generalised(process), strings).next_all(), np.float64)[:, 1:]
    log_q = next_token_log_probabilities(network, strings)
    return float(np.where(exact > 0, exact * (np.log(np.where(exact > 0, exact, 1)) - log_q), 0).sum(-1).mean())


def mean_of(rows: list[dict], name: str) -> dict[str, float]:
    """Mean over seeds and its standard error."""
    values = np.array([r[name] for r in rows], float)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {"mean": float(values.mean()), "error": error}


def _picture(probed: Any, title: str, caption: str) -> dict:
    return picture(probed, title=title) | {"caption": caption}
