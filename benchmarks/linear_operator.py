"""Fully non-Markovian, time-varying: what does one prediction cost as T grows?

d = 4, one channel, a dense lower-triangular operator. The dual filter (one closed-loop solve to convergence) and one
dual pass beside the growing-state Kalman filter done with structure (one row times the covariance per step, NumPy)
and dense Cholesky of the covariance of the observations (NumPy, its assembly included). Then all predictions and the
likelihood of a time-invariant long memory at T = 2048 by the Schur algorithm. Milliseconds, in turns.

    python -m benchmarks.linear_operator [--quick]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from steerax.experiments.complexity.experiment import growing_kalman, operator_model

from .linear_families import family
from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)


def dense_cholesky(A, H, Q, R, S_0, z):
    from scipy.linalg import cho_solve, solve_triangular

    T, d = len(z), len(Q)
    N = (T + 1) * d
    M = np.eye(N)
    M[d:, : T * d] -= A.transpose(0, 2, 1, 3).reshape(T * d, T * d)
    D = np.kron(np.eye(T + 1), np.linalg.cholesky(Q))
    D[:d, :d] = np.linalg.cholesky(S_0)
    X = solve_triangular(M, D, lower=True, unit_diagonal=True)
    Z = (H @ X[: T * d].reshape(T, d, N)).reshape(T * len(H), N)
    L = np.linalg.cholesky(Z @ Z.T + np.kron(np.eye(T), R))
    return X[-d:] @ Z.T @ cho_solve((L, True), z.reshape(-1))


def cell(T: int) -> dict:
    import steerax as sx
    from steerax.inference.linear.kernels.passes import make_passes

    model = operator_model(T, 4, seed=0)
    z = np.asarray(model.sample(jax.random.key(0), T)[1])
    names = ("transition", "observation", "process_noise", "observation_noise", "initial_covariance")
    arrays = [np.asarray(getattr(model, name)) for name in names]
    passes = make_passes(model, jnp.ones((T, 1), bool))
    one_pass, v = jax.jit(lambda passes, v: passes(v)), jnp.ones((T, 1, 1))
    dual = lambda: jax.block_until_ready(sx.dual_filter(model, z, solver=sx.solvers.ClosedLoop(lags=8)).predicted.mean)
    functions = {
        "dual filter": dual,
        "one dual pass": lambda: jax.block_until_ready(one_pass(passes, v)),
        "growing Kalman": lambda: growing_kalman(model, z),
        "dense Cholesky": lambda: dense_cholesky(*arrays, z),
    }
    error = max(float(np.abs(functions[k]() - dual()).max()) for k in ("growing Kalman", "dense Cholesky"))
    times = time_together(functions, least=3)
    print(f"T={T}", {k: round(t["median"], 2) for k, t in times.items()}, f"largest difference {error:.1e}", flush=True)
    return {
        "T": T,
        "milliseconds": times,
        "difference": error,
        "iterations": sx.dual_filter(model, z, solver=sx.solvers.ClosedLoop(lags=8)).layers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = [cell(T) for T in ((64, 128) if quick else (64, 128, 256, 512))]
    exponents = {}
    for name in rows[0]["milliseconds"]:
        times = [row["milliseconds"][name]["median"] for row in rows[-3:]]
        exponents[name] = float(np.polyfit(np.log([row["T"] for row in rows[-3:]]), np.log(times), 1)[0])
    ratio = rows[-1]["milliseconds"]["growing Kalman"]["median"] / rows[-1]["milliseconds"]["dual filter"]["median"]
    print("fitted exponents", {k: round(e, 2) for k, e in exponents.items()}, f"Kalman / dual at the end {ratio:.1f}")

    import steerax as sx

    T = 512 if quick else 2048
    model, z = family("taps k^-1.5", T, 4), jnp.asarray(np.random.default_rng(0).normal(size=(T, 1)))
    schur = time_together({"schur": lambda: jax.block_until_ready(sx.solvers.Schur().predictions(model, z))})["schur"]
    print(f"all predictions, variances and the likelihood at T={T}: {schur['median']:.1f} ms")
    if not quick:
        write(
            "linear_operator",
            {"machine": machine(), "rows": rows, "exponents": exponents, "ratio": ratio, "schur": schur},
        )


if __name__ == "__main__":
    main()
