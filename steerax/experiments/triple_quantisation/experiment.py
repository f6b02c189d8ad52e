"""State, distribution and weights quantised at once: the gap to the continuous optimum and its bound, at every mesh."""

import dataclasses
from functools import partial

import numpy as np

from ...lifted.bounds.near_optimality import Instance, measure
from ...report import figures
from ...report.words import Findings


@dataclasses.dataclass(frozen=True)
class Config:
    """Meshes 2^-1 … 2^-bits; the work grows like 16 per bit."""

    bits: int = 6
    sequences: int = 12


QUICK = Config(bits=4)


def run(config: Config, seed: int) -> Findings:
    """Solve the finite problem exactly at each mesh and compare with the teacher, whose cost is zero."""
    instance = Instance.random(config.sequences, seed=3 + seed)
    found = [measure(instance, bits) for bits in range(1, config.bits + 1)]
    mesh = np.array([g.mesh for g in found])
    gap, loss, bound = (np.array(v) for v in zip(*((g.gap, g.loss, g.bound.value) for g in found), strict=True))
    nested = np.array([g.actions_only for g in found])
    slope = lambda values: float(np.polyfit(np.log2(mesh), np.log2(values), 1)[0])
    slopes = {"gap": slope(np.maximum(gap, 1e-12)), "bound": slope(bound)}
    curves = [
        figures.Line("bound", mesh, bound, "floor"),
        figures.Line("gap of the optimum", mesh, gap, "filter"),
        figures.Line("loss of the network", mesh, loss, "transformer"),
        figures.Line("weights only", mesh, nested, "dual"),
    ]
    numbers = {
        "mesh": mesh.tolist(),
        "gap": gap.tolist(),
        "loss": loss.tolist(),
        "bound": bound.tolist(),
        "weights_only": nested.tolist(),
        "slopes": slopes,
        "largest_share_of_the_bound": [float((gap / bound).max()), float((loss / (2 * bound)).max())],
        "bound_over_gap": (bound / gap).tolist(),
        "largest_rise_of_the_gap": float(np.diff(gap).max()),
        "largest_rise_of_weights_only": float(np.diff(nested).max()),
    }
    return Findings(numbers, {"mesh": partial(figures.lines, curves=curves, log_x=True, log_y=True)})
