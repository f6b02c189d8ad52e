"""What is the smallest depth at which class R1 computes the parity of five bits, with proof?

python -m benchmarks.lifted_parity [--quick]     (--quick: four bits)
"""

import argparse
import time

from benchmarks.timing import machine, write
from steerax.lifted import check, solve, tasks
from steerax.lifted.certificate.certificate import weights_to_dict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    n = 4 if parser.parse_args().quick else 5
    rows, depth = [], 0
    while not rows or rows[-1]["value"] > 0:
        depth += 1
        start = time.perf_counter()
        solution = solve(tasks.parity(n), depth)
        seconds = time.perf_counter() - start
        checked = check(solution, "witness" if solution.value == 0 else "sample")
        rows.append(
            {
                "n": n, "depth": depth, "value": solution.value, "lower": solution.lower, "status": solution.status,
                "seconds": seconds, "check": checked.statement, "network": weights_to_dict(solution.weights),
                **solution.statistics,
            }
        )  # fmt: skip
        print(
            f"parity({n}) depth {depth}: {solution.value} ({solution.status}) in {seconds:.1f} s; {checked.statement}"
        )
    write("lifted_parity", {"rows": rows, **machine(("numba",))})


if __name__ == "__main__":
    main()
