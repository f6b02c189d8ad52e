"""Does the attention layer of a trained network do what the Wiener filter of the process says? Where, and where not?"""

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np

from ...beliefs import attention_report, wiener
from ...inference.score import next_token_log_probabilities
from ...inference.verbs import filter as exact_filter
from ...models import (  # fmt: skip
    GeneralisedHMM,
    HiddenMarkovModel,
    as_generalised,
    casino,
    mess3,
    random_hmm,
    rrxor,
    sample_sequences,
    two_cycle,
)
from ...report import figures
from ...report.words import Findings, table
from ...training.gradient import train_gpt
from ...transformer.gpt import GPT, GPTConfig
from ..networks import Batches, optimiser_of

MESS3 = ((0.05, 0.85), (0.05, 0.60), (0.02, 0.70), (0.02, 0.90), (0.10, 0.70), (0.01, 0.60), (0.15, 0.60), (0.01, 0.90))
VARIANTS: dict[str, dict[str, Any]] = {
    "GPT": {},
    "no MLP": {"mlp": False},
    "no LayerNorm": {"norm": False},
    "rotary": {"positions": "rotary"},
    "two layers": {"n_layer": 2},
}
_GAIN = 1.5  # by which a second head must divide the divergence to count as a help
ROWS = ("linear", "wiener", "remainder", "rate", "contributions")


@dataclasses.dataclass(frozen=True)
class Config:
    """Width 16 and 16 tokens as in the study that this repeats; sampled tokens as targets, fresh at each step."""

    settings: tuple[tuple[float, float], ...] = MESS3
    few: int = 4  # settings of the variants with rotary positions and two layers
    borders: tuple[str, ...] = ("casino", "sticky", "anti-persistent")
    seeds: int = 3
    random_models: int = 20
    random_seeds: int = 3
    length: int = 16
    width: int = 16
    steps: int = 2000
    decisive_steps: int = 2000
    strings: int = 6000
    draws: int = 120_000  # strings on which the interval of rates is found that nobody could tell apart


QUICK = Config(MESS3[:1], 1, ("casino",), seeds=1, random_models=1, random_seeds=1, steps=150, strings=400, draws=4000)
Numbers = dict[str, Any]


def run(config: Config, seed: int) -> Findings:
    """Train, measure, count."""
    runs = [row for name, x, alpha in named(config) for row in of_mess3(config, name, mess3(x, alpha), seed)]
    border = [
        row
        for name, process in borders().items()
        if name in config.borders
        for row in study(config, name, process, "GPT", (1, 2), seed)
    ]
    outside = {name: wiener(p.started("stationary"), config.length).outside for name, p in (("RRXOR", rrxor()), ("two-cycle", two_cycle()))}  # fmt: skip
    random = heads_rule(config, seed)
    plain = [r for r in runs if r["variant"] == "GPT" and r["heads"] == 1]
    numbers = {
        "runs": runs, "border": border, "outside": outside, "random": random,
        "held": {row: held(plain, row) for row in ROWS},
        "rates": rate_errors(plain),
        "by_variant": {v: rate_errors([r for r in runs if r["variant"] == v and r["heads"] == 1]) for v in VARIANTS},
        "variant_rows": {v: {row: held([r for r in runs if r["variant"] == v and r["heads"] == 1], row) for row in ROWS} for v in VARIANTS},
        "worst_untrained": float(max(r["wiener_untrained"] for r in plain)),
        "largest_remainder_after_attention": float(max(r["remainder_attention"] for r in plain)),
        "smallest_remainder_after_mlp": float(min(r["remainder_mlp"] for r in plain)),
        "rule": rule(random),
    }  # fmt: skip
    return Findings(numbers, drawings(config, runs, border, random, plain))


def named(config: Config):
    return [(f"Mess3({x:g}, {alpha:g})", x, alpha) for x, alpha in config.settings]


def of_mess3(config: Config, name: str, process: HiddenMarkovModel, seed: int) -> list[Numbers]:
    """Every variant of the network on one setting."""
    few = name in [n for n, *_ in named(config)[: config.few]]
    rows = []
    for variant in VARIANTS:
        if few or variant not in ("rotary", "two layers"):
            heads = (1, 2) if variant == "GPT" else (1,)
            rows += study(config, name, process, variant, heads, seed)
    return rows


