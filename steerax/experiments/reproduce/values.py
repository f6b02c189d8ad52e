"""Optimal values of finite networks against the deep limit, recovery from it, and how large the optimum can be."""

import dataclasses

import jax
import numpy as np

from ...depth.theory.control import cell_averages, objective, optimal_control, optimal_values
from ...depth.theory.flow import fitted_order
from ...depth.theory.hamiltonian import range_estimate
from ...report import figures
from .outcome import Claim, Outcome, at_least, at_most
from .toys import linear_quadratic, optimal_value

TITLE = "Optimal values and recovery"


@dataclasses.dataclass(frozen=True)
class Config:
    """Depths that share their cells, deep enough that the gap is proportional to the step."""

    depths: tuple[int, ...] = (32, 64, 128, 256)
    problems: int = 5


QUICK = Config(depths=(32, 64, 128), problems=2)


def claims(off: float, off_recovery: float, norm: list, pointwise: list) -> list[Claim]:
    """The theorems on values, recovery and ranges, as predicates."""
    smallest = min(*norm, *(p[0] for p in pointwise))
    return [
        at_most(
            "Optimal values converge to the deep limit at first order",
            "optimal values",
            off,
            0.1,
            f"Fitted orders differ from 1 by at most {off:.3f}",
            margin=0.1,
        ),
        at_most(
            "Averages of a deep optimal control are near-optimal for shallow networks, at first order",
            "recovery",
            off_recovery,
            0.1,
            f"Fitted orders differ from 1 by at most {off_recovery:.3f}",
            margin=0.1,
        ),
        at_least(
            "Both range estimates hold",
            "range estimates",
            smallest,
            1.0,
            f"The norm estimate is {min(norm):.1f} to {max(norm):.1f} times too large, the pointwise one "
            f"{min(p[0] for p in pointwise):.1f} to {max(p[1] for p in pointwise):.1f} times",
        ),
    ]


def run(config: Config, seed: int) -> Outcome:
    """Solve every problem at every depth by Newton's method; average the deepest optimum over cells."""
    rows = [solve(config, jax.random.key(1000 * seed + i)) for i in range(config.problems)]
    off = max(abs(row["order"] - 1) for row in rows)
    off_recovery = max(abs(row["recovery_order"] - 1) for row in rows)
    norm = [row["norm_looseness"] for row in rows]
    pointwise = [row["pointwise_looseness"] for row in rows]
    steps = 1 / np.array(config.depths)
    gap = lambda name: np.abs(np.array(rows[0][name]) - rows[0]["limit"])
    return Outcome(
        TITLE,
        "Optimal values, recovery and range estimates of [HuanYuan2026]",
        [
            f"{config.problems} random linear-quadratic problems, whose continuous optimum is known in closed form. Each depth is "
            "solved by Newton steps on the whole control. Recovery: the optimal control of a network twice as deep as the "
            "deepest, averaged over the cells of a shallower one.",
        ],
        claims(off, off_recovery, norm, pointwise),
        [
            figures.lines(
                "Distance to the continuous optimum, first problem",
                "Slope 1 in 1/L for both.",
                "1 / L",
                "objective",
                [
                    figures.Line("optimal value", steps, gap("values"), "filter"),
                    figures.Line("recovered", steps, gap("recovered"), "dual"),
                ],
                log_x=True,
                log_y=True,
            )
        ],
        {
            "depths": list(config.depths),
            "problems": rows,
            "largest_distance_of_an_order_from_1": {"values": off, "recovery": off_recovery},
        },
    )


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
