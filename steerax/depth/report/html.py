"""The page of the report on a checkpoint: the words of `page.md`, one section for each question a trainer has."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from ...report import words
from ...report.figures import Dot, Line, dots, lines, matrix
from ...report.page import write as write_page
from ...report.words import Drawings, table
from ...runs.files import free_place
from ..measure.edges import Edges, ranked
from ..measure.telemetry import history
from .record import Report


def write_html(
    report: Report,
    path: str | os.PathLike,
    telemetry: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the report as one self-contained HTML file.

    **Arguments:** `telemetry`, the file that a `telemetry` hook wrote while the network trained, adds a section about it.

    **Raises:** `DataError` if that file holds no such records; `ConfigurationError` if there is something at `path` and
    `overwrite` is false.
    """
    free_place(path, overwrite)
    said, drawn = (None, {}) if telemetry is None else _training(Path(telemetry))
    edges = ranked(report.edges.predicted)
    names = vars(report) | {
        "L": report.config["n_layer"],
        "telemetry": said,
        "learning_layers": np.flatnonzero(report.still_learning).tolist(),
        "cheapest_layer": report.cheapest_layer,
        "cheap_heads": int((report.importance.heads < 0.01).sum()),
        "best_shallower": report.best_shallower,
        "connections": len(edges),
        "small_connections": sum(abs(e.value) < 1e-3 for e in edges),
    }
    drawn |= {**_parts(report), **_gradient(report), **_motion(report)}
    page = words.read(Path(__file__).with_name("page.md"), names, drawn)
    facts = [(f"sequences: {name}", number) for name, number in report.sequences.items()]
    facts += [(f"seconds: {name}", round(seconds, 1)) for name, seconds in report.seconds.items()]
    if report.peak_memory is not None:
        facts.append(("peak memory, GiB", round(report.peak_memory, 2)))
    write_page(path, page.title, page.lead, page.sections, facts)


def _training(path: Path) -> tuple[dict, dict]:
    """What telemetry recorded while the network trained."""
    found = history(path)
    steps, L = found["step"], found["signal"].shape[1]
    shown = sorted({round(i * (L - 1) / 3) for i in range(4)})
    curves = lambda name: [Line(f"layer {l}", steps, found[name][:, l], "transformer") for l in shown]
    last = [
        [l, found["update_ratio"][-1, l], found["meter"][-1, l], found["costate_norm"][-1, l + 1]] for l in range(L)
    ]
    said = {
        "number": len(steps),
        "first": steps[0],
        "last": steps[-1],
        "file": path.name,
        "shown": f"Layers {', '.join(map(str, shown))} of {L}." if len(shown) < L else "All layers.",
    }
    return said, {
        "update": partial(lines, curves=curves("update_ratio"), log_y=True),
        "telemetry share": partial(lines, curves=curves("meter"), reference=("zero", 0.0)),
        "telemetry costate": partial(lines, curves=curves("costate_norm"), log_y=True),
        "telemetry last": table(last),
    }


def _parts(report: Report) -> Drawings:
    """What layers, heads, connections and other depths are worth."""
    worth, L = report.importance, report.config["n_layer"]
    order = np.argsort(worth.heads.ravel())[:10]
    heads = [[*map(int, np.unravel_index(i, worth.heads.shape)), worth.heads.ravel()[i]] for i in order]
    edges = [[f"{e.layer}.{e.head}", e.reader, e.value] for e in ranked(report.edges.predicted)[:12]]
    changes = [[c.layers, c.method, c.loss, c.parameters] for c in report.depth_changes]
    drawn = {
        "layers": partial(dots, rows=[Dot(f"layer {l}", worth.layers[l], None, "transformer") for l in range(L)]),
        "half-layers": table([[l, worth.attention[l], worth.mlp[l], worth.cosine[l]] for l in range(L)]),
        "heads": partial(
            matrix, choices={"predicted change of the loss": worth.heads}, diverging=bool((worth.heads < 0).any())
        ),
        "cheapest heads": table(heads),
        "edges": table(edges),
        "edges by layer": partial(
            matrix,
            choices={"predicted change of the loss": _between_layers(report.edges.predicted)},
            diverging=True,
            columns=[name for l in range(L) for name in (str(l), "")] + ["out"],
        ),
    }
    return drawn | ({"depths": table(changes)} if changes else {})


def _between_layers(edges: Edges) -> np.ndarray:
    """Edges summed over heads, `[L 2L+1]`: the attention and the MLP of each layer by turns, then the read-out."""
    attention, mlp = edges.heads.sum((1, 3)), edges.mlp.sum(1)
    by_turns = np.stack([attention, mlp], axis=2).reshape(len(mlp), -1)
    return np.concatenate([by_turns, edges.readout.sum(1)[:, None]], axis=1)


def _gradient(report: Report) -> Drawings:
    """Which layers are still learning, and where the gradient of the loss goes."""
    found, ledger, L = report.learning, report.ledger, report.config["n_layer"]
    share = found.se / np.where(found.batch > 0, found.batch, 1)
    details = [[l, found.signal[l], found.batch[l], found.meter[l], found.effective_decay[l]] for l in range(L)]
    entries = [float(np.asarray(ledger.embedding).sum()), *np.asarray(ledger.by_half_step).tolist()]
    names = ["embedding", *(f"{part} {l}" for l in range(L) for part in ("attention", "MLP"))]
    return {
        "signal share": partial(
            dots,
            rows=[Dot(f"layer {l}", found.meter[l], share[l], "accent") for l in range(L)],
            reference=("zero", 0.0),
            error_label="bar: ± 2 standard errors over batches (jackknife)",
        ),
        "signal": table(details),
        "ledger": partial(
            dots,
            rows=[Dot(name, value, None, "accent") for name, value in zip(names, entries, strict=True)],
            reference=("zero", 0.0),
        ),
        "ledger of heads": partial(matrix, choices={"ledger": np.asarray(ledger.heads).sum((2, 3))}, diverging=True),
        "costate": partial(lines, curves=[Line("costate", np.arange(L + 1), report.costate_norms, "accent")]),
    }


def _motion(report: Report) -> Drawings:
    """How the states move, how far the checkpoint is from the flow of its refinement, and the bounds."""
    moved, flow = report.transport, report.flow
    half = lambda values: np.arange(len(values)) / 2
    steps = [
        Line("step of a token", half(report.kinetic_energy), report.kinetic_energy, "transformer"),
        Line("step of the distribution", half(report.kinetic_energy), moved.sliced_distance, "accent"),
        Line("its noise floor", half(moved.sliced_floor), moved.sliced_floor, "floor"),
    ]
    lens = Line("early read-out", np.arange(len(moved.lens_loss)), moved.lens_loss, "transformer")
    finite = [(k, v) for k, v in flow.losses.items() if np.isfinite(k)]
    limit = float(flow.losses[float("inf")])
    bounds = [
        [b.kind, report.loss, b.right, "vacuous" if b.vacuous else "informative", b.certified] for b in report.bounds
    ]
    return {
        "motion": partial(lines, curves=steps, log_y=True),
        "lens": partial(lines, curves=[lens], reference=("final loss", float(moved.lens_loss[-1]))),
        "flow": partial(
            lines,
            curves=[Line("k sub-steps", [k for k, _ in finite], [v for _, v in finite], "transformer")],
            reference=("flow", limit),
            log_x=True,
        ),
        "sub-steps": table([*([str(k), flow.errors[k], flow.losses[k]] for k in flow.errors), ["flow", 0.0, limit]]),
        "bounds": table(bounds),
    }
