"""Do the tests notice? Changes one operator, number or call of a kernel at a time and runs the fast tests of its room.

    python tests/mutation/mutate.py --number 250 --seed 0       # about two hours on two cores; writes results.json
    python tests/mutation/mutate.py --again                      # only those that survived, after new tests
    python tests/mutation/mutate.py --table                      # the table of docs/reliability.md
    python tests/mutation/mutate.py --show lifted                # the mutants that no test noticed, as differences

A mutant is *killed* if a test fails, or takes longer than five minutes where right afterwards it does not without the change. Those in `equivalent.json` compute the same as the original, or differ
only in speed or memory, with the reason; they do not count. Every worker has a copy of the repository of its own.
"""

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
HMM, LINEAR = "tests/inference/hmm/test_", "tests/inference/linear/test_linear_"
SEARCH = [f"tests/lifted/test_lifted_{name}.py" for name in ("search", "check", "bounds")]

# room -> file -> the test files that are tried, in this order
ROOMS = {
    "lifted": {f"lifted/search/{name}.py": SEARCH for name in ("kernels_numpy", "kernels_numba", "expand", "tables", "search")}
    | {f"lifted/certificate/{name}.py": SEARCH[1:] for name in ("check", "exhaustive")},
    "hmm": {
        "inference/hmm/kernels/recursions.py": [f"{HMM}{name}.py" for name in ("hmm_filter", "any_hmm", "underflow")],
        "inference/hmm/kernels/scaled.py": [f"{HMM}{name}.py" for name in ("underflow", "hmm_filter")],
        "inference/hmm/kernels/counts.py": [f"{HMM}{name}.py" for name in ("em", "underflow")],
        "inference/hmm/kernels/em.py": [f"{HMM}{name}.py" for name in ("em", "learning")],
        "inference/hmm/kernels/layers.py": [f"{HMM}{name}.py" for name in ("dual", "underflow")],
        "inference/hmm/kernels/controls.py": [f"{HMM}{name}.py" for name in ("explain", "dual")],
    },
    "linear": {
        "inference/linear/kernels/kalman.py": [f"{LINEAR}{name}.py" for name in ("smoother", "filter")],
        "inference/linear/kernels/passes.py": [f"{LINEAR}{name}.py" for name in ("explain", "dual")],
        "inference/linear/kernels/riccati.py": [f"{LINEAR}{name}.py" for name in ("smoother", "filter", "dual", "forecast")],
        "maths/covariance.py": ["tests/maths/test_covariance.py", *(f"{LINEAR}{name}.py" for name in ("smoother", "filter"))],
        "inference/linear/kernels/em.py": [f"{LINEAR}fit.py"],
        "inference/linear/kernels/quasi_newton.py": [f"{LINEAR}fit.py"],
        "inference/linear/kernels/units.py": [f"{LINEAR}fit.py"],
        "inference/linear/kernels/coordinates.py": [f"{LINEAR}fit.py"],
    },
    "costate": {"depth/measure/costate.py": [f"tests/depth/test_{name}.py" for name in ("costate", "edges")]},
    "runs": {f"runs/{name}.py": ["tests/runs", "tests/training/test_gradient.py"] for name in ("files", "loop", "models")},
}  # fmt: skip

_COMPARE = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*", ast.MatMult: "*",
           ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "&", ast.LShift: ">>", ast.RShift: "<<"}  # fmt: skip
