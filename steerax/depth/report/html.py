"""The page of the report on a checkpoint: one section for each question a trainer has."""

import os

import numpy as np

from ...report.figures import Dot, Line, dots, lines, matrix, table
from ...report.page import Section
from ...report.page import write as write_page
from ..measure.edges import Edges, ranked
from .record import Report
from .training import training_section


def write_html(report: Report, path: str | os.PathLike, telemetry: str | os.PathLike | None = None) -> None:
    """Write the report as one self-contained HTML file.

    **Arguments:** `telemetry`, the file that a `telemetry` hook wrote while the network trained, adds a section about it.

    **Raises:** `DataError` if that file holds no such records.
    """
    parts = [
        _findings_section(report),
        _learning_section(report),
        _importance_section(report),
        _depth_section(report),
        _edges_section(report),
        _ledger_section(report),
        _transport_section(report),
        _flow_section(report),
        _bounds_section(report),
    ]
    if telemetry is not None:
        parts.insert(2, training_section(telemetry))
    facts = [(f"sequences: {name}", number) for name, number in report.sequences.items()]
    facts += [(f"seconds: {name}", round(seconds, 1)) for name, seconds in report.seconds.items()]
    if report.peak_memory is not None:
        facts.append(("peak memory, GiB", round(report.peak_memory, 2)))
    config = report.config
    lead = (
        f"{config['n_layer']} layers, {config['n_head']} heads, width {config['n_embd']}: {report.loss:.4f} nats per "
        f"token on {report.sequences['costates']} sequences. Layers and heads are counted from 0; head 2.3 is head 3 of "
        "layer 2. Losses are in nats per token."
    )
    write_page(path, "Depth as time: a report on a checkpoint", lead, parts, facts)


def _findings_section(report: Report) -> Section:
    """What to do with this checkpoint."""
    learning, L = np.flatnonzero(report.still_learning), report.config["n_layer"]
    worth, cheap, best = report.importance, report.cheapest_layer, report.best_shallower
    if len(learning) == L:
        text = ["The gradient stands out of its noise in every layer: training longer should pay."]
    else:
        named = f": layers {', '.join(map(str, learning))}. There, training longer should pay" if len(learning) else ""
        text = [
            f"The gradient stands out of its noise in {len(learning)} of {L} layers{named}. For the others "
            f"{report.sequences['costates']} sequences cannot tell; more of them see finer."
        ]
    text.append(
        f"The layer that costs least is {cheap}: without it the loss changes by {worth.layers[cheap]:+.4f}. "
        f"{int((worth.heads < 0.01).sum())} of {worth.heads.size} heads are predicted to cost less than 0.01 each; such "
        "costs do not simply add up, so remove a few, measure, and predict again."
    )
    if best is not None:
        unchanged = report.depth_changes[0].loss
        text.append(
            f"With {best.layers} instead of {L} layers in sequence, {best.method} reaches {best.loss:.3f} on held-back "
            f"sequences without any training (unchanged: {unchanged:.3f}); steerax.depth.tune recovers part of the rest."
        )
    return Section("What to do", text)


def _half_step_names(L: int) -> list[str]:
    """Names of the 2L half-steps."""
    return [f"{part} {l}" for l in range(L) for part in ("attention", "MLP")]


def _learning_section(report: Report) -> Section:
    """Which layers are still learning."""
    found, L = report.learning, report.config["n_layer"]
    share = found.se / np.where(found.batch > 0, found.batch, 1)
    rows = [Dot(f"layer {l}", found.meter[l], share[l], "accent") for l in range(L)]
    details = [[l, found.signal[l], found.batch[l], found.meter[l], found.effective_decay[l]] for l in range(L)]
    text = (
        "At an optimum the gradient of the loss over all text is zero in every layer. The gradient of one batch is not: "
        f"it is mostly noise. From {found.number} batches without a common sequence the squared length of the mean "
        "gradient is estimated without bias; negative values are noise around zero. Where a bar reaches zero these "
        "sequences show nothing that the layer could still learn.",
    )
    return Section(
        "Which layers are still learning",
        text,
        (
            dots(
                "Signal share of the gradient",
                "1 is all signal, 0 is all noise. A bar that reaches zero: no measurable signal.",
                "squared mean gradient over squared gradient of a batch",
                rows,
                reference=("zero", 0.0),
                error_label="bar: ± 2 standard errors over batches (jackknife)",
            ),
            table(
                "Signal and noise",
                "Signal: squared length of the mean gradient; its share is signal over the squared gradient of a batch. The "
                "effective decay is the weight decay (added to the loss, not decoupled) that would balance the layer's "
                "gradient.",
                ["layer", "signal", "batch", "share", "effective decay"],
                details,
            ),
        ),
    )


