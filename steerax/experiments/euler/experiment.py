"""Depth as time: a residual network is the Euler scheme of a flow."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...depth.theory.field import TransformerField
from ...depth.theory.flow import CosineControl, Flow, gronwall_log10, pathwise_error
from ...report import figures
from ...report.words import Findings, table


@dataclasses.dataclass(frozen=True)
class Config:
    """Small smooth fields, where the theorem applies; depths share their grid, and start where the error is already proportional to the step."""

    width: int = 4
    hidden: int = 6
    tokens: int = 5
    ensemble: int = 16
    depths: tuple[int, ...] = (64, 128, 256, 512)
    flows: int = 4


QUICK = Config(depths=(64, 128, 256), ensemble=4, flows=1)


def run(config: Config, seed: int) -> Findings:
    """Fit the order of the pathwise error for three kinds of fields, several random controls each."""
    kinds = {
        "causal": TransformerField(config.width, config.hidden),
        "all-to-all": TransformerField(config.width, config.hidden, causal=False),
        "normalised": TransformerField(config.width, config.hidden, normalise=True, epsilon=0.1),
    }
    rows, curves = [], []
    for (kind, field), role in zip(kinds.items(), ("filter", "dual", "transformer"), strict=True):
        for i in range(config.flows):
            keys = jax.random.split(jax.random.key(1000 * seed + i))
            control = CosineControl(0.4 * jax.random.normal(keys[0], (3, field.size)))
            flow = Flow(field, control, lambda t: 1 + 0.5 * jnp.sin(3 * t))
            X = jax.random.normal(keys[1], (config.ensemble, config.tokens, config.width))
            found = pathwise_error(flow, X, config.depths)
            rows.append(
                {
                    "field": kind,
                    "order": found.order,
                    "order_error": found.order_se,
                    "log10_constant": float(np.log10(found.constant)),
                    "log10_gronwall": gronwall_log10(flow, X),
                    "errors": found.errors.tolist(),
                }
            )
            if i == 0:
                curves.append(figures.Line(kind, 1 / found.layers, found.errors, role))
    beyond = [row["log10_gronwall"] - row["log10_constant"] for row in rows]
    cells = [
        [r["field"], f"{r['order']:.3f} ± {r['order_error']:.3f}"]
        + [f"10^{r[name]:.1f}" for name in ("log10_constant", "log10_gronwall")]
        for r in rows
    ]
    numbers = {
        "flows": rows,
        "largest_distance_of_an_order_from_1": max(abs(row["order"] - 1) for row in rows),
        "log10_gronwall_over_constant": [min(beyond), max(beyond)],
    }
    return Findings(
        numbers, {"errors": partial(figures.lines, curves=curves, log_x=True, log_y=True), "orders": table(cells)}
    )