_CALLS = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "any": "all",
          "all": "any", "exp": "log", "log": "exp", "floor": "ceil", "sum": "max", "ones": "zeros", "zeros": "ones", "ones_like": "zeros_like",
          "zeros_like": "ones_like"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the bytes from `start` to `end` become `text`; `name` stays when lines above come and go."""

    room: str
    file: str
    start: int
    end: int
    text: str
    line: int
    name: str = ""

    def of(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def _named(mutants: list[Mutant], source: bytes) -> list[Mutant]:
    """Mutants with names: file, line before and after, and a number where two would have the same."""
    found, times = [], Counter()
    for m in mutants:
        first, end = source.rfind(b"\n", 0, m.start) + 1, source.find(b"\n", m.end)
        after = source[first : m.start] + m.text.encode() + source[m.end : end]
        name = f"{m.file}: {source[first:end].decode().strip()} -> {after.decode().strip()}"
        times[name] += 1
        found.append(replace(m, name=name if times[name] == 1 else f"{name} #{times[name]}"))
    return found


def mutants_of(room: str, file: str) -> list[Mutant]:
    """Every change of a file, outside annotations, docstrings, imports and messages of errors."""
    source = (TOP / "steerax" / file).read_bytes()
    offsets = [0]
    for line in source.splitlines(True):
        offsets.append(offsets[-1] + len(line))
    at = lambda line, column: offsets[line - 1] + column
    found: list[Mutant] = []

    def add(line: int, start: int, end: int, text: str) -> None:
        found.append(Mutant(room, file, start, end, text, line))

    def between(left: ast.AST, right: ast.AST, text: str) -> None:
        start, end = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)  # pyright: ignore
        inside = source[start:end]
        operator = inside.replace(b"(", b" ").replace(b")", b" ").strip()
        if b"\n" not in operator and b"#" not in operator:
            first = start + inside.index(operator)
            add(left.end_lineno, first, first + len(operator), text)  # pyright: ignore

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.JoinedStr):
            return
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
            between(node.left, node.comparators[0], _COMPARE[type(node.ops[0])])
        elif (
            isinstance(node, ast.BinOp)
            and type(node.op) in _BINARY
            and not (room == "runs" and isinstance(node.op, ast.Div))
        ):
            between(node.left, node.right, _BINARY[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            between(node.values[0], node.values[1], "or" if isinstance(node.op, ast.And) else "and")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            add(node.lineno, at(node.lineno, node.col_offset), at(node.operand.lineno, node.operand.col_offset), "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            value = node.value
            text = (
                str(not value)
                if isinstance(value, bool)
                else str(value + 1)
                if isinstance(value, int)
                else repr(value * 2 or 1.0)
            )
            add(node.lineno, at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset), text)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS:
            end = at(node.func.end_lineno, node.func.end_col_offset)
            add(node.lineno, end - len(node.func.attr), end, _CALLS[node.func.attr])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            add(
                node.lineno,
                at(node.func.lineno, node.func.col_offset),
                at(node.func.end_lineno, node.func.end_col_offset),
                _CALLS[node.func.id],
            )
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            add(node.lineno, at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset), "pass")
        skipped = {"annotation", "returns", "decorator_list"}
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in skipped:
                    visit(child)

    visit(ast.parse(source))
    return _named(sorted(set(found), key=lambda m: (m.start, m.text)), source)


def all_mutants() -> dict[str, list[Mutant]]:
    """Every mutant of every room."""
    return {room: [m for file in files for m in mutants_of(room, file)] for room, files in ROOMS.items()}


def drawn(number: int, seed: int, tried: Container[str]) -> list[Mutant]:
    """So many mutants, from every room in proportion to the square root of its size; those that were tried come first."""
    of_rooms, generator = all_mutants(), random.Random(seed)
    total, chosen = sum(len(of) ** 0.5 for of in of_rooms.values()), []
    for of in of_rooms.values():
        shuffled = sorted(generator.sample(of, len(of)), key=lambda m: m.name not in tried)
        chosen += shuffled[: round(number * len(of) ** 0.5 / total)]
    return generator.sample(chosen, len(chosen))


def _tried(room: str, file: str, folder: Path) -> str:
    """How the tests of a file end in a copy of the repository: "passed", "failed" or "late"."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder),
    }  # fmt: skip
    if "numba" in file or "exhaustive" in file:
        environment["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
    pytest = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout", "300"]
    command = [*pytest, *ROOMS[room][file]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    late = b"Timeout (>" in done.stdout or b"+ Timeout +" in done.stderr
    return "passed" if done.returncode == 0 else "late" if late else "failed"


def outcome(mutant: Mutant, folder: Path) -> str:
    """Whether the tests of the file notice, "killed" or "survived", in a copy of the repository; "busy" if the machine is."""
    path = folder / "steerax" / mutant.file
    source = path.read_bytes()
    try:
        path.write_bytes(mutant.of(source))
        found = _tried(mutant.room, mutant.file, folder)
    finally:
        path.write_bytes(source)
    if found == "late" and _tried(mutant.room, mutant.file, folder) != "passed":
        return "busy"
    return "survived" if found == "passed" else "killed"


def run(mutants: list[Mutant], workers: int, results: Path, known: dict[str, str]) -> None:
    """Try all mutants that are not known, and write what is known one by one. The tests must pass without a change."""
    left, known = [m for m in mutants if m.name not in known], dict(known)
    folders: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(workers) as pool:
        for i in range(workers):
            copy = Path(temporary, str(i))
            shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.nbi", "*.nbc"))
            folders.put(copy)

        def in_a_folder(work: Callable[..., Any], *of: Any) -> Any:
            folder = folders.get()
            try:
                return work(*of, folder)
            finally:
                folders.put(folder)

        files = sorted({(m.room, m.file) for m in left})
        for (_, file), found in zip(files, pool.map(lambda of: in_a_folder(_tried, *of), files), strict=True):
            if found != "passed":
                sys.exit(f"The tests of {file} have not passed without a change.")
        for mutant, found in zip(left, pool.map(lambda m: in_a_folder(outcome, m), left), strict=True):
            if found == "busy":
                sys.exit(
                    f"The tests of {mutant.file} take too long without a change too; try again when there is room."
                )
            known[mutant.name] = found
            results.write_text(json.dumps(known, indent=1) + "\n")
            print(f"{len(known)} {found:9} {mutant.name}", flush=True)


def table(known: dict[str, str], same: Container[str]) -> str:
    """Rows of Markdown: mutants, equivalent ones, killed ones and their share, by room."""
    rows = ["| kernels | mutants | equivalent | killed | share |", "|---|---|---|---|---|"]
    for rooms in (*([room] for room in ROOMS), list(ROOMS)):
        files = {file for room in rooms for file in ROOMS[room]}
        of = {name: found for name, found in known.items() if name.split(":")[0] in files}
        equivalent = sum(found == "survived" and name in same for name, found in of.items())
        dead = sum(found == "killed" for found in of.values())
        name = rooms[0] if len(rooms) == 1 else "all"
        counted = len(of) - equivalent
        rows.append(
            f"| {name} | {len(of)} | {equivalent} | {dead} of {counted} | {1000 * dead // max(counted, 1) / 10} % |"
        )
    return "\n".join(rows)


def show(mutants: list[Mutant]) -> None:
    """Mutants as differences."""
    for mutant in mutants:
        source = (TOP / "steerax" / mutant.file).read_bytes()
        before, after = (text.decode().splitlines() for text in (source, mutant.of(source)))
        print(*difflib.unified_diff(before, after, f"{mutant.file}:{mutant.line}", "", lineterm="", n=2), "", sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--show", choices=ROOMS)
    options = parser.parse_args()
    of_rooms = all_mutants()
    there = {m.name: m for of in of_rooms.values() for m in of}
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    known = {name: found for name, found in known.items() if name in there}  # of lines that still stand
    same = json.loads((HERE / "equivalent.json").read_text())
    survived = [name for name, found in known.items() if found == "survived" and name not in same]
    if options.table:
        print(table(known, same))
    elif options.show:
        show([there[name] for name in survived if there[name].room == options.show])
    elif options.again:
        kept = {name: found for name, found in known.items() if name not in survived}
        run([there[name] for name in survived], options.workers, options.results, kept)
    else:
        run(drawn(options.number, options.seed, known), options.workers, options.results, known)


if __name__ == "__main__":
    main()
