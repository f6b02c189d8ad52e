"""What do dual-filter layers and the control matrix of all queries cost, and how exact are they?

A layer beside the forward filter and beside a plain scan of one token per step; the control matrix for one target
column, for all next tokens, and its norms over all states; errors of the published form of the gain with a floor of
1e-12 and output fed back without normalisation beside those of this library. float64.

    python -m benchmarks.control_matrix [--quick]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)


def plain_scan(mu, A, C, z):
    """The textbook filter, one token and one normalisation per step."""
    rows = C.T

    def step(p, token):
        joint = p * rows[token]
        p = (joint / joint.sum(-1, keepdims=True)) @ A
        return p, p

    return jax.lax.scan(step, jnp.broadcast_to(mu, (*z.shape[1:], len(mu))), z)[1]


def layers(d: int, T: int, batch: int) -> dict:
    import steerax as sx
    from steerax.inference.hmm.kernels.layers import layer
    from steerax.inference.hmm.kernels.scaled import filter_traced

    hmm = sx.models.random_hmm(jax.random.key(d), d, 50)
    strings = [hmm.sample(jax.random.key(i), T)[1] for i in range(batch)]
    z = strings[0] if batch == 1 else jnp.stack(strings, 1)
    plain, filtered = jax.jit(plain_scan), jax.jit(filter_traced)
    states = filtered(*hmm.arrays, z)[0]
    tasks = {
        "filter": lambda: jax.block_until_ready(filtered(*hmm.arrays, z)),
        "layer": lambda: jax.block_until_ready(layer(states, *hmm.arrays, z)),
        "plain scan": lambda: jax.block_until_ready(plain(*hmm.arrays, z)),
    }
    times = time_together(tasks)
    error = float(jnp.abs(layer(states, *hmm.arrays, z) - states).max())
    shown = "  ".join(f"{k} {v['median']:.2f} ms" for k, v in times.items())
    print(f"layer d={d} T={T} batch={batch}: {shown}  error {error:.0e}", flush=True)
    return {"d": d, "T": T, "batch": batch, "ms": times, "error": error}


def control_matrix(d: int, T: int) -> dict:
    import steerax as sx
    from steerax.inference.hmm.kernels.controls import all_controls, control_norms
    from steerax.inference.hmm.kernels.layers import gains

    hmm = sx.models.random_hmm(jax.random.key(d), d, 50)
    z = hmm.sample(jax.random.key(1), T)[1]
    states, C = sx.filter(hmm, z).states, hmm.emission
    arguments = (gains(states, C, z), *hmm.arrays, z)
    dtype = jnp.dtype("float64")
    tasks = {
        "one target": (all_controls, (*arguments, C[:, :1], dtype)),
        "all next tokens": (all_controls, (*arguments, C, dtype)),
        "norms over states": (control_norms, (*arguments, None)),
    }
    times = time_together(
        {name: (lambda f=f, x=x: jax.block_until_ready(f(*x))) for name, (f, x) in tasks.items()}, budget=10
    )
    memory = {}
    for name, (function, x) in tasks.items():
        found = function.lower(*x).compile().memory_analysis()
        memory[name] = (found.temp_size_in_bytes + found.output_size_in_bytes) / 2**20
    prior, terms, _ = all_controls(*arguments, C, dtype)
    error = float(jnp.abs(prior + terms.sum(1) - states @ C).max())
    shown = "  ".join(f"{k} {v['median']:.0f} ms ({memory[k]:.0f} MiB)" for k, v in times.items())
    print(f"control matrix d={d} T={T}: {shown}  error {error:.0e}", flush=True)
    return {"d": d, "T": T, "ms": times, "MiB": memory, "error": error}


def published_form(mu, A, C, z) -> np.ndarray:
    """The dual filter as first published: `k = ρ(c - ρ·c) / (1 - (ρ·c)² + 1e-12)`, its own output fed back."""
    rho = [mu]
    for q in range(1, len(z) + 1):
        y, u = np.eye(len(mu)), np.zeros((q, len(mu)))
        for s in reversed(range(q)):
            c = 2 * C[:, z[s]] - 1
            mean = rho[s] @ c
            Ay = A @ y
            u[s] = -(rho[s] * (c - mean) / (1 - mean**2 + 1e-12)) @ Ay
            y = Ay + np.outer(c, u[s])
        rho.append(mu @ y - u.sum(0))
    return np.stack(rho)


def accuracy(T: int) -> list[dict]:
    import steerax as sx

    rows = []
    for V in (2, 4, 20):
        hmm = sx.models.random_hmm(jax.random.key(V), 8, V)
        z = np.asarray(hmm.sample(jax.random.key(1), T)[1])
        exact = np.asarray(sx.filter(hmm, z).predicted)
        published = np.abs(published_form(*map(np.asarray, hmm.arrays), z[:64]) - exact[:65]).max()
        ours = float(jnp.abs(sx.dual_filter(hmm, z).predicted - exact).max())
        e = sx.explain(hmm, z, method="control")
        additive = float(jnp.abs(e.prior[0] + e.weights[0].sum(0) - exact[-1] @ hmm.emission).max())
        row = {"V": V, "published form, T=64": published, f"layer, T={T}": ours, f"explain, T={T}": additive}
        print("  ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter strings")
    quick = parser.parse_args().quick
    record = {
        "layers": [layers(d, T, n) for d in (8, 64) for T in (1024, 8192) for n in (1, 32) if d * T * n < 2**23],
        "control_matrix": [control_matrix(64, 256 if quick else 1024)],
        "accuracy": accuracy(1000 if quick else 10_000),
        **machine(),
    }
    write("control_matrix_quick" if quick else "control_matrix", record)
