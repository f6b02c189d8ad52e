"""How far do non-Markovian predictors close the gap of too few states?

The two-cycle process with 8 states, learned with d < 8: a hidden Markov model by Baum–Welch (best of several starts), an
order-2 model with d base states (d² tuples), and a `DualFilterNetwork` with d states and several untied layers, started
from the learned model and from scratch. Held-out cross-entropy above the exact entropy of the process, in nats per
token, mean and standard deviation over seeds.

    python -m benchmarks.gap [--quick]
"""

import argparse

import jax
import numpy as np
import optax

from .timing import machine, write

jax.config.update("jax_enable_x64", True)

LENGTH = 64


def gaps(d: int, seed: int, layers: int, steps: int, iterations: int) -> dict:
    import steerax as sx

    process = sx.processes.two_cycle()
    keys = jax.random.split(jax.random.key(seed), 8)
    training = sx.sample_sequences(process, keys[0], 400, LENGTH)
    held_out = sx.sample_sequences(process, keys[1], 1000, LENGTH)
    floor = sx.processes.conditional_entropy(process, LENGTH).mean
    fit = lambda order: (
        sx.fit_hmm(
            training, d, keys[2], 5, order=order, max_iterations=iterations, pseudocounts=1e-3, progress=False
        ).model
    )
    hmm, second = fit(1), fit(2)
    rate = optax.warmup_cosine_decay_schedule(0.0, 0.03, steps // 10, steps)
    train = lambda network, key: sx.train_by_gradient(
        network, training, steps, key, optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        progress=False,
    ).model  # fmt: skip
    started = train(sx.DualFilterNetwork.of(hmm, layers), keys[3])
    scratch = train(sx.DualFilterNetwork.random(keys[4], d, 2, layers), keys[5])
    score = lambda model: sx.score_tokens(model, held_out).cross_entropy - floor
    return {
        "hidden Markov, order 1": score(hmm),
        "hidden Markov, order 2": score(second),
        f"dual-filter network, {layers} layers, from the model": sx.score_network(started, held_out).cross_entropy
        - floor,
        f"dual-filter network, {layers} layers, from scratch": sx.score_network(scratch, held_out).cross_entropy
        - floor,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one dimension, one seed, few steps")
    quick = parser.parse_args().quick
    dimensions, seeds, steps, iterations = ((3,), 1, 200, 50) if quick else ((2, 3, 4, 6, 8), 5, 1500, 300)
    rows = []
    for d in dimensions:
        found = [gaps(d, seed, 6, steps, iterations) for seed in range(seeds)]
        for name in found[0]:
            values = np.array([f[name] for f in found])
            rows.append({"d": d, "predictor": name, "mean": values.mean(), "sd": values.std(), "all": values.tolist()})
            print(f"d={d}  {name:55s} {values.mean():.4f} ± {values.std():.4f} nats above the floor", flush=True)
    write("gap_quick" if quick else "gap", {"rows": rows, **machine()})
