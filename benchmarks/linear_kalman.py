"""Who is fastest at linear-Gaussian prediction: Markov models, and orders 16 and 64?

Means and covariances of all one-step predictions and the log-likelihood, float64, two channels for Markov models and
one for the orders (d = 4, T = 256), where the peers filter the augmented state `m d`. `last` is our dual filter for the
last prediction only, `all` its Schur form for all of them. statsmodels gives the log-likelihood alone (`loglike`, as its
users call it, with its freezing of settled covariances). Milliseconds, in turns.

    python -m benchmarks.linear_kalman [--quick]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from .linear_families import family
from .timing import machine, time_together, write

jax.config.update("jax_enable_x64", True)


def markov(d: int):
    import steerax as sx

    rng = np.random.default_rng(d)
    A = rng.normal(size=(d, d))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    return sx.LinearGaussianModel(
        np.zeros(d), np.eye(d), A[None], rng.normal(size=(2, d)), 0.5 * np.eye(d), 0.7 * np.eye(2)
    )


def augmented(model):
    """`(F, H, Q, R, m_0, P_0)` of the history of `m` states, NumPy."""
    m, d, p = model.order, model.n_states, model.n_channels
    F, Q, P = np.eye(m * d, k=-d), np.zeros((m * d, m * d)), np.zeros((m * d, m * d))
    F[:d] = np.concatenate(list(np.asarray(model.transition)), axis=1)
    H = np.zeros((p, m * d))
    H[:, :d], Q[:d, :d], P[:d, :d] = model.observation, model.process_noise, model.initial_covariance
    return F, H, Q, np.asarray(model.observation_noise), np.zeros(m * d), P


def peers(model, z: np.ndarray) -> dict:
    from dynamax.linear_gaussian_ssm import lgssm_filter
    from dynamax.linear_gaussian_ssm.inference import (
        ParamsLGSSM,
        ParamsLGSSMDynamics,
        ParamsLGSSMEmissions,
        ParamsLGSSMInitial,
    )
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

    F, H, Q, R, m_0, P_0 = augmented(model)
    n, p = len(F), len(H)
    zero = jnp.zeros(n)
    parameters = ParamsLGSSM(
        initial=ParamsLGSSMInitial(mean=jnp.asarray(m_0), cov=jnp.asarray(P_0)),
        dynamics=ParamsLGSSMDynamics(
            weights=jnp.asarray(F), bias=zero, input_weights=jnp.zeros((n, 0)), cov=jnp.asarray(Q)
        ),
        emissions=ParamsLGSSMEmissions(
            weights=jnp.asarray(H), bias=jnp.zeros(p), input_weights=jnp.zeros((p, 0)), cov=jnp.asarray(R)
        ),
    )
    of_dynamax = jax.jit(lambda z: lgssm_filter(parameters, z))
    given = jnp.asarray(z)
    space = KalmanFilter(k_endog=p, k_states=n, loglikelihood_burn=0)
    space.bind(z.copy())
    space["design"], space["obs_cov"], space["transition"], space["state_cov"] = H, R, F, Q
    space["selection"] = np.eye(n)
    space.initialize_known(m_0, P_0)
    return {
        "dynamax": lambda: float(jax.block_until_ready(of_dynamax(given)).marginal_loglik),
        "statsmodels": lambda: float(space.loglike()),
        **cuthbert(F, H, Q, R, m_0, P_0, given),
    }


def cuthbert(F, H, Q, R, m_0, P_0, z) -> dict:
    """Its sequential square-root filter; our first observation belongs to `X_0`, so its first step does not move."""
    import cuthbert as library
    from cuthbert.gaussian import kalman

    root = lambda S: jnp.asarray(np.linalg.svd(S)[0] * np.sqrt(np.linalg.svd(S)[1]))
    moves = jnp.stack([jnp.eye(len(F)), jnp.asarray(F)])
    noises = jnp.stack([jnp.zeros_like(moves[0]), root(Q)])
    zero, none, start, roots = jnp.zeros(len(F)), jnp.zeros(len(H)), root(P_0), root(R)
    moving = lambda k: jnp.minimum(k[0], 1)
    model = kalman.build_filter(
        jnp.asarray(m_0),
        start,
        lambda k: (moves[moving(k)], zero, noises[moving(k)]),
        lambda k: (jnp.asarray(H), none, roots, k[1]),
    )
    run = jax.jit(lambda z: library.filter(model, (jnp.arange(len(z)), z), model.init_prepare(), parallel=False))
    return {"cuthbert": lambda: float(jax.block_until_ready(run(z)).log_normalizing_constant[-1])}


def compare(name: str, model, z, ours: dict, slow: bool) -> dict:
    functions = {**ours, **peers(model, z)}
    values = {k: f() for k, f in functions.items()}
    times = time_together(functions, least=3 if slow else 5)
    print(name, {k: round(t["median"], 2) for k, t in times.items()})
    return {"cell": name, "milliseconds": times, "log_likelihoods": {k: v for k, v in values.items() if v is not None}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    import steerax as sx

    rows = []
    for d in (2, 8) if quick else (2, 8, 32):
        model = markov(d)
        z = np.asarray(model.sample(jax.random.key(0), 1000)[1])
        kalman = {"kalman_filter": lambda model=model, z=z: float(sx.filter(model, z).log_likelihood)}
        rows.append(compare(f"Markov d={d} T=1000", model, z, kalman, False))
    for m in (16,) if quick else (16, 64):
        long = family("taps k^-1.5", m, 4)
        z = np.asarray(long.sample(jax.random.key(0), 256)[1])
        ours = {
            "kalman_filter": lambda long=long, z=z: float(sx.filter(long, z).log_likelihood),
            "last": lambda long=long, z=z: (
                jax.block_until_ready(sx.dual_filter(long, z, solver=sx.solvers.OpenLoop()).predicted.mean) is None
                or None
            ),
            "all": lambda long=long, z=z: float(
                sx.dual_filter(long, z, queries="all", solver=sx.solvers.Schur()).log_likelihood
            ),
        }
        rows.append(compare(f"order {m} d=4 T=256", long, z, ours, True))
    if not quick:
        write("linear_kalman", {"machine": machine(("dynamax", "cuthbert", "statsmodels")), "rows": rows})


if __name__ == "__main__":
    main()
