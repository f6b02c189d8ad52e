"""How fast is the forward filter beside dynamax, cuthbert and hmmlearn?

Log-likelihood and the predicted law of the state at every time, float64, 50 tokens; hmmlearn gives the log-likelihood
alone. `verb` is `filter_tokens` as a user calls it, checks of the data included; `jit` is the same under `jax.jit`, as
the JAX peers are called. dynamax and cuthbert are compared with `jit`, hmmlearn with `verb`. Milliseconds, in turns.

    python -m benchmarks.hmm_filter [--quick] [--states 8 64]

With `--states` only those cells are measured again; the others stay in the results as they are.
"""

import argparse
import logging

import jax
import numpy as np

from .timing import machine, read, time_together, write

jax.config.update("jax_enable_x64", True)

CELLS = [(d, T, B) for d in (8, 64, 256) for T in (256, 1024, 8192) for B in (1, 32)]


def peers(hmm, tokens: np.ndarray) -> dict:
    """Functions of the peers for tokens `[B T]`; each blocks until ready and returns its log-likelihood."""
    import cuthbert
    import jax.numpy as jnp
    from cuthbert.discrete import filter as discrete
    from dynamax.hidden_markov_model import hmm_filter
    from hmmlearn.hmm import CategoricalHMM

    mu, A, C = hmm.arrays
    B, T = tokens.shape
    z = jnp.asarray(tokens)

    def of_dynamax(mu, A, C, z):
        found = hmm_filter(mu, A, jnp.log(C).T[z])
        return found.marginal_loglik, found.predicted_probs

    # cuthbert's step moves the state and then weighs it, so its first step has no move: an identity transition
    def of_cuthbert(mu, A, C, z):
        log_C = jnp.log(C).T
        moves = jnp.stack([jnp.eye(len(mu), dtype=mu.dtype), A])
        model = discrete.build_filter(mu, lambda x: moves[jnp.minimum(x[0], 1)], lambda x: log_C[x[1]])
        states = cuthbert.filter(model, (jnp.arange(T), z), model.init_prepare(), parallel=False)
        return states.log_normalizing_constant[-1], states.dist @ A

    def ready(function):
        # parameters are arguments, as when a model is learned: constants would let XLA transpose them beforehand
        compiled = jax.jit(function if B == 1 else jax.vmap(function, (None, None, None, 0)))
        given = z[0] if B == 1 else z
        return lambda: jax.block_until_ready(compiled(mu, A, C, given))

    learn = CategoricalHMM(n_components=len(mu), n_features=C.shape[1], implementation="scaling")
    learn.startprob_, learn.transmat_, learn.emissionprob_ = map(np.asarray, hmm.arrays)
    column, lengths = tokens.reshape(-1, 1), [T] * B
    found = {"dynamax": ready(of_dynamax), "hmmlearn": lambda: (learn.score(column, lengths),)}
    if T * B * len(mu) ** 2 * 8 <= 2**31:  # cuthbert keeps a matrix per step
        found["cuthbert"] = ready(of_cuthbert)
    return found


def run(cells) -> list[dict]:
    import steerax as sx

    rows = []
    for d, T, B in cells:
        hmm = sx.models.random_hmm(jax.random.key(d), d, 50)
        tokens = np.asarray(sx.sample_sequences(hmm, jax.random.key(1), B, T).values)
        data = sx.Sequences.from_arrays(list(tokens)) if B > 1 else tokens[0]
        functions = {**ours(hmm, data), **peers(hmm, tokens)}
        log_likelihoods = {name: float(np.sum(f()[0])) for name, f in functions.items()}
        spread = np.ptp(list(log_likelihoods.values())) / abs(log_likelihoods["verb"])
        times = time_together(functions, budget=4.0, least=3)
        ratio, best = _ratios(times, "median"), _ratios(times, "best")
        rows.append(
            {"d": d, "T": T, "B": B, "ms": times, "ratio": ratio, "ratio of best": best, "disagreement": float(spread)}
        )
        shown = "  ".join(
            f"{name} {t['median']:8.2f} ({ratio[name]:.1f}x, best {best[name]:.1f}x)" for name, t in times.items()
        )
        print(f"d={d:3d} T={T:4d} B={B:2d}  {shown}  disagreement {spread:.0e}", flush=True)
    return rows


def _ratios(times: dict, what: str) -> dict:
    """Time of each over ours: hmmlearn's over the verb's, the others' over the compiled form's."""
    return {name: times[name][what] / times["verb" if name == "hmmlearn" else "jit"][what] for name in times}


def ours(hmm, data) -> dict:
    """The verb and its compiled form; each blocks until ready."""
    import steerax as sx

    pick = lambda found: (found.log_likelihood, found.states)
    if isinstance(data, sx.Sequences):
        traced = lambda hmm, z: pick(sx.filter(hmm, sx.Sequences(z, data.lengths)))
        z = jax.numpy.asarray(data.values)
    else:
        traced, z = lambda hmm, z: pick(sx.filter(hmm, z)), jax.numpy.asarray(data)
    compiled = jax.jit(traced)
    return {
        "verb": lambda: jax.block_until_ready(pick(sx.filter(hmm, data))),
        "jit": lambda: jax.block_until_ready(compiled(hmm, z)),
    }


if __name__ == "__main__":
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the cells up to T = 1024")
    parser.add_argument("--states", type=int, nargs="+", default=[8, 64, 256], help="only models of these sizes")
    options = parser.parse_args()
    name = "hmm_filter_quick" if options.quick else "hmm_filter"
    cells = [c for c in CELLS if c[0] in options.states and (not options.quick or (c[1] <= 1024 and c[0] <= 64))]
    kept = [] if len(options.states) == 3 else [c for c in read(name).get("cells", []) if c["d"] not in options.states]
    measured = sorted(kept + run(cells), key=lambda c: (c["d"], c["T"], c["B"]))
    write(name, {"cells": measured, **machine(("dynamax", "cuthbert", "hmmlearn"))})