def borders() -> dict[str, HiddenMarkovModel]:
    """Processes around the border of what one head can do."""
    two = lambda stay, accuracy: HiddenMarkovModel(
        [0.5, 0.5], [[stay, 1 - stay], [1 - stay, stay]], [[accuracy, 1 - accuracy], [1 - accuracy, accuracy]]
    )
    return {"casino": casino().started("stationary"), "sticky": two(0.95, 0.8), "anti-persistent": two(0.1, 0.85)}


def heads_rule(config: Config, seed: int) -> list[Numbers]:
    """Fresh random models: does the share that one profile misses say whether a second head helps?"""
    rows = []
    for i in range(config.random_models):
        d, V = 3 + i % 3, 3 + (i // 3) % 2
        process = random_hmm(jax.random.key(10_000 * (seed + 1) + i), d, V, 0.5).started("stationary")
        found = study(dataclasses.replace(config, seeds=config.random_seeds, draws=4000), f"random {i}", process, "GPT", (1, 2), seed)  # fmt: skip
        kl = [float(np.median([r["kl"] for r in found if r["heads"] == h])) for h in (1, 2)]
        first = found[0]
        rows.append({"name": f"random {i}", "states": d, "tokens": V, "missed": first["missed"], "beyond": first["beyond"],
                     "kl_one_head": kl[0], "kl_two_heads": kl[1], "gain": kl[0] / kl[1]})  # fmt: skip
    return rows


def study(
    config: Config, name: str, process: HiddenMarkovModel, variant: str, heads: tuple[int, ...], seed: int
) -> list[Numbers]:
    """One process, one kind of network, several seeds: what `attention_report` measures."""
    strings = np.asarray(sample_sequences(process, jax.random.key(77 + seed), config.strings, config.length).values)
    exact = np.asarray(exact_filter(process, sample_sequences(process, jax.random.key(77 + seed), config.strings, config.length)).next_all(), np.float64)[:, 1:]  # fmt: skip
    rows = []
    for h in heads:
        prediction = wiener(process, config.length, h, draws=config.draws)
        for i in range(config.seeds):
            network = trained(config, as_generalised(process), variant, h, 100 * seed + i)
            r = attention_report(network, process, strings, filter=prediction, key=i)
            log_q = next_token_log_probabilities(network, strings)
            kl = float(np.where(exact > 0, exact * (np.log(np.where(exact > 0, exact, 1)) - log_q), 0).sum(-1).mean())
            rows.append({
                "process": name, "variant": variant, "heads": h, "seed": i, "kl": kl, "rate": r.rate,
                "wiener": prediction.rate, "eigenvalue": float(prediction.eigenvalues[0].real),
                "interval": prediction.interval, "identifiable": prediction.is_identifiable,
                "missed": float(prediction.missed[h - 1]), "beyond": prediction.beyond,
                "linear_r2": r.linear_r2, "variation": r.variation, "slope": r.slope,
                "contributions_r2": r.contributions_r2, "wiener_attention": r.wiener_r2[0],
                "wiener_untrained": r.wiener_r2_untrained[0], "remainder_attention": r.remainder_r2[0],
                "remainder_mlp": r.remainder_r2[1], "remainder_untrained": r.remainder_r2_untrained[1],
                "verdict": {row.name: row.verdict for row in r.verdict},
                "lags": np.sqrt((r.coefficients**2).sum((1, 2))).tolist(),
                "controls": np.sqrt((prediction.lags**2).sum((1, 2))).tolist(),
            })  # fmt: skip
    return rows


def trained(config: Config, process: GeneralisedHMM, variant: str, heads: int, seed: int) -> GPT:
    """A network after training on fresh strings; equal shapes share one compiled step."""
    shape = {"n_layer": 1, "tied": False} | VARIANTS[variant]
    model = GPT(GPTConfig(process.n_tokens, config.length, n_head=heads, n_embd=config.width, **shape), key=seed)
    data = Batches(process, 64, config.length + 1)
    return train_gpt(model, data, config.steps, seed + 1, optimiser_of(config.steps, 5e-3, None), progress=False).model


def held(rows: list[Numbers], row: str) -> Numbers:
    """How often a row of the verdict holds, among the runs in which it could fail."""
    verdicts = [r["verdict"][row] for r in rows if row in r["verdict"]]
    decided = [v for v in verdicts if v in ("holds", "does not hold")]
    share = decided.count("holds") / len(decided) if decided else float("nan")
    return {"holds": decided.count("holds"), "of": len(decided), "flat": verdicts.count("flat"), "share": share}


def rate_errors(rows: list[Numbers]) -> Numbers:
    """Distances of measured rates from the Wiener rate and from the eigenvalue of the transition, over the runs whose rate can be
    identified, and from the Wiener rate over all runs."""
    distances = lambda rows, name: np.abs([r["rate"] - r[name] for r in rows]) if rows else np.full(1, np.nan)
    told = [r for r in rows if r["verdict"].get("rate") in ("holds", "does not hold")]
    off, eigen, every = distances(told, "wiener"), distances(told, "eigenvalue"), distances(rows, "wiener")
    return {"n": len(told), "mean": float(off.mean()), "worst": float(off.max()), "mean_eigenvalue": float(eigen.mean()),
            "worst_eigenvalue": float(eigen.max()), "mean_of_all": float(every.mean()), "all": len(rows)}  # fmt: skip


def rule(rows: list[Numbers]) -> Numbers:
    """How often the share that one head misses (more or less than 1 %) tells whether a second one gains half as much again."""
    from scipy.stats import spearmanr

    right = [(r["missed"] > 0.01) == (r["gain"] > _GAIN) for r in rows]
    found: Any = spearmanr([r["missed"] for r in rows], [r["gain"] for r in rows]) if len(rows) > 2 else None
    order = float("nan") if found is None else found.statistic
    return {
        "right": sum(right),
        "of": len(rows),
        "share": sum(right) / len(rows),
        "spearman": float(order),
        "gain": _GAIN,
    }


def drawings(config: Config, runs, border, random, plain) -> dict:
    """Tables of all runs and the picture of attention against lag."""
    cells = [
        [r["process"], r["variant"], r["heads"], r["seed"], f"{r['kl']:.5f}", f"{r['rate']:.3f}", f"{r['wiener']:.3f}", f"{r['eigenvalue']:.3f}",
         f"{r['linear_r2']:.4f}", f"{r['wiener_attention']:.4f}", f"{r['wiener_untrained']:.3f}", f"{r['remainder_attention']:.3f}",
         f"{r['remainder_mlp']:.3f}", f"{r['slope']:.2f}, {r['contributions_r2']:.3f}",
         ", ".join(name for name, v in r["verdict"].items() if v == "does not hold") or "none"]
        for r in (*runs, *border)
    ]  # fmt: skip
    curves = []
    for name in dict.fromkeys(r["process"] for r in plain[: 3 * config.seeds]):
        rows = [r for r in plain if r["process"] == name]
        lags = np.arange(1, min(9, config.length))
        scaled = lambda values, lags=lags: np.asarray(values)[lags] / np.asarray(values)[1]
        curves.append(figures.Line(f"{name}, Wiener", lags, scaled(rows[0]["controls"]), "dual"))
        curves.append(figures.Line(f"{name}, network", lags, np.mean([scaled(r["lags"]) for r in rows], 0), "transformer"))  # fmt: skip
        curves.append(figures.Line(f"{name}, eigenvalue", lags, rows[0]["eigenvalue"] ** (lags - 1.0), "baseline"))
    heads = [[r["name"], r["states"], r["tokens"], f"{r['missed']:.4f}", f"{r['kl_one_head']:.5f}", f"{r['kl_two_heads']:.5f}", f"{r['gain']:.2f}"]
             for r in sorted(random, key=lambda r: r["missed"])]  # fmt: skip
    return {"runs": table(cells), "lags": partial(figures.lines, curves=curves, log_y=True), "random": table(heads)}
