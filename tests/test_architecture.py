"""The arrows between the rooms, read from the imports."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1] / "steerax"

GROUND = {"maths", "data", "runs"}
MAY_IMPORT = {
    "maths": set(),
    "data": {"maths"},
    "runs": set(),
    "processes": GROUND,
    "inference": GROUND | {"processes"},
    "transformer": GROUND,
    "training": GROUND | {"transformer"},
    "depth": GROUND | {"transformer", "training", "report"},
    "pontryagin": GROUND | {"transformer", "training", "depth", "report"},
    "lifted": GROUND | {"processes", "transformer"},
    "report": GROUND,
}
EVERYTHING = set(MAY_IMPORT)
MAY_IMPORT |= {
    "estimators": EVERYTHING,
    "experiments": EVERYTHING,
    "cli": EVERYTHING | {"experiments", "estimators"},
}


def imported_rooms(path: pathlib.Path) -> set[tuple[str, str]]:
    """(room, full module) of every import of steerax in a file, wherever in the file it stands."""
    package = ["steerax", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, node.module] if node.module else base)
            modules = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        found |= {(m.split(".")[1], m) for m in modules if m.startswith("steerax.")}
    return {(room, module) for room, module in found if (ROOT / room).is_dir()}


def rooms() -> list[str]:
    return sorted(p.name for p in ROOT.iterdir() if p.is_dir() and any(p.rglob("*.py")))


def test_every_room_is_in_the_plan():
    assert set(rooms()) <= set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_lies_below_it(room):
    wrong = []
    for path in (ROOT / room).rglob("*.py"):
        for other, module in imported_rooms(path):
            if other != room and other not in MAY_IMPORT[room]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_lifted_uses_only_quantized_networks_and_its_checker_only_the_problem():
    for path in (ROOT / "lifted").rglob("*.py"):
        for room, module in imported_rooms(path):
            assert room != "transformer" or module.startswith("steerax.transformer.quantized"), (path, module)
    checker = ROOT / "lifted" / "check.py"
    if checker.exists():
        modules = {m for _, m in imported_rooms(checker)}
        assert not {m for m in modules if any(w in m for w in ("search", "kernels", "bounds"))}, modules


def test_files_are_short_enough_to_read():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long
