"""State, law and weights quantised at once: the gap to the continuous optimum and its bound, at every mesh."""

import dataclasses

import numpy as np

from ...lifted.bounds.near_optimality import Instance, measure
from ...report import figures
from .outcome import HOLDS, OPEN, Claim, Outcome, at_least, at_most

TITLE = "Triple quantisation is near-optimal"


@dataclasses.dataclass(frozen=True)
class Config:
    """Meshes 2^-1 … 2^-bits; the work grows like 16 per bit."""

    bits: int = 6
    sequences: int = 12


QUICK = Config(bits=4)


def run(config: Config, seed: int) -> Outcome:
    """Solve the finite problem exactly at each mesh and compare with the teacher, whose cost is zero."""
    instance = Instance.random(config.sequences, seed=3 + seed)
    found = [measure(instance, bits) for bits in range(1, config.bits + 1)]
    mesh = np.array([g.mesh for g in found])
    gap, loss, bound = (np.array(v) for v in zip(*((g.gap, g.loss, g.bound.value) for g in found), strict=True))
    nested = np.array([g.actions_only for g in found])
    slope = lambda values: float(np.polyfit(np.log2(mesh), np.log2(values), 1)[0])
    slopes = {"gap": slope(np.maximum(gap, 1e-12)), "bound": slope(bound)}
    return Outcome(
        TITLE,
        "The near-optimality theorem of [AkmanSaldiYuksel2026]",
        [
            f"{config.sequences} weighted sequences of three tokens in [-1, 1], two layers of softmax attention with four weights "
            "in a box, labels from a teacher with irrational weights inside the box, so that the continuous optimum is exactly "
            "zero. States, weights and the law of the sequences are quantised with mesh h, and the finite problem is solved "
            "exactly.",
        ],
        claims(gap, loss, bound, nested, slopes),
        pictures(mesh, gap, loss, bound, nested),
        {
            "mesh": mesh.tolist(),
            "gap": gap.tolist(),
            "loss": loss.tolist(),
            "bound": bound.tolist(),
            "weights_only": nested.tolist(),
            "slopes": slopes,
            "largest_share_of_the_bound": [float((gap / bound).max()), float((loss / (2 * bound)).max())],
            "bound_over_gap": (bound / gap).tolist(),
            "largest_rise_of_weights_only": float(np.diff(nested).max()),
        },
    )


def claims(gap: np.ndarray, loss: np.ndarray, bound: np.ndarray, nested: np.ndarray, slopes: dict) -> list[Claim]:
    """The theorem and its consequences, as predicates."""
    worst = float(max((gap / bound).max(), (loss / (2 * bound)).max()))
    rises = float(np.diff(nested).max())
    loose = bound / gap
    return [
        at_most(
            "The gap and the loss of the extracted network lie within the a-priori bound at every mesh",
            "theorem",
            worst,
            1.0,
            f"Largest share of the bound used: {worst:.3f}; the bound is {loose.min():.0f} to {loose.max():.0f} times too large",
        ),
        at_least(
            "The gap is of first order in the mesh",
            "theorem",
            slopes["gap"],
            0.8,
            f"Fitted slope {slopes['gap']:.2f}",
            margin=0.2,
        ),
        at_most(
            "The bound is of first order in the mesh",
            "theorem",
            abs(slopes["bound"] - 1),
            0.2,
            f"Fitted slope {slopes['bound']:.2f}",
        ),
        Claim(
            "The gap falls with every refinement",
            "expectation",
            HOLDS if (np.diff(gap) <= 0).all() else OPEN,
            f"Gaps {', '.join(f'{g:.4f}' for g in gap)}; the theorem does not promise it.",
        ),
        at_most(
            "With weights alone quantised, on nested grids, it never rises",
            "consequence of nesting",
            rises,
            1e-12,
            f"Largest rise {rises:.1e}",
        ),
    ]


def pictures(mesh: np.ndarray, gap: np.ndarray, loss: np.ndarray, bound: np.ndarray, nested: np.ndarray) -> list[dict]:
    """All of it against the mesh."""
    return [
        figures.lines(
            "Gap and bound against the mesh",
            "Both fall in proportion to the mesh; the bound holds, a hundred times above.",
            "mesh",
            "cost",
            [
                figures.Line("bound", mesh, bound, "floor"),
                figures.Line("gap of the optimum", mesh, gap, "filter"),
                figures.Line("loss of the network", mesh, loss, "transformer"),
                figures.Line("weights only", mesh, nested, "dual"),
            ],
            log_x=True,
            log_y=True,
        )
    ]
