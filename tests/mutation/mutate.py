"""Do the tests notice? Changes one operator, number or call of a kernel at a time and runs the fast tests of its room.

    python tests/mutation/mutate.py --number 220 --seed 0       # about an hour on two cores; writes results.json
    python tests/mutation/mutate.py --again                      # only those that survived, after new tests
    python tests/mutation/mutate.py --table                      # the table of docs/reliability.md
    python tests/mutation/mutate.py --show lifted                # the mutants that no test noticed, as differences

A mutant is *killed* if a test fails or takes longer than two minutes. Those in `equivalent.json` compute the same as the original, or differ
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

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
    """One change of one file: the characters from `start` to `end` become `text`."""

    room: str
    file: str
    start: int
    end: int
    text: str
    line: int

    def of(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]

    @property
    def name(self) -> str:
        """What stays the same when lines above it come and go."""
        source = (TOP / "steerax" / self.file).read_text()
        before, after = source.rfind("\n", 0, self.start) + 1, source.find("\n", self.end)
        return f"{self.file}: {source[before:after].strip()} -> {self.of(source)[before : after + len(self.text) - self.end + self.start].strip()}"


def mutants_of(room: str, file: str) -> list[Mutant]:
    """Every change of a file, outside annotations, docstrings, imports and messages of errors."""
    source = (TOP / "steerax" / file).read_text()
    offsets = [0]
    for line in source.encode().splitlines(True):
        offsets.append(offsets[-1] + len(line))
    characters = {0: 0}
    for position, character in enumerate(source):
        characters[list(characters)[-1] + len(character.encode())] = position + 1
    at = lambda line, column: characters[offsets[line - 1] + column]
    found: list[Mutant] = []

    def add(line: int, start: int, end: int, text: str) -> None:
        found.append(Mutant(room, file, start, end, text, line))

    def between(left: ast.AST, right: ast.AST, text: str) -> None:
        start, end = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)  # pyright: ignore
        inside = source[start:end]
        operator = inside.replace("(", " ").replace(")", " ").strip()
        if "\n" not in operator and "#" not in operator:
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
    return sorted(set(found), key=lambda m: (m.start, m.text))


def drawn(number: int, seed: int) -> list[Mutant]:
    """So many mutants, from every room in proportion to the square root of its size."""
    of_rooms = {room: [m for file in files for m in mutants_of(room, file)] for room, files in ROOMS.items()}
    weights = {room: len(of) ** 0.5 for room, of in of_rooms.items()}
    generator = random.Random(seed)
    share = lambda room: min(len(of_rooms[room]), round(number * weights[room] / sum(weights.values())))
    chosen = [m for room, of in of_rooms.items() for m in generator.sample(of, share(room))]
    return generator.sample(chosen, len(chosen))


def killed(mutant: Mutant, folder: Path) -> str:
    """Whether the tests of the file notice, "killed" or "survived", in a copy of the repository."""
    path = folder / "steerax" / mutant.file
    source = path.read_text()
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder),
    }  # fmt: skip
    if "numba" in mutant.file or "exhaustive" in mutant.file:
        environment["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "120",
        *ROOMS[mutant.room][mutant.file],
    ]
    try:
        path.write_text(mutant.of(source))
        code = subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode
        return "survived" if code == 0 else "killed"
    finally:
        path.write_text(source)


def run(mutants: list[Mutant], workers: int, results: Path) -> None:
    """Try all mutants that `results` does not have yet, and add them one by one."""
    done = json.loads(results.read_text()) if results.exists() else []
    known = {d["name"] for d in done}
    left = [m for m in mutants if m.name not in known]
    folders: Queue[Path] = Queue()
    names = {mutant: mutant.name for mutant in left}
    with tempfile.TemporaryDirectory() as temporary:
        for i in range(workers):
            copy = Path(temporary, str(i))
            shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.nbi", "*.nbc"))
            folders.put(copy)

        def work(mutant: Mutant) -> tuple[Mutant, str]:
            folder = folders.get()
            try:
                return mutant, killed(mutant, folder)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(workers) as pool:
            for mutant, outcome in pool.map(work, left):
                name = names[mutant]
                done.append(asdict(mutant) | {"name": name, "outcome": outcome})
                results.write_text(json.dumps(done, indent=1) + "\n")
                print(f"{len(done)} {outcome:9} {name}", flush=True)


def again(workers: int, results: Path) -> None:
    """Try those that survived once more, where their line still stands; the others are left out of the results."""
    done, same = json.loads(results.read_text()), json.loads((HERE / "equivalent.json").read_text())
    survived = {d["name"] for d in done if d["outcome"] == "survived" and d["name"] not in same}
    results.write_text(json.dumps([d for d in done if d["name"] not in survived], indent=1) + "\n")
    of_all = [m for room, files in ROOMS.items() for file in files for m in mutants_of(room, file)]
    run([m for m in of_all if m.name in survived], workers, results)


def table(results: Path) -> str:
    """Rows of Markdown: mutants, equivalent ones, killed ones and their share, by room."""
    done, same = json.loads(results.read_text()), json.loads((HERE / "equivalent.json").read_text())
    rows = ["| kernels | mutants | equivalent | killed | share |", "|---|---|---|---|---|"]
    for rooms in (*([room] for room in ROOMS), list(ROOMS)):
        of = [d for d in done if d["room"] in rooms]
        equivalent = sum(d["outcome"] == "survived" and d["name"] in same for d in of)
        dead = sum(d["outcome"] == "killed" for d in of)
        name = rooms[0] if len(rooms) == 1 else "all"
        rows.append(f"| {name} | {len(of)} | {equivalent} | {dead} | {dead / max(len(of) - equivalent, 1):.0%} |")
    return "\n".join(rows)


def show(results: Path, room: str) -> None:
    """The differences of the mutants of a room that survived."""
    same = json.loads((HERE / "equivalent.json").read_text())
    for d in json.loads(results.read_text()):
        if d["room"] == room and d["outcome"] == "survived" and d["name"] not in same:
            mutant = Mutant(*(d[name] for name in ("room", "file", "start", "end", "text", "line")))
            source = (TOP / "steerax" / mutant.file).read_text()
            lines = difflib.unified_diff(
                source.splitlines(),
                mutant.of(source).splitlines(),
                f"{mutant.file}:{mutant.line}",
                "",
                lineterm="",
                n=2,
            )
            print("\n".join(lines), "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--show", choices=ROOMS)
    options = parser.parse_args()
    if options.table:
        print(table(options.results))
    elif options.show:
        show(options.results, options.show)
    elif options.again:
        again(options.workers, options.results)
    else:
        run(drawn(options.number, options.seed), options.workers, options.results)
