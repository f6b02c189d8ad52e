"""What the report on a checkpoint says: a screen of text, a page, and numbers as JSON."""

import os
from typing import Any

import numpy as np

from ..report.figures import Dot, Line, dots, lines, matrix, table
from ..report.page import Section
from ..report.page import write as write_page
from .analyse import Report


def still_learning(report: Report) -> np.ndarray:
    """Layers whose signal is more than two standard errors above zero."""
    return report.stationarity > 2 * report.stationarity_se


def cheapest_layer(report: Report) -> int:
    """The layer whose removal costs least."""
    return int(np.argmin(report.importance.layers))


def summary(report: Report) -> str:
    """The findings in a screen of text."""
    L = report.config["n_layer"]
    learning = still_learning(report)
    cheap = cheapest_layer(report)
    least = np.sort(report.importance.heads.ravel())
    changes = [c for c in report.depth_changes if c.method != "unchanged"]
    best = min(changes, key=lambda c: (c.layers, c.loss)) if changes else None
    flow = report.flow
    losses = ", ".join(f"k={k:g}: {v:.3f}" for k, v in report.loss_by_refinement.items())
    bound = report.bounds[-1]
    lines = [
        f"{L} layers, {report.config['n_head']} heads, width {report.config['n_embd']}: "
        f"{report.loss:.4f} nats per token on {report.sequences['costates']} sequences.",
        f"Learning: {int(learning.sum())} of {L} layers have a gradient signal above noise"
        + (f" (layers {', '.join(str(l) for l in np.flatnonzero(learning))})." if learning.any() else "."),
        f"Cheapest layer: {cheap}; without it the loss rises by {report.importance.layers[cheap]:.4f}.",
        f"Heads: {int((least < 0.01).sum())} of {least.size} are predicted to cost less than 0.01 nats each.",
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
            "depth_changes": list(report.depth_changes),
            "bounds": [{**vars(b), "vacuous": b.vacuous} for b in report.bounds],
            "affordable_bits": report.affordable_bits,
            "sequences": report.sequences,
            "seconds": report.seconds,
        }
    )


# ---- the page ------------------------------------------------------------------------------------------------------------


def write(report: Report, path: str | os.PathLike) -> None:
    """Write the page."""
    parts = (
        learning_section(report),
        importance_section(report),
        ledger_section(report),
        transport_section(report),
        flow_section(report),
        bounds_section(report),
    )
    facts = [(f"sequences: {name}", number) for name, number in report.sequences.items()]
    facts += [(f"seconds: {name}", round(seconds, 1)) for name, seconds in report.seconds.items()]
    write_page(path, "Depth as time: a report on a checkpoint", " ".join(summary(report).split("\n")[:3]), parts, facts)


def half_step_names(L: int) -> list[str]:
    """Names of the 2L half-steps."""
    return [f"{part} {l}" for l in range(L) for part in ("attention", "MLP")]


def learning_section(report: Report) -> Section:
    """Which layers are still learning."""
    found, L = report.learning, report.config["n_layer"]
    rows = [Dot(f"layer {l}", found.signal[l], found.se[l], "accent") for l in range(L)]
    details = [[l, found.signal[l], found.batch[l], found.meter[l], found.effective_decay[l]] for l in range(L)]
    text = (
        "At an optimum the gradient of the population loss in a layer is zero. The gradient of a batch is not: it is "
        f"mostly noise. From {found.number} disjoint batches the squared length of the mean gradient is estimated "
        "without bias. A layer whose bar crosses zero has nothing left to learn from at this batch size, learning rate "
        "aside; train longer for the others.",
    )
    return Section(
        "Which layers are still learning",
        text,
        (
            dots(
                "Squared gradient signal per layer",
                "Bars that cross zero: no measurable signal.",
                "|E g|², squared nats per unit of weight",
                rows,
                reference=("zero", 0.0),
                error_label="bar: ± 2 standard errors over batches (jackknife)",
            ),
            table(
                "Signal and noise",
                "The meter is signal over the squared gradient of one batch: 1 all signal, 0 all noise. The effective "
                "decay is the weight decay at which the layer would be stationary.",
                ["layer", "signal", "batch gradient²", "meter", "effective decay"],
                details,
            ),
        ),
    )


def importance_section(report: Report) -> Section:
    """Which parts could go, at what loss, and what a shallower network would do."""
    worth, L = report.importance, report.config["n_layer"]
    rows = [Dot(f"layer {l}", worth.layers[l], None, "transformer") for l in range(L)]
    order = np.argsort(worth.heads.ravel())[:10]
    heads = [[*map(int, np.unravel_index(i, worth.heads.shape)), worth.heads.ravel()[i]] for i in order]
    figures = [
        dots("Loss without a layer", "Measured.", "rise of the loss, nats per token", rows),
        matrix(
            "Loss without a head",
            "Predicted to second order from costates with labels drawn from the network.",
            "head",
            "layer",
            "nats per token",
            {"predicted rise of the loss": worth.heads},
        ),
        table("Ten cheapest heads", "Try these first.", ["layer", "head", "predicted rise"], heads),
    ]
    if report.depth_changes:
        changes = [[c.layers, c.method, c.loss, c.parameters] for c in report.depth_changes]
        figures.append(
            table(
                "Other depths, before any training",
                "Chosen on one half of the sub-sample, scored on the other. field_average keeps every parameter: the "
                "layers of a group act side by side. Deeper: steerax.depth.resample inserts layers without any change.",
                ["layers", "method", "loss", "parameters"],
                changes,
            )
        )
    text = ("A layer is removed and the loss measured; heads are too many to measure and are predicted.",)
    return Section("What could go, and at what loss", text, figures)


