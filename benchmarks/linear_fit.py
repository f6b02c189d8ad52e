"""How far and how fast do expectation–maximisation and the exact gradient climb the likelihood of real series?

Sunspots 1700–1948 (order 9) and the first 80 % of the CO₂ record less its trend and seasons (order 3, with gaps), 100, 400
and 1600 steps of `method="em"` beside `method="gradient"` at its default tolerance, free and with `stable=True`. Seconds of
the second call, so without compilation.

    python -m benchmarks.linear_fit [--quick]
"""

import argparse
import time

import jax
import numpy as np

from .linear_coverage import co2, regressed, sunspots
from .timing import machine, write

jax.config.update("jax_enable_x64", True)


def cell(name: str, y: np.ndarray, order: int, method: str, steps: int, stable: bool) -> dict:
    import steerax as sx

    options = {"method": method, "max_iterations": steps}
    if method == "em":
        options["tolerance"] = 1e-12
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        fit = sx.fit(sx.LinearGaussian(1, order=order, stable=stable, start="free"), y, **options)
        seconds = time.perf_counter() - start
    row = {
        "series": name, "method": method, "stable": stable, "steps": len(fit.log_likelihoods) - 1, "seconds": seconds,
        "log_likelihood": float(fit.log_likelihoods[-1]), "outcome": sx.RESULTS[fit.result] or "successful",
    }  # fmt: skip
    kind = "stable" if stable else "free"
    print(f"{name:9s} {method:9s} {kind:7s} {row['steps']:5d} steps {seconds:6.2f} s  {row['log_likelihood']:.4f} nats")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    weeks, w = co2()
    split = int(0.8 * len(weeks))
    rows = []
    for name, y, order in (("sunspots", sunspots()[:249], 9), ("co2", regressed(weeks, w, split)[:split], 3)):
        for steps in (20,) if quick else (100, 400, 1600) if name == "sunspots" else (100, 400):
            rows.append(cell(name, y, order, "em", steps, False))
        rows += [cell(name, y, order, "gradient", 20 if quick else 400, stable) for stable in (False, True)]
    if not quick:
        write("linear_fit", {"machine": machine(("statsmodels",)), "rows": rows})


if __name__ == "__main__":
    main()
