"""Optimal values of finite networks against the deep limit, recovery from it, and how large the optimum can be."""

import dataclasses
from functools import partial

import jax
import numpy as np

from ...depth.theory.control import cell_averages, objective, optimal_control, optimal_values
from ...depth.theory.flow import fitted_order
from ...depth.theory.hamiltonian import range_estimate
from ...report import figures
from ...report.words import Findings
from ..linear_quadratic import linear_quadratic, optimal_value


@dataclasses.dataclass(frozen=True)
class Config:
    """Depths that share their cells, deep enough that the gap is proportional to the step."""

    depths: tuple[int, ...] = (32, 64, 128, 256)
    problems: int = 5


QUICK = Config(depths=(32, 64, 128), problems=2)


def run(config: Config, seed: int) -> Findings:
    """Solve every problem at every depth by Newton's method; average the deepest optimum over cells."""
    rows = [solve(config, jax.random.key(1000 * seed + i)) for i in range(config.problems)]
    steps = 1 / np.array(config.depths)
    gap = lambda name: np.abs(np.array(rows[0][name]) - rows[0]["limit"])
    curves = [
        figures.Line("optimal value", steps, gap("values"), "filter"),
        figures.Line("recovered", steps, gap("recovered"), "dual"),
    ]
    farthest = lambda name: max(abs(row[name] - 1) for row in rows)
    loosest = lambda name: [float(np.min([row[name] for row in rows])), float(np.max([row[name] for row in rows]))]
    numbers = {
        "depths": list(config.depths),
        "problems": rows,
        "largest_distance_of_an_order_from_1": {"values": farthest("order"), "recovery": farthest("recovery_order")},
        "norm_looseness": loosest("norm_looseness"),
        "pointwise_looseness": loosest("pointwise_looseness"),
    }
    return Findings(numbers, {"gaps": partial(figures.lines, curves=curves, log_x=True, log_y=True)})


def solve(config: Config, key) -> dict:
    """Optimal values, recovered values, their orders, and the range estimates of one problem."""
    problem = linear_quadratic(key)
    limit = optimal_value(problem)
    found = optimal_values(problem, config.depths, limit=limit)
    deep = optimal_control(problem, 2 * config.depths[-1]).value
    recovered = [float(objective(problem, cell_averages(deep, L))) for L in config.depths]
    norm, pointwise = range_estimate(problem, optimal_control(problem, config.depths[0]).value).looseness
    return {
        "limit": limit,
        "values": found.values.tolist(),
        "order": found.convergence.order,
        "recovered": recovered,
        "recovery_order": fitted_order(config.depths, np.abs(np.array(recovered) - limit)).order,
        "norm_looseness": float(norm),
        "pointwise_looseness": [float(pointwise.min()), float(pointwise.max())],
    }
