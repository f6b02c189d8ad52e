"""Certificates of the classifier: data, class, network and bounds in a file, and a check that shares nothing with the search.

Two levels. *witness*: the integer network, run head by head, has exactly the objective that is claimed. *full*: every network of the class is
tried again by `exhaustive.c`, a program of its own in C99 that derives every test from its definition and knows no bound. Only
the latter covers the lower bound; until then what stands in a file is claimed.
"""

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..._errors import CheckpointError, ConfigurationError, SteeraxError
from ...runs.files import content_hash, free_place, read_json, recover, write_folder
from .contexts import KINDS, Context
from .heads import FAMILIES, Shape, syntax
from .network import build_network, with_reader
from .problem import Problem, Tree, depth_of, heads_in, tests_in, tree_from_lists, tree_to_lists

FORMAT = 1
PROGRAM = Path(__file__).with_name("exhaustive.c")
PER_SECOND = 3e9  # words that the program counts
LONGEST_DEFAULT = 60.0  # seconds of a complete check that nobody asked for


class ClassifierCertificateError(SteeraxError):
    """A certificate claims something that is not so."""


@dataclass(frozen=True)
class Checked:
    """What a check established. **Attributes:** `level`; `statement`, in words."""

    level: str
    statement: str


@dataclass(frozen=True, eq=False)
class ClassifierCertificate:
    """No network of the class has an objective below `lower`, and this one has `upper`.

    **Attributes:** `problem`; `context`, `tree`, the network; `lower`, `upper`, in integers, of which `unit` are one error of weight 1;
    `columns`, the most distinct tests of a context, a guess of what a check costs; `trusted`, whether the bound was found or checked in this
    process and not only read from a file.
    """

    problem: Problem
    context: Context
    tree: Tree
    lower: int
    upper: int
    unit: str
    columns: int
    trusted: bool = field(default=True, compare=False)

    @property
    def status(self) -> str:
        """ "gap" while the bounds do not meet; then "proven", or "claimed" where the lower bound only stands in a file."""
        return "gap" if self.lower < self.upper else "proven" if self.trusted else "claimed"

    @property
    def about(self) -> str:
        """The class and the data that the bounds speak of, in words."""
        p = self.problem
        kinds = ", ".join(dict.fromkeys(c.kind for c in p.contexts))
        return (
            f"class CAT({p.depth}) with the contexts {kinds} and the tests {', '.join(p.shape.families)}, price {p.price} a test, on "
            f"{len(p.codes)} rows (data {p.identity[:12]})"
        )

    @property
    def seconds(self) -> float:
        """What a complete check takes, roughly."""
        p, words = self.problem, (len(self.problem.codes) + 63) // 64
        groups = len(np.unique(p.costs, axis=0))
        return len(p.contexts) * (2.0 * max(self.columns, 1)) ** p.depth * words * groups / PER_SECOND

    def check(self, level: str | None = None, time_limit: float | int | None = None) -> Checked:
        """Check the certificate. **Raises:** `ClassifierCertificateError` with the reason if it is wrong.

        **Arguments:** `level`, "witness" or "full"; by default "full" where there is a C compiler and it takes about a minute at most;
        `time_limit`, seconds of the program. A certificate that passes "full" is `trusted` from then on.
        """
        if level not in (None, "witness", "full"):
            raise ConfigurationError(f'level={level!r}: choose "witness" or "full".')
        if level is None:
            level = "full" if shutil.which("cc") and self.seconds < LONGEST_DEFAULT else "witness"
        self._witness()
        if level == "witness":
            return Checked(
                level,
                f"The network has the objective {self.upper}; that none has less than {self.lower} was not checked.",
            )
        least = enumerate_in_c(self.problem, time_limit)
        if not self.lower <= least <= self.upper:
            raise ClassifierCertificateError(
                f"The bounds {self.lower} … {self.upper} do not hold the least objective of {self.about}, which is {least}."
            )
        object.__setattr__(self, "trusted", True)
        return Checked(level, f"No network of {self.about} has an objective below {self.lower}; the least is {least}.")

    def _witness(self) -> None:
        p = self.problem
        labels = build_network(self.context, self.tree, p.shape)(with_reader(p.codes, p.shape.V))
        value = int(p.costs[np.arange(len(labels)), labels].sum())
        value += p.price * (tests_in(self.tree) + (self.context.kind != "none"))
        if value != self.upper:
            raise ClassifierCertificateError(f"The network has the objective {value}, and not {self.upper}.")

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write `certificate.json` into a folder, whole or not at all. **Raises:** `ConfigurationError` if there is something and
        `overwrite` is false."""
        free_place(folder, overwrite)
        p = self.problem
        record: dict[str, Any] = {
            "format": FORMAT,
            "kind": "steerax classifier certificate",
            "codes": p.codes.tolist(),
            "costs": p.costs.tolist(),
            "price": p.price,
            "contexts": [list(c) for c in p.contexts],
            "shape": [
                p.shape.n,
                p.shape.V,
                p.shape.ragged,
                p.shape.by_column,
                list(p.shape.families),
                list(p.shape.homes),
            ],
            "depth": p.depth,
            "context": list(self.context),
            "tree": tree_to_lists(self.tree),
            "lower": self.lower,
            "upper": self.upper,
            "unit": self.unit,
            "columns": self.columns,
        }
        record["record"] = content_hash(record)
        text = json.dumps(record) + "\n"

        def fill(beside: Path) -> None:
            (beside / "certificate.json").write_text(text, encoding="utf-8")

        write_folder(folder, fill)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "ClassifierCertificate":
        """Read a certificate; what it proves is a claim until `check`. **Raises:** `CheckpointError` if it is absent, torn, altered or
        of another format."""
        recover(folder)
        record = read_json(Path(folder) / "certificate.json")
        try:
            if (record["format"], record["kind"]) != (FORMAT, "steerax classifier certificate"):
                raise CheckpointError(f"{folder} holds no classifier certificate of format {FORMAT}; fit again.")
            if content_hash({name: value for name, value in record.items() if name != "record"}) != record["record"]:
                raise CheckpointError(f"The record of {folder} was changed after it was written; fit again.")
            return cls(*_fields(record), trusted=False)
        except CheckpointError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{folder} does not hold a readable certificate ({error}); copy it again.") from None


def _fields(record: dict[str, Any]) -> tuple[Any, ...]:
    """The fields of a certificate. **Raises:** `ValueError` and the like for what cannot be."""
    n, V, ragged, by_column, families, homes = record["shape"]
    shape = Shape(n, V, ragged, by_column, tuple(families), tuple(homes))
    contexts = tuple(Context(*c) for c in record["contexts"])
    codes, costs = np.array(record["codes"]), np.array(record["costs"])
    tree, context = tree_from_lists(record["tree"]), Context(*record["context"])
    whole = lambda *values: all(type(v) is int and v >= 0 for v in values)
    known: dict[Any, list[range]] = {}
    for c in dict.fromkeys((contexts[0], context)):
        for kind, predicate, values in syntax(c, shape):
            known.setdefault((kind, predicate), []).append(values)
    good = (
        whole(n, V, record["price"], record["lower"], record["upper"], record["columns"], record["depth"], *homes),
        type(ragged) is bool and type(by_column) is bool and set(families) <= set(FAMILIES),
        codes.ndim == costs.ndim == 2 and codes.dtype.kind == costs.dtype.kind == "i" and len(codes) == len(costs) > 0,
        codes.shape[1] == n
        and codes.size > 0
        and 0 <= codes.min() <= codes.max() <= V
        and costs.size > 0
        and costs.min() >= 0,
        contexts[0] == Context("none") and context in contexts and all(c.kind in KINDS for c in contexts),
        depth_of(tree) <= record["depth"] <= 3 and len(homes) == (V if by_column else 0),
        all(any(h.value in values for values in known.get((h.kind, h.predicate), ())) for h in heads_in(tree)),
        all(0 <= k < costs.shape[1] for k in _labels(tree)),
        record["lower"] <= record["upper"],
    )
    if not all(good):
        raise ValueError("a field is not what it should be")
    problem = Problem(codes, costs, record["price"], contexts, shape, record["depth"])
    return problem, context, tree, record["lower"], record["upper"], str(record["unit"]), record["columns"]


def _labels(tree: Tree) -> list[int]:
    return [*_labels(tree[1]), *_labels(tree[2])] if isinstance(tree, tuple) else [tree]


def enumerate_in_c(problem: Problem, time_limit: float | int | None = None) -> int:
    """The least objective of a problem, by the complete enumeration of `exhaustive.c`.

    **Raises:** `ConfigurationError` without a C compiler, with more than 64 classes, or if the time does not suffice.
    """
    if shutil.which("cc") is None:
        raise ConfigurationError(
            'A complete check needs a C compiler, "cc"; install one, or check the level "witness".'
        )
    p = problem
    if p.costs.shape[1] > 64:
        raise ConfigurationError("A complete check is for 64 classes at most.")
    head = [*p.codes.shape, p.shape.V, p.costs.shape[1], p.depth, p.price, int(p.shape.ragged), int(p.shape.by_column)]
    head.append(sum(1 << FAMILIES.index(name) for name in p.shape.families))
    homes = p.shape.homes if p.shape.by_column else (0,) * p.shape.V
    contexts = [value for c in p.contexts for value in (KINDS.index(c.kind), c.a, c.b)]
    numbers = [*head, *homes, len(p.contexts), *contexts, *p.codes.ravel().tolist(), *p.costs.ravel().tolist()]
    program, text = _program(), " ".join(map(str, numbers))
    try:
        done = subprocess.run([program], input=text, capture_output=True, text=True, timeout=time_limit)
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"The complete check did not end within {time_limit} seconds.") from None
    if done.returncode or not re.fullmatch(r"\d+\n", done.stdout):
        raise ConfigurationError(f"The checking program failed ({done.stderr.strip()[-200:]}).")
    return int(done.stdout)


@functools.cache
def _program() -> Path:
    """The checking program, compiled once in this process into a folder that goes with it."""
    folder = tempfile.mkdtemp(prefix="steerax-check-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = Path(folder) / "exhaustive"
    command = ["cc", "-std=c99", "-O2", str(PROGRAM), "-o", str(program)]
    for extra in (["-march=native"], []):  # not every compiler knows the machine it runs on
        built = subprocess.run([*command, *extra], capture_output=True, text=True)
        if built.returncode == 0:
            return program
    raise ConfigurationError(f"The C compiler refused the checking program: {built.stderr.strip()[:200]}")
