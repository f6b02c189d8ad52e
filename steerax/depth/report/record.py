r"""The report on a checkpoint: numbers, and a summary of them in text."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ...runs.json import plain
from ..measure.bounds import RiskBound
from ..measure.costate import Ledger
from ..measure.edges import EdgeImportance, ranked
from ..measure.importance import Importance
from ..measure.refinement import FlowDistance
from ..measure.stationarity import Stationarity


class DepthChange(NamedTuple):
    """One way to a shallower network: `layers`, `method`, `loss` on sequences not used for calibration, `parameters`."""

    layers: int
    method: str
    loss: float
    parameters: int


class Transport(NamedTuple):
    r"""How the distribution of the token states moves: shares and sliced distances `[2L]`, floors `[2L+1]`, lens losses `[L+1]`.

    `lens_loss[l]` is the loss of reading the prediction off the state after layer l.
    """

    mean_shift_share: np.ndarray
    radial_share: np.ndarray
    sliced_distance: np.ndarray
    sliced_floor: np.ndarray
    lens_loss: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    r"""What `analyse` returns. Arrays are NumPy; `l` counts layers (0..L, after layers), `m` half-steps (2L).

    **Attributes:** `loss`, mean nats per scored token; `costate_norms` `[L+1]`, Frobenius norms of $\nabla_{X_l}$ `loss`;
    `costates` `[L+1 B T D]` and `states` `[L+1 B T D]` if kept, else None; `learning`, whose `signal` `[L]` is the unbiased
    $|\mathbb E\,\partial\ell/\partial\theta_l|^2$ and `se` its standard error; `ledger`; `flow`, whose `distance` is $e_1$ and
    `losses` maps sub-steps k to losses;
    `kinetic_energy` `[2L]`; `transport`; `importance`; `depth_changes`; `bounds`; `affordable_bits` for a gap of 0.5
    nats; `edges`, how much connections from heads matter; `sequences`, on how many each part was computed; `seconds`, how
    long each took; `peak_memory`, GiB that the process had in use at most so far, or None where that is not known.
    """

    config: dict[str, Any]
    loss: float
    costate_norms: Float[np.ndarray, " K"]
    costates: Float[np.ndarray, "K B T D"] | None
    states: Float[np.ndarray, "K B T D"] | None
    learning: Stationarity
    ledger: Ledger
    flow: FlowDistance
    kinetic_energy: Float[np.ndarray, " M"]
    transport: Transport
    importance: Importance
    edges: EdgeImportance
    depth_changes: tuple[DepthChange, ...]
    bounds: tuple[RiskBound, ...]
    affordable_bits: float
    sequences: dict[str, int]
    seconds: dict[str, float]
    peak_memory: float | None

    @property
    def still_learning(self) -> np.ndarray:
        """Layers whose gradient signal is more than two standard errors above zero, bool `[L]`."""
        return self.learning.signal > 2 * self.learning.se

    @property
    def cheapest_layer(self) -> int:
        """The layer whose removal costs least."""
        return int(np.argmin(self.importance.layers))

    @property
    def best_shallower(self) -> DepthChange | None:
        """The best network of the least depth that was tried, or None."""
        changes = [c for c in self.depth_changes if c.method != "unchanged"]
        return min(changes, key=lambda c: (c.layers, c.loss)) if changes else None

    def summary(self) -> str:
        """The report in a screen of text."""
        L = self.config["n_layer"]
        learning = self.still_learning
        cheap = self.cheapest_layer
        least = np.sort(self.importance.heads.ravel())
        edge = ranked(self.edges.predicted)[0]
        best = self.best_shallower
        flow = self.flow
        losses = ", ".join(f"k={k:g}: {v:.3f}" for k, v in flow.losses.items())
        bound = self.bounds[-1]
        lines = [
            f"{L} layers, {self.config['n_head']} heads, width {self.config['n_embd']}: "
            f"{self.loss:.4f} nats per token on {self.sequences['costates']} sequences.",
            f"Learning: {int(learning.sum())} of {L} layers have a gradient signal above noise"
            + (f" (layers {', '.join(str(l) for l in np.flatnonzero(learning))})." if learning.any() else "."),
            f"Cheapest layer: {cheap}; without it the loss changes by {self.importance.layers[cheap]:+.4f}.",
            f"Heads: {int((least < 0.01).sum())} of {least.size} are predicted to cost less than 0.01 nats each.",
            f"Strongest connection: head {edge.layer}.{edge.head} to {edge.reader}; without it the loss is predicted to "
            f"change by {edge.value:+.4f}.",
            f"Distance to the flow ({flow.kind}): {flow.distance:.0%} of the final state; loss by sub-steps {losses}.",
            f"Ledger: closes to {self.ledger.relative_defect:.1e} of its largest entry.",
        ]
        if best is not None:
            lines.append(f"Depth {best.layers}: {best.method} reaches {best.loss:.3f} without training.")
        state = "vacuous" if bound.vacuous else "informative"
        lines.append(
            f"Sampling bound ({bound.kind}, {bound.number} documents): ±{bound.right:.3g} nats, {state}; "
            "it holds for a network chosen without these documents."
        )
        memory = "" if self.peak_memory is None else f", {self.peak_memory:.1f} GiB at the peak"
        lines.append(f"Took {sum(self.seconds.values()):.0f} s{memory}.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON values (without costates, states and the ledger of single tokens)."""
        ledger = self.ledger
        return plain(
            {
                "config": self.config,
                "loss": self.loss,
                "costate_norms": self.costate_norms,
                "stationarity": self.learning.signal,
                "stationarity_se": self.learning.se,
                "meter": self.learning.meter,
                "effective_decay": self.learning.effective_decay,
                "ledger": {
                    "embedding": np.asarray(ledger.embedding).sum(),
                    "half_steps": ledger.by_half_step,
                    "heads": np.asarray(ledger.heads).sum((2, 3)),
                    "relative_defect": ledger.relative_defect,
                },
                "flow": self.flow,
                "kinetic_energy": self.kinetic_energy,
                "transport": self.transport,
                "importance": {
                    "layers": self.importance.layers,
                    "attention": self.importance.attention,
                    "mlp": self.importance.mlp,
                    "heads": self.importance.heads,
                    "neurons": self.importance.neurons,
                    "cosine": self.importance.cosine,
                },
                "edges": self.edges.predicted,
                "depth_changes": list(self.depth_changes),
                "bounds": [{**vars(b), "vacuous": b.vacuous} for b in self.bounds],
                "affordable_bits": self.affordable_bits,
                "sequences": self.sequences,
                "seconds": self.seconds,
                "peak_memory": self.peak_memory,
            }
        )
