"""Certificates: a result that carries its problem, its network and what was proven, as files anybody can check."""

import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import CheckpointError, SteeraxError
from ...runs.files import content_hash, free_place, read_json, recover, write_folder
from ...transformer.quantized import QuantizedNetwork
from ..problem.problem import Problem
from ..problem.r1 import R1, Layer, Readout, Weights

FORMAT = 2


@dataclass(frozen=True, eq=False)
class Certificate:
    """No network of the class with `depth` layers makes fewer errors than `lower`, and this one makes `upper`.

    **Attributes:** `problem`; `depth`; `lower`, `upper`; `weights`, the network; `nodes [K 8]`, one first layer (B row
    by row, then V) for every state it can lead to, empty at depth 1; `node_bounds [K]`, errors no network that starts
    there can avoid; `statistics`, counts of the search; `trusted`, whether the lower bound was found or checked in this
    process (see `check`), and not only read from a file.
    """

    problem: Problem
    depth: int
    lower: int
    upper: int
    weights: Weights
    nodes: Int[np.ndarray, "K 8"]
    node_bounds: Int[np.ndarray, "K"]
    statistics: dict[str, Any]
    trusted: bool = field(default=True, compare=False)

    @property
    def status(self) -> str:
        """ "gap" while the bounds do not meet; then "proven", or "claimed" where the lower bound only stands in a file."""
        return "gap" if self.lower < self.upper else "proven" if self.trusted else "claimed"

    @property
    def about(self) -> str:
        """The class and the data that the bounds speak of, in words."""
        p, model = self.problem, self.problem.model
        whole = R1(model.length, model.levels, model.vocabulary)
        sizes = [(len(getattr(model, a)), len(getattr(whole, a))) for a in ("matrices", "rows", "directions")]
        thinned = [
            f"{some} of {every} {a}" for (some, every), a in zip(sizes, ("B", "rows of V", "read-outs"), strict=True)
        ]
        same = all(some == every for some, every in sizes)
        kind = f"R1 with {model.levels} levels" + ("" if same else f" thinned to {', '.join(thinned)}")
        data = content_hash(p.tokens, p.labels, p.weights)[:12]
        return f"{kind} and depth {self.depth}, on {p.name} ({p.total} sequences of {model.length}, data {data})"

    @property
    def value(self) -> int:
        """The total weight of the sequences that this network mislabels, `upper`."""
        return self.upper

    @property
    def certificate(self) -> "Certificate":
        """What `solve` returns is its own certificate."""
        return self

    @property
    def network(self) -> QuantizedNetwork:
        """The network as it is deployed, in integers: it maps tokens `[N n]` to labels."""
        p = self.problem
        return replace(p.model.network(self.weights, p.name), symbols=p.symbols, classes=p.classes)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write `certificate.json` and `certificate.npz` into a folder, whole or not at all. **Raises:** `ConfigurationError`
        if there is something and `overwrite` is false."""
        free_place(folder, overwrite)
        p, model = self.problem, self.problem.model
        arrays = {
            "tokens": p.tokens, "labels": p.labels, "weights": p.weights, "matrices": model.matrices,
            "rows": model.rows, "directions": model.directions, "nodes": self.nodes, "node_bounds": self.node_bounds,
        }  # fmt: skip
        record = {
            "format": FORMAT,
            "kind": "steerax lifted certificate",
            "problem": {"name": p.name, "length": model.length, "levels": model.levels, "vocabulary": model.vocabulary}
            | ({"symbols": list(p.symbols or ()), "classes": list(p.classes or ())} if p.symbols or p.classes else {}),
            "depth": self.depth,
            "lower": self.lower,
            "upper": self.upper,
            "network": weights_to_dict(self.weights),
            "statistics": self.statistics,
            "arrays": content_hash(*(arrays[name] for name in sorted(arrays))),
        }
        record["record"] = content_hash(record)

        def fill(beside: Path) -> None:
            np.savez_compressed(beside / "certificate.npz", **arrays)  # pyright: ignore[reportArgumentType]
            (beside / "certificate.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

        write_folder(folder, fill)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Certificate":
        """Read a certificate; what it proves is a claim until `check` covers it. Raises `CheckpointError` if it is absent,
        torn, altered or of another format."""
        folder = Path(folder)
        recover(folder)
        record = read_json(folder / "certificate.json")
        try:
            if record["format"] != FORMAT:
                raise CheckpointError(
                    f"{folder} has format {record['format']}; this version reads {FORMAT}, solve again."
                )
            if content_hash({name: value for name, value in record.items() if name != "record"}) != record["record"]:
                raise CheckpointError(f"The record of {folder} was changed after it was written; solve again.")
            # opened here, because NumPy leaves a torn file open
            with open(folder / "certificate.npz", "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if content_hash(*(arrays[name] for name in sorted(arrays))) != record["arrays"]:
                raise CheckpointError(f"The arrays of {folder} are not those its record speaks of.")
            head = record["problem"]
            model = R1(
                head["length"], head["levels"], head["vocabulary"],
                arrays["matrices"], arrays["rows"], arrays["directions"],
            )  # fmt: skip
            names = (tuple(head[key]) if head.get(key) else None for key in ("symbols", "classes"))
            problem = Problem.create(arrays["tokens"], arrays["labels"], arrays["weights"], model, head["name"], *names)
            read = cls(
                problem, record["depth"], record["lower"], record["upper"], weights_from_dict(record["network"]),
                arrays["nodes"], arrays["node_bounds"], record["statistics"], trusted=False,
            )  # fmt: skip
            _check_fields(read)
            return read
        except (OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, SteeraxError, *_TORN) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} does not hold a readable certificate ({error}); copy it again.") from None


_TORN = (zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError)  # what a torn or foreign zip file raises


def _check_fields(certificate: Certificate) -> None:
    """Raises `ValueError` for a field of another type or shape, or out of range."""
    p, nodes, bounds = certificate.problem, certificate.nodes, certificate.node_bounds
    whole = lambda value: isinstance(value, int) and not isinstance(value, bool)
    fields = {
        "depth": whole(certificate.depth) and certificate.depth >= 1,
        "lower, upper": whole(certificate.lower) and whole(certificate.upper),
        "nodes": nodes.ndim == 2 and nodes.shape[1] == 8 and nodes.dtype.kind in "iu",
        "node_bounds": bounds.shape == (len(nodes),) and bounds.dtype.kind in "iu",
        "statistics": isinstance(certificate.statistics, dict),
        "name": isinstance(p.name, str),
        "threshold": whole(certificate.weights.readout.threshold),
        "flipped": isinstance(certificate.weights.readout.flipped, bool),
    }
    wrong = [name for name, good in fields.items() if not good]
    if wrong:
        raise ValueError(f"the field {wrong[0]} is not what it should be")
    if not 0 <= certificate.lower <= certificate.upper <= p.total:
        raise ValueError(f"bounds {certificate.lower} … {certificate.upper} of {p.total} errors cannot be")


def weights_to_dict(weights: Weights) -> dict[str, Any]:
    """The weights of a network as JSON values."""
    return {
        "layers": [{"B": [list(r) for r in layer.B], "V": [list(r) for r in layer.V]} for layer in weights.layers],
        "readout": weights.readout._asdict() | {"w": list(weights.readout.w)},
    }


def weights_from_dict(content: dict[str, Any]) -> Weights:
    """The weights written by `weights_to_dict`."""

    def square(rows: list[list[int]]) -> tuple[tuple[int, int], tuple[int, int]]:
        (a, b), (c, d) = rows
        return (int(a), int(b)), (int(c), int(d))

    layers = tuple(Layer(square(layer["B"]), square(layer["V"])) for layer in content["layers"])
    w0, w1 = content["readout"]["w"]
    return Weights(layers, Readout((int(w0), int(w1)), content["readout"]["threshold"], content["readout"]["flipped"]))