def _importance_section(report: Report) -> Section:
    """Which parts could go, at what loss."""
    worth, L = report.importance, report.config["n_layer"]
    rows = [Dot(f"layer {l}", worth.layers[l], None, "transformer") for l in range(L)]
    order = np.argsort(worth.heads.ravel())[:10]
    heads = [[*map(int, np.unravel_index(i, worth.heads.shape)), worth.heads.ravel()[i]] for i in order]
    halves = [[l, worth.attention[l], worth.mlp[l], worth.cosine[l]] for l in range(L)]
    figures = (
        dots("Loss without a layer", "Measured, one layer at a time.", "change of the loss, nats per token", rows),
        table(
            "Loss without half a layer",
            "Measured. 1 − cos, how far the layer turns the state, is what is often used instead of measuring.",
            ["layer", "without attention", "without MLP", "1 − cos"],
            halves,
        ),
        matrix(
            "Loss without a head",
            "Predicted to second order from costates with labels drawn from the network.",
            "head",
            "layer",
            "nats",
            {"predicted change of the loss": worth.heads},
            diverging=bool((worth.heads < 0).any()),
        ),
        table("The cheapest heads", "Try these first, and measure.", ["layer", "head", "predicted change"], heads),
    )
    text = (
        "Layers and half-layers are removed one at a time and the loss is measured. Heads are too many for that: their "
        "cost is predicted. The ranking of such predictions can be trusted more than their size, and every number is for "
        "one part removed alone.",
    )
    return Section("What could go, and at what loss", text, figures)


def _depth_section(report: Report) -> Section:
    """What a shallower network would do."""
    if not report.depth_changes:
        text = (
            "A shallower network was not tried: that takes at least two layers and two sequences in the sub-sample.",
        )
        return Section("Other depths", text)
    changes = [[c.layers, c.method, c.loss, c.parameters] for c in report.depth_changes]
    text = (
        "Chosen on one half of the sub-sample and scored on the other, before any training. field_average lets groups of "
        "layers act side by side: fewer steps in sequence, the same number of parameters. greedy drops the layer that "
        "costs least, again and again; even keeps evenly spaced layers. Both have fewer parameters, so compare with them "
        "what latency buys, not what size buys. For a deeper network steerax.depth.change.resample inserts layers that change "
        "nothing at first.",
    )
    made = table("Shallower networks", "", ["layers", "method", "loss", "parameters"], changes)
    return Section("Other depths", text, (made,))


def _edges_section(report: Report) -> Section:
    """Which connections from heads carry what."""
    predicted, L = report.edges.predicted, report.config["n_layer"]
    edges = ranked(predicted)
    rows = [[f"{e.layer}.{e.head}", e.reader, e.value] for e in edges[:12]]
    small = sum(abs(e.value) < 1e-3 for e in edges)
    text = (
        "A head writes into the residual stream, and every later head, MLP and the readout may read it. Cutting one such "
        "connection leaves all others as they are; its cost is predicted from costates, as for heads. Of the "
        f"{len(edges):,} connections from heads, {small:,} are predicted to change the loss by less than 0.001 each.",
    )
    readers = [name for l in range(L) for name in (str(l), "")] + ["out"]
    return Section(
        "Who reads what the heads write",
        text,
        (
            table("The strongest connections", "", ["from head", "to", "predicted change"], rows),
            matrix(
                "Connections between layers",
                "Summed over heads. Over each number the heads of that layer, right of it its MLP; out: the readout.",
                "read by layer",
                "written by layer",
                "nats",
                {"predicted change of the loss": _between_layers(predicted)},
                diverging=True,
                columns=readers,
            ),
        ),
    )


def _between_layers(edges: Edges) -> np.ndarray:
    """Edges summed over heads, `[L 2L+1]`: the attention and the MLP of each layer by turns, then the read-out."""
    attention, mlp = edges.heads.sum((1, 3)), edges.mlp.sum(1)
    by_turns = np.stack([attention, mlp], axis=2).reshape(len(mlp), -1)
    return np.concatenate([by_turns, edges.readout.sum(1)[:, None]], axis=1)


