"""How long does an iteration of EM for numbers take beside hmmlearn and dynamax, and do the likelihoods agree?

100 sequences of 200 observations of 2 channels, float64, from the same start: Gaussian emissions (full and diagonal) and Poisson
ones. hmmlearn's fastest implementation ("scaling"), priors off; dynamax's E- and M-step compiled together. Likelihoods are also
compared with statsmodels' MarkovRegression.

    python -m benchmarks.emissions [--quick]
"""

import argparse
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)
N, T, P = 100, 200, 2


def start_of(kind: str, d: int):
    """A model of a kind, and data from another."""
    import steerax as sx

    E, rng = sx.emissions, np.random.default_rng(d)

    def model(rng):
        mu, A = rng.dirichlet(np.ones(d)), rng.dirichlet(np.ones(d), d) * 0.2 + 0.8 * np.eye(d)
        if kind == "poisson":
            return sx.HiddenMarkovModel(mu, A, E.Poisson(rng.exponential(5, (d, P)) + 0.5))
        root = rng.normal(size=(d, P, P + 2))
        S = root @ root.swapaxes(1, 2) / P
        S = S * np.eye(P) if kind == "diagonal" else S
        return sx.HiddenMarkovModel(mu, A, E.Gaussian(3 * rng.normal(size=(d, P)), S, kind))

    data = np.asarray(sx.sample(model(rng), 0, T, number=N)[1])
    return model(rng), sx.Sequences.from_arrays(list(data))


def by_hmmlearn(kind: str, start, data, iterations: int):
    """hmmlearn's model after some iterations."""
    from hmmlearn.hmm import GaussianHMM, PoissonHMM

    given = {"n_iter": iterations, "tol": -np.inf, "init_params": "", "implementation": "scaling"}
    d = start.n_states
    if kind == "poisson":
        peer = PoissonHMM(d, lambdas_prior=0, lambdas_weight=0, **given)
        peer.lambdas_ = np.array(start.emission.rate)
    else:
        S = np.array(start.emission.covariance)
        off = {"covars_prior": 0, "covars_weight": 0, "means_weight": 0, "min_covar": 0}
        peer = GaussianHMM(d, "diag" if kind == "diagonal" else "full", **off, **given)
        peer.means_ = np.array(start.emission.mean)
        peer.covars_ = np.diagonal(S, axis1=1, axis2=2) if kind == "diagonal" else S
    peer.startprob_, peer.transmat_ = np.array(start.initial), np.array(start.transition)
    return peer.fit(data.values.reshape(-1, P), [T] * N)


def dynamax_step(kind: str, start, data):
    """dynamax's iteration, compiled whole, and its parameters."""
    from dynamax.hidden_markov_model import DiagonalGaussianHMM, GaussianHMM, PoissonHMM

    chain = {"initial_probs": start.initial, "transition_matrix": start.transition}
    if kind == "poisson":
        peer, own = PoissonHMM(start.n_states, P), {"emission_rates": start.emission.rate}
    elif kind == "diagonal":
        scale = jnp.sqrt(jnp.diagonal(start.emission.covariance, axis1=1, axis2=2))
        peer, own = (
            DiagonalGaussianHMM(start.n_states, P),
            {"emission_means": start.emission.mean, "emission_scale_diags": scale},
        )
    else:
        own = {"emission_means": start.emission.mean, "emission_covariances": start.emission.covariance}
        peer = GaussianHMM(start.n_states, P)
    params, properties = peer.initialize(jax.random.PRNGKey(0), method="prior", **chain, **own)
    z = jnp.asarray(data.values)

    @jax.jit
    def step(params):
        statistics, log_likelihoods = jax.vmap(lambda e: peer.e_step(params, e))(z)
        state = peer.initialize_m_step_state(params, properties)
        return peer.m_step(params, properties, statistics, state)[0], log_likelihoods.sum()

    return step, params


def cell(kind: str, d: int) -> dict:
    import steerax as sx
    from steerax.inference.densities.fit import PreparedSeries
    from steerax.inference.hmm.restarts import Restart
    from steerax.models.emissions.base import Prior

    start, data = start_of(kind, d)
    prior = Prior.of(data.values[data.inside], d, 0.0, 0.0, np.float64)
    z = jnp.asarray(np.swapaxes(data.values, 0, 1))
    prepared, one = PreparedSeries(data, z, jnp.asarray(data.lengths), prior), Restart(start, start)
    step, params = dynamax_step(kind, start, data)
    times = time_together(
        {
            "steerax": lambda: one.advance(prepared, sx.Pseudocounts()),
            "hmmlearn": lambda: by_hmmlearn(kind, start, data, 1),
            "dynamax": lambda: jax.block_until_ready(step(params)),
        },
        budget=8,
    )
    found = sx.fit(start, data, shrinkage=0.0, max_iterations=10, tolerance=0.0, progress=False)
    history = np.array(by_hmmlearn(kind, start, data, 10).monitor_.history)
    peers = {
        "hmmlearn": float(np.abs(found.log_likelihoods[: len(history)] / history - 1).max()),
        "dynamax": float(abs(found.log_likelihoods[0] / float(step(params)[1]) - 1)),
    }
    ratio = {name: times[name]["median"] / times["steerax"]["median"] for name in times}
    shown = "  ".join(f"{name} {t['median']:.1f} ms ({ratio[name]:.1f}x)" for name, t in times.items())
    print(f"{kind:<9} d={d:<3} {shown}; likelihoods differ by {max(peers.values()):.0e}", flush=True)
    return {"kind": kind, "d": d, "ms": times, "ratio": ratio, "disagreement": peers}


def beside_statsmodels() -> float:
    """The relative difference of log-likelihoods of a regime-switching mean and variance."""
    import statsmodels.api as sm

    import steerax as sx

    z = np.asarray(sm.datasets.macrodata.load_pandas().data["infl"], float)
    model = sm.tsa.MarkovRegression(z, k_regimes=2, switching_variance=True)
    # p[0→0], p[1→0], two means, two variances
    theirs = model.loglike(np.array([0.9, 0.2, 2.0, 6.0, 4.0, 9.0]))
    A = np.array([[0.9, 0.1], [0.2, 0.8]])
    ours = sx.HiddenMarkovModel([2 / 3, 1 / 3], A, sx.emissions.Gaussian([[2.0], [6.0]], [[[4.0]], [[9.0]]]))
    return float(abs(sx.filter(ours, z).log_likelihood / theirs - 1))


if __name__ == "__main__":
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight states only")
    quick = parser.parse_args().quick
    apart = beside_statsmodels()
    print(f"statsmodels MarkovRegression: likelihoods differ by {apart:.0e}")
    cells = [cell(kind, d) for kind in ("full", "diagonal", "poisson") for d in ((8,) if quick else (8, 32))]
    record = {"cells": cells, "statsmodels": apart, **machine(("dynamax", "hmmlearn", "statsmodels"))}
    write("emissions_quick" if quick else "emissions", record)
