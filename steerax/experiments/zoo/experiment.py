"""Every process of the catalogue: beliefs against enumeration, how many there are, entropy, and the layers the filter needs."""

import dataclasses
import itertools
from functools import partial
from typing import Any

import numpy as np

from ...beliefs import mixed_states
from ...inference.verbs import dual_filter, sample
from ...inference.verbs import filter as exact_filter
from ...models import as_generalised, entropy_rate
from ...models.catalogue import PROCESSES, named_process
from ...report import figures
from ...report.words import Findings, table

# beliefs reached in all where they are finitely many, and first reached at depth 0, 1, 2, … where they are not: the literature
COUNTS = {"rrxor": 36, "coin": 1, "golden-mean": 3}
NEW = {"mess3": (1, 3, 9, 27)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Strings of up to 6 tokens are all enumerated where a process has few tokens; layers are counted on long ones."""

    enumerated: int = 4096  # strings at most
    length: int = 40
    strings: int = 8
    max_beliefs: int = 3000


QUICK = Config(enumerated=64, length=12, strings=2, max_beliefs=200)


def run(config: Config, seed: int) -> Findings:
    """One row per process."""
    rows = [of_process(config, name, text, seed) for name, text in named(seed).items()]
    counts = [r for r in rows if r["name"] in COUNTS]
    numbers = {
        "processes": rows,
        "number": len(rows),
        "largest_error": max(r["error"] for r in rows),
        "largest_after_T_layers": max(r["after_T_layers"] for r in rows),
        "counts_right": sum(r["beliefs"] == COUNTS[r["name"]] and r["closed"] for r in counts)
        + sum(tuple(r["new"][:4]) == NEW[r["name"]] for r in rows if r["name"] in NEW),
        "counts": len(counts) + len([r for r in rows if r["name"] in NEW]),
        "all_layers": sum(r["layers"] >= config.length for r in rows),
    }
    cells = [
        [r["name"], r["states"], r["tokens"], r["kind"], f"{r['beliefs']:,}" if r["closed"] else "infinitely many" if len(set(r["new"])) > 2 else "more",
         ", ".join(map(str, r["new"][:6])), f"{r['entropy']:.4f}" + ("" if r["entropy_exact"] else f" ± {r['entropy_error']:.1g}"),
         r["layers"], f"{r['error']:.0e}"]
        for r in rows
    ]  # fmt: skip
    depth = [figures.Line(r["name"], np.arange(len(r["by_depth"])), r["by_depth"], "dual") for r in rows if r["name"] in ("mess3", "rrxor", "even", "sns")]  # fmt: skip
    return Findings(numbers, {"processes": table(cells), "entropy": partial(figures.lines, curves=depth)})


def named(seed: int) -> dict[str, str]:
    """Name → text of every process of the catalogue; the random ones have their seed as parameter."""
    random = {"random-hmm": f"random-hmm({seed + 1}, 3, 3)", "random-quantum": f"random-quantum({seed + 1})"}
    return {name: name for name in PROCESSES} | random


def of_process(config: Config, name: str, text: str, seed: int) -> dict[str, Any]:
    """Measured numbers of one process."""
    process = named_process(text)
    operators = as_generalised(process)
    tokens = np.asarray(sample(process, seed, config.length, number=config.strings)[1])
    exact = np.asarray(exact_filter(process, tokens).predicted)
    layered = dual_filter(process, tokens, layers=config.length, initial="prior", keep=True)
    apart = np.abs(np.asarray(layered.history) - exact[None]).max((1, 2, 3)) / np.abs(exact).max()
    found = mixed_states(process, max_beliefs=config.max_beliefs)
    rate = entropy_rate(process, samples=64, length=1024, max_beliefs=config.max_beliefs) if name != "left-right" else None  # fmt: skip
    return {
        "name": name, "states": operators.n_states, "tokens": operators.n_tokens,
        "kind": "hidden states" if operators.is_classical else "no hidden chain", "error": enumeration_error(config, operators),
        "beliefs": len(found.beliefs), "closed": found.closed, "new": found.new.tolist(), "by_depth": found.entropy.tolist(),
        "entropy": 0.0 if rate is None else rate.mean, "entropy_exact": rate is None or rate.exact,
        "entropy_error": 0.0 if rate is None else rate.standard_error,
        "layers": int(np.flatnonzero(apart <= 1e-9)[0]) if (apart <= 1e-9).any() else config.length + 1,
        "after_T_layers": float(apart[-1]),
    }  # fmt: skip


def enumeration_error(config: Config, process: Any) -> float:
    """The filter against products of operators in extended precision, over all possible strings of a length."""
    p0, T, w = (np.asarray(a).astype(np.longdouble) for a in process.arrays)
    n = 1
    while process.n_tokens ** (n + 1) <= config.enumerated and n < 6:
        n += 1
    strings = np.array(list(itertools.product(range(process.n_tokens), repeat=n)))
    rows = np.broadcast_to(p0, (len(strings), len(p0)))
    for z in strings.T:
        rows = np.einsum("ni,nij->nj", rows, T[z])
    mass = rows @ w
    possible = mass > 1e-15 * (np.abs(rows) @ np.abs(w)).max()
    found = np.asarray(exact_filter(process, strings[possible], on_impossible="skip").predicted, np.longdouble)[:, -1]
    true = rows[possible] / mass[possible][:, None]
    return float(np.abs(found - true).max() / np.abs(true).max())