def ledger_section(report: Report) -> Section:
    """Where the loss gradient goes."""
    ledger, L = report.ledger, report.config["n_layer"]
    entries = [float(np.asarray(ledger.embedding).sum()), *np.asarray(ledger.by_half_step).tolist()]
    names = ["embedding", *half_step_names(L)]
    rows = [Dot(name, value, None, "accent") for name, value in zip(names, entries, strict=True)]
    text = (
        "Each entry pairs what a half-step adds with the costate after it: the change of the loss, to first order, if "
        "that part were made larger. Because the final LayerNorm ignores the length of a state, the entries of every "
        f"token sum to zero; here up to {report.ledger.relative_defect:.1e} of the largest entry, which is the "
        "LayerNorm's epsilon. A positive entry pushes against the loss: the network would gain if it were smaller.",
    )
    norms = Line("costate", np.arange(L + 1), report.costate_norms, "accent")
    return Section(
        "Where the loss gradient goes",
        text,
        (
            dots("Ledger", "Entries sum to zero.", "nats per token, first order", rows, reference=("zero", 0.0)),
            matrix(
                "Ledger of the heads",
                "Attention entries split over heads (the rest is the output bias).",
                "head",
                "layer",
                "nats per token",
                {"ledger": np.asarray(ledger.heads).sum((2, 3))},
                diverging=True,
            ),
            lines(
                "Costate along depth", "How strongly the loss feels a state.", "after layer", "|P| (Frobenius)", [norms]
            ),
        ),
    )


def transport_section(report: Report) -> Section:
    """How the law of the states moves."""
    moved, m = report.transport, np.arange(len(report.kinetic_energy)) / 2
    curves = [
        Line("kinetic energy", m, report.kinetic_energy, "transformer"),
        Line("distance between laws", m, moved.sliced_distance, "accent"),
        Line("noise floor", np.arange(len(moved.sliced_floor)) / 2, moved.sliced_floor, "floor"),
    ]
    lens = Line("read-out after layer", np.arange(len(moved.lens_loss)), moved.lens_loss, "transformer")
    return Section(
        "How the states move",
        (
            "Kinetic energy is the mean squared step of a token; the distance between laws forgets which token is which. "
            "Where it does not rise above its noise floor, tokens move but their law does not.",
        ),
        (
            lines("Motion per half-step", "", "depth (layers)", "squared distance", curves, log_y=True),
            lines(
                "Loss of an early read-out",
                "Where the prediction is formed.",
                "after layer",
                "nats per token",
                [lens],
                reference=("final loss", float(moved.lens_loss[-1])),
            ),
        ),
    )


def flow_section(report: Report) -> Section:
    """How far the checkpoint is from the flow of its refinement."""
    flow = report.flow
    finite = [(k, v) for k, v in report.loss_by_refinement.items() if np.isfinite(k)]
    curve = Line("loss", [k for k, _ in finite], [v for _, v in finite], "transformer")
    rows = [[k, flow.errors[k], flow.losses[k]] for k in flow.errors]
    text = (
        f"Every layer is cut into k smaller steps ({flow.kind}). At k = 1 this is the checkpoint, for large k the flow. "
        f"The final states differ from the flow's by {report.flow_distance:.0%}; a network near its flow would gain "
        "nothing and lose nothing by deepening. Flow tuning (steerax.depth.tune with substeps=(1, 2)) brings it nearer.",
    )
    limit = ("limiting flow", float(report.loss_by_refinement[float("inf")]))
    return Section(
        "Distance to the flow",
        text,
        (
            lines("Loss by sub-steps", "", "sub-steps per layer", "nats per token", [curve], limit, log_x=True),
            table("Sub-steps", "Relative distance of the final states to the flow.", ["k", "distance", "loss"], rows),
        ),
    )


def bounds_section(report: Report) -> Section:
    """What the loss on these documents says about others."""
    rows = [
        [b.kind, report.loss, b.right, "vacuous" if b.vacuous else "informative", b.certified] for b in report.bounds
    ]
    text = (
        f"With probability at least {1 - report.bounds[0].delta:.0%} the population loss lies within the bound of the "
        "loss measured here, if the sequences are independent documents that had no part in training. A bound is "
        f"vacuous if it is wider than log V = {report.bounds[0].trivial:.2f} nats. A network chosen from a class fixed "
        f"in advance may be described in at most {report.affordable_bits:,.0f} bits for a gap of 0.5 nats on as many documents.",
    )
    return Section(
        "What the loss says about other text",
        text,
        (table("Sampling bounds", "", ["kind", "measured loss", "± bound", "verdict", "constants proven"], rows),),
    )
