"""Depth as time: a residual network is the Euler scheme of a flow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ...depth.theory.field import TransformerField
from ...depth.theory.flow import CosineControl, Flow, gronwall_log10, pathwise_error
from ...report import figures
from .outcome import Claim, Outcome, at_most

TITLE = "A residual transformer is an Euler scheme"


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


def run(config: Config, seed: int) -> Outcome:
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
    return Outcome(
        TITLE,
        "The pathwise theorem of [HuanYuan2026]",
        [
            "Fields with one head of attention and one hidden layer, a control that varies smoothly with depth, and a depth "
            f"profile 1 + sin(3t)/2; {config.flows} random controls per kind, {config.ensemble} sequences each. The error is the "
            "largest distance over the ensemble and over depth to the flow, which an adaptive method of order 5 gives.",
            "This tests the theorem where it applies. A trained checkpoint is one network, not a sequence of them: how far it "
            "is from its flow is measured by `steerax analyse`.",
        ],
        claims(rows),
        pictures(rows, curves),
        {"flows": rows, "largest_distance_of_an_order_from_1": max(abs(row["order"] - 1) for row in rows)},
    )


def claims(rows: list[dict]) -> list[Claim]:
    """First order, and the theorem's constant against the measured one."""
    off = max(abs(row["order"] - 1) for row in rows)
    slack = min(row["log10_gronwall"] - row["log10_constant"] for row in rows)
    largest = max(row["log10_gronwall"] - row["log10_constant"] for row in rows)
    return [
        at_most(
            "The pathwise error is of first order in 1/L",
            "pathwise theorem",
            off,
            0.05,
            f"Fitted orders differ from 1 by at most {off:.3f}",
            margin=0.05,
        ),
        at_most(
            "Grönwall's constant bounds the measured one",
            "pathwise theorem",
            -slack,
            0.0,
            f"It is 10^{slack:.1f} to 10^{largest:.1f} times larger",
        ),
    ]


def pictures(rows: list[dict], curves: list[figures.Line]) -> list[dict]:
    """Errors against the step, and the fits."""
    return [
        figures.lines(
            "Largest distance to the flow",
            "Straight lines of slope 1: half the step, half the error.",
            "1 / L",
            "distance",
            curves,
            log_x=True,
            log_y=True,
        ),
        figures.table(
            "Orders and constants",
            "Standard errors are those of the fit. Constants as powers of ten.",
            ["field", "order", "measured constant", "Grönwall"],
            [
                [
                    r["field"],
                    f"{r['order']:.3f} ± {r['order_error']:.3f}",
                    f"10^{r['log10_constant']:.1f}",
                    f"10^{r['log10_gronwall']:.1f}",
                ]
                for r in rows
            ],
        ),
    ]
