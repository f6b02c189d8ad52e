"""How do the passes of the closed loop grow with T where it is hard: long memory, near a unit root, random gaps?

The feedback knows the first 16 taps only; the process has as many taps as steps, so the rest is left to conjugate
gradients. d = 1, T = 128 … 4096, all observed, a fifth and a half missing at random; `OpenLoop` (Fourier passes) beside it where
nothing is missing. `residual` is the error of the mean in posterior standard deviations.

    python -m benchmarks.linear_gaps [--quick]
"""

import argparse
import time

import jax
import numpy as np

from .timing import machine, write

jax.config.update("jax_enable_x64", True)


def family(name: str, T: int):
    """Scalar processes with T taps; the sum of the taps is 1 at a unit root."""
    import steerax as sx

    k = np.arange(1.0, T + 1)
    if name == "fractional .45":
        taps = -np.cumprod((k - 1 - 0.45) / k)
    else:  # "taps k^-1.5, sum .999", "taps k^-1.5, sum 1"
        taps = k**-1.5 / (k**-1.5).sum() * float(name.split()[-1])
    return sx.LinearGaussianModel([0.0], [[1.0]], taps[:, None, None], [[1.0]], [[1.0]], [[1.0]])


FAMILIES = ("taps k^-1.5, sum .95", "taps k^-1.5, sum .999", "taps k^-1.5, sum 1", "fractional .45")


def cell(name: str, T: int, missing: float, solver: str) -> dict:
    import steerax as sx

    rng = np.random.default_rng(0)
    z = np.where(rng.random(T) < missing, np.nan, rng.normal(size=T))
    model = family(name, T)
    predict = lambda: sx.dual_filter(model, z, solver=getattr(sx.solvers, solver)())
    answer = predict()
    start = time.perf_counter()
    predict().predicted.mean.block_until_ready()
    return {
        "family": name, "T": T, "missing": missing, "solver": solver, "passes": answer.layers,
        "residual": float(answer.residuals[-1]), "outcome": sx.RESULTS[answer.result] or "successful",
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    lengths = (128, 256) if quick else (128, 256, 512, 1024, 2048, 4096)
    rows, growth = [], []
    for solver, missing in (("OpenLoop", 0.0), ("ClosedLoop", 0.0), ("ClosedLoop", 0.2), ("ClosedLoop", 0.5)):
        for name in FAMILIES:
            cells = [cell(name, T, missing, solver) for T in lengths]
            slope = np.polyfit(np.log(lengths), np.log([max(c["passes"], 1) for c in cells]), 1)[0]
            rows += cells
            growth.append({"family": name, "solver": solver, "missing": missing, "exponent": float(slope)})
            print(
                f"{solver:12s} missing {missing:.1f}  {name:22s} passes {[c['passes'] for c in cells]} ~ T^{slope:.2f}  "
                f"largest residual {max(c['residual'] for c in cells):.1e}  {cells[-1]['seconds']:.2f} s at the end",
                flush=True,
            )
    if not quick:
        write("linear_gaps", {"machine": machine(), "rows": rows, "growth": growth})


if __name__ == "__main__":
    main()
