"""Does the near-optimality bound of the quantised problem hold, and with which order, at every mesh?

python -m benchmarks.lifted_near_optimality [--quick]
"""

import argparse
import time

import numpy as np

from benchmarks.timing import machine, write
from steerax.lifted.bounds.near_optimality import Instance, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    last = 4 if parser.parse_args().quick else 7
    instance, rows = Instance.random(), []
    for bits in range(1, last + 1):
        start = time.perf_counter()
        g = measure(instance, bits)
        rows.append(
            {
                "mesh": g.mesh, "gap": g.gap, "loss_of_policy": g.loss, "bound": g.bound.value,
                "actions_only": g.actions_only, "holds": g.gap <= g.bound.value and g.loss <= 2 * g.bound.value,
                "seconds": time.perf_counter() - start,
            }
        )  # fmt: skip
        print({k: round(v, 5) for k, v in rows[-1].items()}, flush=True)
    mesh = np.log2([r["mesh"] for r in rows])
    slopes = {k: float(np.polyfit(mesh, np.log2([r[k] for r in rows]), 1)[0]) for k in ("gap", "bound")}
    print("slopes", slopes, "looseness", [round(r["bound"] / r["gap"]) for r in rows])
    write("lifted_near_optimality", {"rows": rows, "slopes": slopes, **machine(("numba",))})


if __name__ == "__main__":
    main()
