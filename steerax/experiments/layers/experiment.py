"""How many dual-filter layers a process needs, and why plain iteration fails for linear models."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..._results import RESULTS
from ...inference.hmm.dual import dual_filter_tokens
from ...inference.hmm.filter import filter_tokens
from ...inference.linear.dual import dual_filter_series
from ...inference.linear.solvers import ClosedLoop, OpenLoop, Picard
from ...models import HiddenMarkovModel, random_hmm, two_cycle
from ...models.linear_gaussian import LinearGaussianModel
from ...report import figures
from ...report.words import Findings, table


@dataclasses.dataclass(frozen=True)
class Config:
    """`length` 200 separates chains that need few layers from those that need nearly one per token."""

    length: int = 200
    random_chains: int = 5
    n_states: int = 8
    n_tokens: int = 4


QUICK = Config(length=100, random_chains=2)


def run(config: Config, seed: int) -> Findings:
    """Count layers on random, sticky and two-cycle chains; iterate a linear model three ways."""
    chains = {
        f"random {i + 1}": random_hmm(jax.random.key(100 * seed + i), config.n_states, config.n_tokens)
        for i in range(config.random_chains)
    }
    chains |= {"sticky": sticky(), "two-cycle": two_cycle()}
    rows, curves = [], []
    for name, hmm in chains.items():
        _, tokens = hmm.sample(jax.random.key(seed + 7), config.length)
        found = dual_filter_tokens(hmm, tokens, layers=config.length, initial="prior", keep=True)
        exact = np.asarray(filter_tokens(hmm, tokens).predicted)
        assert found.history is not None
        error = np.abs(np.asarray(found.history) - exact).sum(-1).max(-1)
        needed = int(np.argmax(error <= 1e-12))
        rows.append(
            {"chain": name, "layers": needed, "forgetting": forgetting(hmm, tokens), "last_error": float(error[-1])}
        )
        role = {"sticky": "accent", "two-cycle": "dual"}.get(name, "baseline")
        shown = np.where(error > 1e-16, error, 0)
        curves.append(figures.Line(name, np.arange(len(error)), shown, role))
    linear, solvers = linear_iterations()
    randoms = [row["layers"] for row in rows if row["chain"].startswith("random")]
    by_chain = {row["chain"]: row for row in rows}
    numbers = {
        "chains": rows,
        "sticky": by_chain["sticky"],
        "random_layers": [min(randoms), max(randoms)],
        "sticky_over_random": by_chain["sticky"]["layers"] / max(randoms),
        "largest_last_error": max(row["last_error"] for row in rows),
        "linear_model": linear,
        "solvers": solvers,
    }
    cells = [[row["chain"], row["layers"], f"{row['forgetting']:.2f}"] for row in rows]
    iterations = [
        [name, s["iterations"], f"{s['residual']:.1e}", s["result"] or "converged"] for name, s in solvers.items()
    ]
    return Findings(
        numbers,
        {
            "errors": partial(figures.lines, curves=curves, log_y=True),
            "chains": table(cells),
            "iterations": table(iterations),
        },
    )


def sticky(stay: float = 0.99, accuracy: float = 0.9) -> HiddenMarkovModel:
    """Two states that last, two tokens that tell them apart most of the time."""
    A = np.array([[stay, 1 - stay], [1 - stay, stay]])
    C = np.array([[accuracy, 1 - accuracy], [1 - accuracy, accuracy]])
    return HiddenMarkovModel([0.5, 0.5], A, C)


def forgetting(hmm: HiddenMarkovModel, tokens) -> float:
    """The factor per step by which two filters with different starts approach each other: median over the first steps."""
    start = np.full(hmm.n_states, 1e-3)
    start[0] = 1.0
    one = np.asarray(filter_tokens(hmm, tokens, on_impossible="skip").predicted)
    other = np.asarray(filter_tokens(hmm.started(start / start.sum()), tokens, on_impossible="skip").predicted)
    gap = np.abs(one - other).sum(1)
    kept = np.flatnonzero(gap > 1e-12)
    last = int(kept[-1]) if len(kept) else 0
    return float((gap[last] / gap[0]) ** (1 / last)) if last else 0.0


def linear_iterations() -> tuple[dict, dict]:
    """A stable linear model of order 6 and what three iterations of its layer do."""
    rng = np.random.default_rng(6)  # one fixed model: what matters is that it is ordinary
    d, order = 3, 6
    taps = rng.normal(size=(order, d, d))
    taps *= 0.95 / sum(np.linalg.norm(tap, 2) for tap in taps)
    model = LinearGaussianModel(np.zeros(d), np.eye(d), taps, np.eye(1, d), np.eye(d), 0.1 * np.eye(1))
    z = jnp.asarray(rng.normal(size=(200, 1)))
    solvers = {}
    for method, solver in {"picard": Picard(), "cg": OpenLoop(), "closed_loop": ClosedLoop()}.items():
        found = dual_filter_series(model, z, solver=solver)
        solvers[method] = {
            "iterations": found.layers,
            "residual": float(found.residuals[-1]),
            "radius": found.spectral_radius,
            "diverged": bool(found.result == RESULTS.diverged),
            "result": RESULTS[found.result],  # pyright: ignore[reportInvalidTypeArguments]
        }
    return {"d": d, "order": order, "T": 200}, solvers
