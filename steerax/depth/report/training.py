"""The section of the page about the training of a network, from its telemetry."""

import os
from pathlib import Path

from ...report.figures import Line, lines, table
from ...report.page import Section
from ..measure.telemetry import history


def training_section(path: str | os.PathLike) -> Section:
    """What telemetry recorded while the network trained."""
    found = history(path)
    steps, L = found["step"], found["signal"].shape[1]
    shown = sorted({round(i * (L - 1) / 3) for i in range(4)})

    def curves(name: str) -> list[Line]:
        return [Line(f"layer {l}", steps, found[name][:, l], "transformer") for l in shown]

    last = [
        [l, found["update_ratio"][-1, l], found["meter"][-1, l], found["costate_norm"][-1, l + 1]] for l in range(L)
    ]
    text = (
        f"Recorded at {len(steps)} steps, {steps[0]} to {steps[-1]}, on a fixed probe ({Path(path).name}). The relative "
        "step of a layer, update over weight, is the quickest check of the learning rate: near 1e-3 is usual, a layer "
        "far above its neighbours is about to be overwritten, one far below hardly trains.",
    )
    of_layers = f"Layers {', '.join(map(str, shown))} of {L}." if len(shown) < L else "All layers."
    figures = (
        lines("Update over weight", of_layers, "step", "relative step", curves("update_ratio"), log_y=True),
        lines(
            "Signal share of the gradient",
            f"{of_layers} Falls towards 0 as a layer has less left to learn; may be below 0 by noise.",
            "step",
            "signal over squared batch gradient",
            curves("meter"),
            reference=("zero", 0.0),
        ),
        lines(
            "Costate before a layer",
            f"{of_layers} How strongly the loss feels the state that the layer reads.",
            "step",
            "|P| (Frobenius, whole probe)",
            curves("costate_norm"),
            log_y=True,
        ),
        table(
            "At the last record",
            "",
            ["layer", "update over weight", "signal share", "|P| after"],
            last,
        ),
    )
    return Section("While it trained", text, figures)
