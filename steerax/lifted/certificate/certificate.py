"""Certificates: a result that carries its problem, its network and what was proven, as files anybody can check."""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import CheckpointError
from ...runs.files import content_hash, read_json, write_folder
from ...transformer.quantized import QuantizedNetwork
from ..problem.problem import Problem
from ..problem.r1 import R1, Layer, Readout, Weights

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Certificate:
    """No network of the class with `depth` layers makes fewer errors than `lower`, and this one makes `upper`.

    **Attributes:** `problem`; `depth`; `lower`, `upper`; `weights`, the network; `nodes [K 8]`, one first layer (B row
    by row, then V) for every state it can lead to, empty at depth 1; `node_bounds [K]`, errors no network that starts
    there can avoid; `statistics`, counts of the search.
    """

    problem: Problem
    depth: int
    lower: int
    upper: int
    weights: Weights
    nodes: Int[np.ndarray, "K 8"]
    node_bounds: Int[np.ndarray, "K"]
    statistics: dict[str, Any]

    @property
    def status(self) -> str:
        """ "proven" if the bounds meet, else "gap"."""
        return "proven" if self.lower == self.upper else "gap"

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
        return self.problem.model.network(self.weights, self.problem.name)

    def save(self, folder: str | os.PathLike) -> None:
        """Write `certificate.json` and `certificate.npz` into a folder, whole or not at all."""
        p, model = self.problem, self.problem.model
        arrays = {
            "tokens": p.tokens, "labels": p.labels, "weights": p.weights, "matrices": model.matrices,
            "rows": model.rows, "directions": model.directions, "nodes": self.nodes, "node_bounds": self.node_bounds,
        }  # fmt: skip
        record = {
            "format": FORMAT,
            "kind": "steerax lifted certificate",
            "problem": {"name": p.name, "length": model.length, "levels": model.levels, "vocabulary": model.vocabulary},
            "depth": self.depth,
            "lower": self.lower,
            "upper": self.upper,
            "status": self.status,
            "network": weights_to_dict(self.weights),
            "statistics": self.statistics,
            "arrays": content_hash(*(arrays[name] for name in sorted(arrays))),
        }

        def fill(beside: Path) -> None:
            np.savez_compressed(beside / "certificate.npz", allow_pickle=False, **arrays)
            (beside / "certificate.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

        write_folder(folder, fill)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Certificate":
        """Read a certificate. Raises `CheckpointError` if it is absent, torn, altered or of a newer format."""
        folder = Path(folder)
        record = read_json(folder / "certificate.json")
        try:
            if record["format"] > FORMAT:
                raise CheckpointError(f"{folder} has format {record['format']}; this version reads up to {FORMAT}.")
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
            problem = Problem.create(arrays["tokens"], arrays["labels"], arrays["weights"], model, head["name"])
            return cls(
                problem, record["depth"], record["lower"], record["upper"], weights_from_dict(record["network"]),
                arrays["nodes"], arrays["node_bounds"], record["statistics"],
            )  # fmt: skip
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} does not hold a readable certificate ({error}); copy it again.") from None


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
