"""What the report on a checkpoint says in a screen of text, and its numbers as JSON."""

from typing import Any

import numpy as np

from ..analysis import DepthChange, Report
from ..measure.edges import ranked


def still_learning(report: Report) -> np.ndarray:
    """Layers whose signal is more than two standard errors above zero."""
    return report.stationarity > 2 * report.stationarity_se


def cheapest_layer(report: Report) -> int:
    """The layer whose removal costs least."""
    return int(np.argmin(report.importance.layers))


def best_shallower(report: Report) -> DepthChange | None:
    """The best network of the least depth that was tried, or None."""
    changes = [c for c in report.depth_changes if c.method != "unchanged"]
    return min(changes, key=lambda c: (c.layers, c.loss)) if changes else None


def summary(report: Report) -> str:
    """The findings in a screen of text."""
    L = report.config["n_layer"]
    learning = still_learning(report)
    cheap = cheapest_layer(report)
    least = np.sort(report.importance.heads.ravel())
    edge = ranked(report.edges.predicted)[0]
    best = best_shallower(report)
    flow = report.flow
    losses = ", ".join(f"k={k:g}: {v:.3f}" for k, v in report.loss_by_refinement.items())
    bound = report.bounds[-1]
    lines = [
        f"{L} layers, {report.config['n_head']} heads, width {report.config['n_embd']}: "
        f"{report.loss:.4f} nats per token on {report.sequences['costates']} sequences.",
        f"Learning: {int(learning.sum())} of {L} layers have a gradient signal above noise"
        + (f" (layers {', '.join(str(l) for l in np.flatnonzero(learning))})." if learning.any() else "."),
        f"Cheapest layer: {cheap}; without it the loss changes by {report.importance.layers[cheap]:+.4f}.",
        f"Heads: {int((least < 0.01).sum())} of {least.size} are predicted to cost less than 0.01 nats each.",
        f"Strongest connection: head {edge.layer}.{edge.head} to {edge.reader}; without it the loss is predicted to "
        f"change by {edge.value:+.4f}.",
        f"Distance to the flow ({flow.kind}): {report.flow_distance:.0%} of the final state; loss by sub-steps {losses}.",
        f"Ledger: closes to {report.ledger.relative_defect:.1e} of its largest entry.",
    ]
    if best is not None:
        lines.append(f"Depth {best.layers}: {best.method} reaches {best.loss:.3f} without training.")
    state = "vacuous" if bound.vacuous else "informative"
    lines.append(
        f"Sampling bound ({bound.kind}, {bound.number} documents): ±{bound.right:.3g} nats, {state}; "
        "it holds for a network chosen without these documents."
    )
    memory = "" if report.peak_memory is None else f", {report.peak_memory:.1f} GiB at the peak"
    lines.append(f"Took {sum(report.seconds.values()):.0f} s{memory}.")
    return "\n".join(lines)


def numbers(report: Report) -> dict[str, Any]:
    """The report as JSON values; no NaN, infinities as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if hasattr(value, "_asdict"):
            return plain(value._asdict())
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, (str, bool)) or value is None:
            return value
        array = np.asarray(value)
        if array.ndim:
            return [plain(v) for v in array]
        number = array.item()
        return number if np.isfinite(number) else None

    ledger = report.ledger
    return plain(
        {
            "config": report.config,
            "loss": report.loss,
            "costate_norms": report.costate_norms,
            "stationarity": report.stationarity,
            "stationarity_se": report.stationarity_se,
            "meter": report.learning.meter,
            "effective_decay": report.learning.effective_decay,
            "ledger": {
                "embedding": np.asarray(ledger.embedding).sum(),
                "half_steps": ledger.by_half_step,
                "heads": np.asarray(ledger.heads).sum((2, 3)),
                "relative_defect": ledger.relative_defect,
            },
            "flow": report.flow,
            "kinetic_energy": report.kinetic_energy,
            "transport": report.transport,
            "importance": {
                "layers": report.importance.layers,
                "attention": report.importance.attention,
                "mlp": report.importance.mlp,
                "heads": report.importance.heads,
                "neurons": report.importance.neurons,
                "cosine": report.importance.cosine,
            },
            "edges": report.edges.predicted,
            "depth_changes": list(report.depth_changes),
            "bounds": [{**vars(b), "vacuous": b.vacuous} for b in report.bounds],
            "affordable_bits": report.affordable_bits,
            "sequences": report.sequences,
            "seconds": report.seconds,
            "peak_memory": report.peak_memory,
        }
    )
