"""Benchmarks: list them, run them, or check a few cheap cells against their targets.

python -m benchmarks              what there is
python -m benchmarks NAME [...]   run one, with its options
python -m benchmarks --check      three cheap cells, each allowed to miss its target by a factor of two
"""

import importlib
import logging
import pathlib
import subprocess
import sys
import tomllib
import warnings

FOLDER = pathlib.Path(__file__).parent
MARGIN = 2.0  # shared machines are noisy; a real regression is larger


def names() -> list[str]:
    """Benchmark scripts: modules of this folder with a main part."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if "__main__" in p.read_text() and p.stem != "__main__")


def ratio_of(target: dict) -> float:
    """How many times slower the peer is in one cell of `targets.toml`."""
    if target["script"] == "hmm_filter":
        from .hmm_filter import run

        return run([tuple(target["arguments"])])[0]["ratio"][target["peer"]]
    from .baum_welch import cell

    return cell(*target["arguments"])["ratio"][target["peer"]]


def check() -> int:
    """Run the cheap cells; 1 if one of them misses its target by more than the margin."""
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    missed = 0
    warnings.filterwarnings("ignore")  # the peers'
    for target in tomllib.loads((FOLDER / "targets.toml").read_text())["check"]:
        ratio = ratio_of(target)
        ok = ratio >= target["ratio"] / MARGIN
        missed += not ok
        verdict = "ok" if ok else "MISSED"
        print(
            f"{target['cell']}: {ratio:.2f} times {target['peer']} (target {target['ratio']}, margin {MARGIN}) {verdict}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        sys.exit(check())
    if sys.argv[1:] and sys.argv[1] in names():
        sys.exit(subprocess.call([sys.executable, "-m", f"benchmarks.{sys.argv[1]}", *sys.argv[2:]]))
    for name in names():
        doc = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
        print(f"{name:<24} {doc.strip().splitlines()[0]}")