def _ledger_section(report: Report) -> Section:
    """Where the loss gradient goes."""
    ledger, L = report.ledger, report.config["n_layer"]
    entries = [float(np.asarray(ledger.embedding).sum()), *np.asarray(ledger.by_half_step).tolist()]
    names = ["embedding", *_half_step_names(L)]
    rows = [Dot(name, value, None, "accent") for name, value in zip(names, entries, strict=True)]
    text = (
        "Each entry pairs what a half-layer adds to the residual stream with the gradient of the loss behind it (the "
        "costate): it is the slope of the loss if that part were scaled up. Below 0 the part works for the loss and "
        "would gain from being larger; above 0 it works against it. Because the final LayerNorm ignores the length of a "
        "state, the entries of every token sum to zero, here up to "
        f"{report.ledger.relative_defect:.1e} of the largest entry, which is the LayerNorm's epsilon and rounding.",
    )
    norms = Line("costate", np.arange(L + 1), report.costate_norms, "accent")
    return Section(
        "Where the loss gradient goes",
        text,
        (
            dots("Ledger", "The entries sum to zero.", "nats per token, first order", rows, reference=("zero", 0.0)),
            matrix(
                "Ledger of the heads",
                "The attention entries split over heads; what is missing is the output bias.",
                "head",
                "layer",
                "nats",
                {"ledger": np.asarray(ledger.heads).sum((2, 3))},
                diverging=True,
            ),
            lines(
                "Costate along depth",
                "How strongly the loss feels the state after each layer.",
                "after layer (0: the embedding)",
                "|P| (Frobenius)",
                [norms],
            ),
        ),
    )


def _transport_section(report: Report) -> Section:
    """How the law of the states moves."""
    moved, m = report.transport, np.arange(len(report.kinetic_energy)) / 2
    curves = [
        Line("step of a token", m, report.kinetic_energy, "transformer"),
        Line("step of the law", m, moved.sliced_distance, "accent"),
        Line("its noise floor", np.arange(len(moved.sliced_floor)) / 2, moved.sliced_floor, "floor"),
    ]
    lens = Line("early read-out", np.arange(len(moved.lens_loss)), moved.lens_loss, "transformer")
    return Section(
        "How the states move",
        (
            "The step of a token is the mean squared distance it moves in half a layer (its kinetic energy). The step of "
            "the law forgets which token is which: it is the sliced Wasserstein distance between the clouds of states "
            "before and after. Where that does not rise above its noise floor, tokens move and their law does not.",
        ),
        (
            lines(
                "Motion per half-layer",
                "Attention starts at whole numbers, MLPs in between.",
                "depth (layers)",
                "squared distance",
                curves,
                log_y=True,
            ),
            lines(
                "Loss of an early read-out",
                "The final LayerNorm and unembedding applied to an earlier state: where the prediction is formed.",
                "after layer (0: the embedding)",
                "nats per token",
                [lens],
                reference=("final loss", float(moved.lens_loss[-1])),
            ),
        ),
    )


def _flow_section(report: Report) -> Section:
    """How far the checkpoint is from the flow of its refinement."""
    flow = report.flow
    finite = [(k, v) for k, v in report.flow.losses.items() if np.isfinite(k)]
    curve = Line("k sub-steps", [k for k, _ in finite], [v for _, v in finite], "transformer")
    rows = [[str(k), flow.errors[k], flow.losses[k]] for k in flow.errors]
    rows.append(["flow", 0.0, float(flow.losses[float("inf")])])
    text = (
        f"Every layer is cut into k smaller steps of the same weights ({flow.kind}). At k = 1 this is the checkpoint, for "
        f"large k a continuous flow. The final states of the checkpoint differ from those of its flow by "
        f"{report.flow.distance:.0%}. If the loss grows with k, the layers are not small steps, and repeating or "
        "interpolating layers will not work; flow tuning (steerax.depth.tune with substeps=(1, 2)) makes the network "
        f"work at both depths. The flow itself is solved to {flow.reference_error:.0e} by {int(flow.steps.sum())} "
        "adaptive steps.",
    )
    limit = ("flow", float(report.flow.losses[float("inf")]))
    return Section(
        "Distance to the flow",
        text,
        (
            lines("Loss by sub-steps", "", "sub-steps per layer", "nats per token", [curve], limit, log_x=True),
            table(
                "Sub-steps", "Distance of the final states to the flow's, relative.", ["k", "distance", "loss"], rows
            ),
        ),
    )


def _bounds_section(report: Report) -> Section:
    """What the loss on these documents says about others."""
    rows = [
        [b.kind, report.loss, b.right, "vacuous" if b.vacuous else "informative", b.certified] for b in report.bounds
    ]
    first = report.bounds[0]
    text = (
        f"With probability at least {1 - first.delta:.0%} the loss over all documents lies within the bound of the loss "
        f"measured here, if the {first.number} sequences are independent documents that had no part in training (windows "
        "of one text are not). A bound is called vacuous if it is wider than log V, here "
        f"{first.trivial:.2f}, because guessing alone is that good. A network chosen from a class fixed in advance may "
        f"be described by at most {report.affordable_bits:,.0f} bits for a gap of 0.5 on as many documents.",
    )
    return Section(
        "What the loss says about other text",
        text,
        (table("Sampling bounds", "", ["kind", "measured loss", "± bound", "verdict", "constants proven"], rows),),
    )
