"""Proven optima of low-bit networks against what gradient training of the same class reaches."""

import dataclasses
import time
from functools import partial

import jax
import numpy as np

from ...lifted import solve
from ...lifted.problem import tasks
from ...report import figures
from ...report.words import Findings, table
from .ternary import best_readout, random_search, train

METHODS = ("straight-through", "rounded after training", "the same, best read-out", "random search")


@dataclasses.dataclass(frozen=True)
class Config:
    """Four and five bits are proven in seconds at two layers; 32 starts resolve how often a method arrives to 9 %."""

    tasks: tuple[str, ...] = ("parity", "palindrome", "sorted", "contains_101", "ones_mod_3")
    lengths: tuple[int, ...] = (4, 5)
    depths: tuple[int, ...] = (1, 2)
    starts: int = 32
    steps: int = 2000
    # of 0.01, 0.02, 0.05 and 0.1 the one with the fewest errors on the quick tasks, two layers, 500 steps
    rate: float = 0.1


QUICK = Config(tasks=("parity", "palindrome", "contains_101"), lengths=(4,), starts=16, steps=300)


@dataclasses.dataclass(frozen=True)
class Found:
    """One problem: its optimum and the errors that every start of every method ended with.

    **Attributes:** `status`, "proven" or "gap"; `seconds`, of the search and of each method, all starts together and
    compilation included; `errors`, method → `[starts]`; `arrived`, method → share of starts at the optimum by step.
    """

    task: str
    length: int
    depth: int
    total: int
    optimum: int
    status: str
    seconds: dict[str, float]
    errors: dict[str, np.ndarray]
    arrived: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Task, bits and layers."""
        return f"{self.task}, {self.length} bits, {self.depth} layer{'s' * (self.depth > 1)}"

    def share(self, method: str) -> float:
        """Share of starts that reached the optimum."""
        return float(np.mean(self.errors[method] == self.optimum))


def run(config: Config, seed: int) -> Findings:
    """Solve every problem exactly, then train it from many starts by each method."""
    found = [
        compare(config, task, length, depth, jax.random.fold_in(jax.random.key(seed), 100 * length + 10 * depth + i))
        for i, task in enumerate(config.tasks)
        for length in config.lengths
        for depth in config.depths
    ]
    arrivals = partial(figures.lines, curves=arrived(config, found), log_x=True)
    return Findings(
        numbers(found), {"arrivals": arrivals, "optima": table(optima(found)), "depths": table(depths_needed(found))}
    )


def compare(config: Config, task: str, length: int, depth: int, key) -> Found:
    """One problem, all methods."""
    problem = tasks.TASKS[task](length)
    seconds, started = {}, time.perf_counter()
    solution = solve(problem, depth)
    seconds["proof"] = time.perf_counter() - started
    keys = jax.random.split(key, 3)
    results = {}
    for name, exact, k in (("straight-through", True, keys[0]), ("rounded after training", False, keys[1])):
        started = time.perf_counter()
        results[name] = train(problem, depth, config.steps, config.rate, exact, k, config.starts)
        seconds[name] = time.perf_counter() - started
    started = time.perf_counter()
    drawn = random_search(problem, depth, config.steps, config.starts, keys[2])
    seconds["random search"] = time.perf_counter() - started
    through = results["straight-through"].best
    free = jax.vmap(lambda f: f.quantised())(results["rounded after training"].free)
    each = [jax.tree.map(lambda a, i=i: a[i], free) for i in range(config.starts)]
    errors = {
        "straight-through": through[:, -1],
        "rounded after training": np.array([rounded_errors(problem, f) for f in each]),
        "the same, best read-out": np.array([best_readout(problem, f) for f in each]),
        "random search": drawn[:, -1],
    }
    arrived = {
        "straight-through": (through[:, :-1] == solution.value).mean(0),
        "random search": (drawn == solution.value).mean(0),
    }
    return Found(task, length, depth, problem.total, solution.value, solution.status, seconds, errors, arrived)


def rounded_errors(problem, free) -> int:
    """Errors of the deployed integer network."""
    return problem.errors(problem.model.network(free.weights())(problem.tokens))


def gains(found: list[Found]) -> dict[str, tuple[float, float]]:
    """Method → how many strings fewer the starts of straight-through training get wrong: mean and standard error."""
    return {
        m: (
            float(np.mean([float(np.mean(f.errors[m]) - np.mean(f.errors["straight-through"])) for f in found])),
            float(
                np.sqrt(
                    sum(np.var(f.errors[k], ddof=1) / f.errors[k].size for f in found for k in (m, "straight-through"))
                )
            )
            / len(found),
        )
        for m in METHODS[1:]
    }


def arrived(config: Config, found: list[Found]) -> list[figures.Line]:
    """Share of starts at the optimum by training step, mean over the problems of a depth."""
    steps, curves = np.arange(config.steps) + 1, []
    kept = np.unique(np.round(np.logspace(0, np.log10(config.steps), 60)).astype(int)) - 1
    for method, role in (("straight-through", "transformer"), ("random search", "baseline")):
        for depth in config.depths:
            share = np.mean([f.arrived[method] for f in found if f.depth == depth], axis=0)
            label = f"{method}, {depth} layer{'s' * (depth > 1)}"
            curves.append(figures.Line(label, steps[kept], share[kept], role))
    return curves


def optima(found: list[Found]) -> list[list]:
    """Every problem: the optimum, and best, median and share at the optimum of every method."""
    rows = []
    for f in found:
        cells = [f"{f.errors[m].min()} / {np.median(f.errors[m]):g} / {100 * f.share(m):.0f} %" for m in METHODS]
        seconds = f"{f.seconds['proof']:.1f} s"
        rows.append([f.name, f"{f.optimum} of {f.total}", seconds, *cells, f"{f.seconds['straight-through']:.1f} s"])
    return rows


def depths_needed(found: list[Found]) -> list[list]:
    """The fewest layers with which a task is solved without error, proven in both directions."""
    rows = []
    for task, length in dict.fromkeys((f.task, f.length) for f in found):
        mine = {f.depth: f for f in found if (f.task, f.length) == (task, length)}
        enough = [depth for depth, f in sorted(mine.items()) if f.optimum == 0]
        needed = str(enough[0]) if enough else f"more than {max(mine)}"
        rows.append([task, length, needed, ", ".join(str(f.optimum) for _, f in sorted(mine.items()))])
    return rows


def numbers(found: list[Found]) -> dict:
    """What is shown, as JSON."""
    return {
        "number": len(found),
        "proven": sum(f.status == "proven" for f in found),
        "smallest_excess": min(int(f.errors[m].min()) - f.optimum for f in found for m in METHODS),
        "missed_by_every_start": sum(int(f.errors["straight-through"].min()) > f.optimum for f in found),
        "mean_share_at_the_optimum": {m: float(np.mean([f.share(m) for f in found])) for m in METHODS},
        "fewer_errors_of_straight_through_than": {
            m: {"mean": gain, "two_standard_errors": 2 * error} for m, (gain, error) in gains(found).items()
        },
        "problems": [
            {
                "problem": f.name,
                "optimum": f.optimum,
                "total": f.total,
                "status": f.status,
                "seconds": f.seconds,
                "errors": {m: e.tolist() for m, e in f.errors.items()},
                "median_errors": {m: float(np.median(e)) for m, e in f.errors.items()},
                "share_at_the_optimum": {m: f.share(m) for m in METHODS},
            }
            for f in found
        ],
    }
