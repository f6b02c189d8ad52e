"""How long does an iteration of Baum–Welch take beside hmmlearn and dynamax, from the same start?

100 sequences of 200 tokens, float64. hmmlearn's fastest implementation ("scaling"); dynamax's E- and M-step compiled
together, which is faster than its own `fit_em` (that compiles again on every call).

    python -m benchmarks.baum_welch [--quick]
"""

import argparse
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)


def cell(d: int, N: int = 100, T: int = 200, V: int = 2) -> dict:
    from dynamax.hidden_markov_model import CategoricalHMM as DynamaxHMM
    from hmmlearn.hmm import CategoricalHMM

    import steerax as sx
    from steerax.inference.hmm import restarts
    from steerax.inference.hmm.kernels import em

    data = sx.sample_sequences(sx.models.random_hmm(jax.random.key(3), d, V), jax.random.key(4), N, T)
    start = sx.models.random_hmm(jax.random.key(11), d, V)
    prepared = restarts.Prepared.of(data, start)
    one = restarts.Restart(start, start)
    mu, A, C = start.arrays
    column, lengths = data.values.reshape(-1, 1), [T] * N

    def by_hmmlearn(iterations: int):
        model = CategoricalHMM(
            d, n_features=V, n_iter=iterations, tol=-np.inf, init_params="", implementation="scaling"
        )
        model.startprob_, model.transmat_, model.emissionprob_ = map(np.array, start.arrays)
        return model.fit(column, lengths)

    peer = DynamaxHMM(
        d, 1, V, initial_probs_concentration=1.0, transition_matrix_concentration=1.0, emission_prior_concentration=1.0
    )
    probabilities = {"initial_probs": mu, "transition_matrix": A, "emission_probs": C[:, None, :]}
    params, properties = peer.initialize(jax.random.PRNGKey(0), method="prior", **probabilities)
    emissions = jnp.asarray(data.values)[..., None]

    @jax.jit
    def by_dynamax(params):
        statistics, log_likelihoods = jax.vmap(lambda e: peer.e_step(params, e))(emissions)
        state = peer.initialize_m_step_state(params, properties)
        return peer.m_step(params, properties, statistics, state)[0], log_likelihoods.sum()

    times = time_together(
        {
            "steerax": lambda: one.advance(prepared, sx.Pseudocounts()),
            "hmmlearn": lambda: by_hmmlearn(1),
            "dynamax": lambda: jax.block_until_ready(by_dynamax(params)),
        },
        budget=10,
    )
    fit = lambda: sx.fit(start, data, jax.random.key(0), max_iterations=20, tolerance=0.0)
    fit()
    compiled = em.em_step._cache_size()
    calls = time_together({"steerax": fit, "hmmlearn": lambda: by_hmmlearn(20)}, budget=5, least=3)
    assert em.em_step._cache_size() == compiled, "a second fit compiled again"
    found, learned = fit(), by_hmmlearn(20)
    history = np.array(learned.monitor_.history)
    disagreement = float(np.abs(found.log_likelihoods[: len(history)] / history - 1).max())
    ratio = {name: times[name]["median"] / times["steerax"]["median"] for name in times}
    best = {name: times[name]["best"] / times["steerax"]["best"] for name in times}
    shown = "  ".join(
        f"{name} {t['median']:.2f} ms ({ratio[name]:.1f}x, best {best[name]:.1f}x)" for name, t in times.items()
    )
    print(f"d={d}: {shown}; 20 iterations: " + ", ".join(f"{k} {v['median']:.0f} ms" for k, v in calls.items()))
    print(f"       log-likelihoods of 20 iterations agree to {disagreement:.0e}, no second compilation", flush=True)
    return {"d": d, "ms": times, "ratio": ratio, "ratio of best": best, "calls": calls, "disagreement": disagreement}


if __name__ == "__main__":
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight states only")
    quick = parser.parse_args().quick
    record = {"cells": [cell(d) for d in ((8,) if quick else (8, 32))], **machine(("dynamax", "hmmlearn"))}
    write("baum_welch_quick" if quick else "baum_welch", record)
