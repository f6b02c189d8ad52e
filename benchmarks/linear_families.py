"""How many passes does the preconditioned dual filter need, and how long does one prediction take?

Complete, time-invariant data with `T = 10² … 10⁵`, on the families below (d = 2, one channel, two for the random walks;
`taps k^-1.5` with d = 4 is the timed cell), forced to `OpenLoop`; then the closed loop with the first 16 taps at T = 300. `residual` is the error of the
mean in posterior standard deviations, verified after the iteration; a cell that does not reach 1.5e-8 says so.

    python -m benchmarks.linear_families [--quick]
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from .timing import machine, write

jax.config.update("jax_enable_x64", True)


def family(name: str, T: int, d: int = 2):
    """A model of the family; long-memory families have as many taps as steps."""
    import steerax as sx

    rng = np.random.default_rng(11)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    k = np.arange(1.0, T + 1)
    H, Q = rng.normal(size=(1, d)), np.eye(d)
    if name == "AR(16)":
        taps = np.stack([0.7**j * np.linalg.qr(rng.normal(size=(d, d)))[0] for j in range(16)])
        taps *= 0.9 / (0.7 ** np.arange(16)).sum()
    elif name == "taps k^-1.5":
        mixed = 0.5 * np.eye(d) + 0.5 * rotation
        taps = (0.95 * k**-1.5 / (k**-1.5).sum())[:, None, None] * mixed / np.linalg.norm(mixed, 2)
    elif name == "fractional .45":
        taps = -np.cumprod((k - 1 - 0.45) / k)[:, None, None] * np.eye(d)
    elif name == "near unit root .999":
        taps = 0.999 * np.array([[[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]])
    elif name == "random walk":
        taps, H = np.eye(d)[None], np.eye(d)  # every walk is seen
    elif name == "local trend":
        taps, Q, H = np.array([[[1.0, 1.0], [0.0, 1.0]]]), np.diag([0.01, 0.001]), np.array([[1.0, 0.0]])
    else:
        taps = 0.35 * rng.normal(size=(6, d, d))  # "unstable order 6", spectral radius 1.06
        roots = np.eye(6 * d, k=-d)
        roots[:d] = np.concatenate(list(taps), axis=1)
        taps *= (1.06 / np.abs(np.linalg.eigvals(roots)).max()) ** np.arange(1.0, 7)[:, None, None]
    return sx.LinearGaussianModel(np.zeros(d), np.eye(d), taps, H, Q, np.eye(len(H)))


FAMILIES = ("AR(16)", "taps k^-1.5", "fractional .45", "near unit root .999", "random walk", "local trend")


def cell(name: str, T: int, solver: str, d: int = 2) -> dict:
    import steerax as sx

    model = family(name, T, d)
    z = np.random.default_rng(0).normal(size=(T, model.n_channels))
    target = jnp.ones((d, 1))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        answer = sx.dual_filter(model, z, solver=getattr(sx.solvers, solver)(), target=target)
        answer.predicted.mean.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return {
        "family": name, "d": d, "T": T, "solver": answer.solver, "passes": answer.layers,
        "residual": float(answer.residuals[-1]), "outcome": sx.RESULTS[answer.result] or "successful",
        "seconds": float(np.median(seconds[1:])), "spread": [min(seconds[1:]), max(seconds[1:])],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    lengths = (100, 1000) if quick else (100, 1000, 10_000, 100_000)
    rows = [cell(name, T, "OpenLoop") for name in FAMILIES for T in lengths]
    rows += [cell(name, 300, "ClosedLoop") for name in ("AR(16)", "local trend", "unstable order 6")]
    rows += [cell("taps k^-1.5", T, "OpenLoop", 4) for T in lengths]
    timed = rows[-len(lengths) :]
    slope = np.polyfit(np.log([r["T"] for r in timed[-3:]]), np.log([r["seconds"] for r in timed[-3:]]), 1)[0]
    for r in rows:
        print(
            f"{r['family']:22s} d={r['d']} T={r['T']:6d} {r['solver']:12s} passes {r['passes']:3d}  "
            f"residual {r['residual']:.1e}  {r['seconds']:.3f} s  {r['outcome'].split(':')[0]}"
        )
    print(f"exponent of the time in T, timed cell from T = 1000 on: {slope:.2f}")
    if not quick:
        write("linear_families", {"machine": machine(), "rows": rows, "exponent": slope})


if __name__ == "__main__":
    main()
