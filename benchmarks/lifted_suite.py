"""How long does it take to prove the optima of twelve tasks on 4, 5 and 6 bits at depths 1 and 2, and what are they?

python -m benchmarks.lifted_suite [--quick]     (--quick: four bits only)
"""

import argparse
import statistics
import time

import numpy as np

from benchmarks.timing import machine, write
from steerax.lifted import check, solve, tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    solve(tasks.parity(5), 1, backend="numba")  # compile once
    rows, seconds = [], []
    for n in (4,) if options.quick else (4, 5, 6):
        for name, task in tasks.TASKS.items():
            if name == "dyck" and n % 2:
                continue
            problem, times = task(n), []
            for _ in range(options.repeat):
                start = time.perf_counter()
                solutions = [solve(problem, depth) for depth in (1, 2)]
                times.append(time.perf_counter() - start)
            checked = check(solutions[1], "sample", samples=30).statement
            if n == 4:
                for solution in solutions:
                    check(solution, "full")
                checked += " Depths 1 and 2 also hold at level full."
            seconds.append(times)
            rows.append(
                {
                    "task": name, "n": n, "values": [s.value for s in solutions],
                    "status": [s.status for s in solutions], "states": solutions[1].statistics["states"], "check": checked,
                    "median_s": statistics.median(times), "spread_s": max(times) - min(times),
                }
            )  # fmt: skip
            one, two = rows[-1]["values"]
            print(
                f"n={n} {name:17s} {one:3d} / {two:2d}  {rows[-1]['status'][1]}  {rows[-1]['median_s']:.2f} s",
                flush=True,
            )
    totals = np.sum(seconds, axis=0)
    print(f"total {np.median(totals):.1f} s (median of {options.repeat}, spread {np.ptp(totals):.1f} s)")
    total = {"median_s": float(np.median(totals)), "spread_s": float(np.ptp(totals))}
    write("lifted_suite", {"rows": rows, "total": total, "quick": options.quick, **machine(("numba",))})


if __name__ == "__main__":
    main()
