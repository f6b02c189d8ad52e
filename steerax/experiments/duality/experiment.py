"""The identities behind everything, on random instances: both sides and their difference."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...inference.hmm.exact_control import optimal_control
from ...inference.hmm.explain import explain_tokens
from ...inference.hmm.filter import filter_tokens
from ...inference.linear.dual import dual_filter_series
from ...inference.linear.filter import filter_series
from ...models import random_hmm
from ...models.linear_gaussian import LinearGaussianModel
from ...report import figures
from ...report.words import Findings, table


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes small enough that every token string can be counted."""

    instances: int = 20
    n_states: int = 4
    n_tokens: int = 3
    length: int = 5
    linear_states: int = 3
    linear_length: int = 60


QUICK = Config(instances=4, length=4)


def run(config: Config, seed: int) -> Findings:
    """Evaluate both sides of each identity on `instances` random instances."""
    rng = np.random.default_rng(seed)
    hidden = [hidden_markov(rng, jax.random.key(1000 * seed + i), config) for i in range(config.instances)]
    linear = [linear_gaussian(rng, config) for _ in range(config.instances)]
    worst = {
        name: max(found[name] for found in part)
        for part in ([differences for differences, _ in hidden], linear)
        for name in part[0]
    }
    pairs = np.array([costs for _, costs in hidden])
    order, n = np.argsort(pairs[:, 1]), np.arange(len(pairs))
    labels = {
        "random: cost": "baseline",
        "random: error": "accent",
        "optimal: cost": "dual",
        "optimal: error": "filter",
    }
    curves = [figures.Line(label, n, pairs[order, i], role) for i, (label, role) in enumerate(labels.items())]
    return Findings(
        {"largest_differences": worst, "costs_and_errors": pairs.tolist()},
        {
            "costs": partial(figures.lines, curves=curves, log_y=True),
            "differences": table([[name, f"{value:.1e}"] for name, value in worst.items()]),
        },
    )


def hidden_markov(rng: np.random.Generator, key, config: Config) -> tuple[dict[str, float], list[float]]:
    """(differences of the identities, [cost, error] of a random and of the optimal control) on one random model."""
    hmm = random_hmm(key, config.n_states, config.n_tokens)
    F = rng.normal(size=config.n_states)
    V, T = config.n_tokens, config.length
    any_control = [rng.normal(size=(V**t, V - 1)) for t in range(T)]
    some = optimal_control(hmm, T, F, any_control)
    best = optimal_control(hmm, T, F)
    filtered = np.asarray(best.filters[-1] @ F)
    tokens = rng.integers(V, size=T)
    e = explain_tokens(hmm, tokens, queries="all", target=F[:, None], method="control")
    assert e.weights is not None
    path = np.asarray(e.prior[:, 0] + e.weights[..., 0].sum(1))
    exact = np.asarray(filter_tokens(hmm, tokens).predicted) @ F
    return {
        "any control: cost - error": abs(some.cost - some.mse) / some.mse,
        "optimal control: cost - error": abs(best.cost - best.mse) / best.mse,
        "optimal control: estimate - filter": np.abs(best.estimates[-1] - filtered).max(),
        "optimal cost above any other": max(0.0, best.cost - some.cost),
        "dual filter along a path - filter": np.abs(path - exact).max(),
    }, [some.cost, some.mse, best.cost, best.mse]


def linear_gaussian(rng: np.random.Generator, config: Config) -> dict[str, float]:
    """Dual filter against Kalman filter on one random model."""
    model, z = random_linear(rng, config)
    dual = dual_filter_series(model, z)
    kalman = filter_series(model, z).predicted[-1]
    scale = np.abs(np.asarray(kalman.covariance)).max()
    covariance = np.abs(np.asarray(dual.predicted.covariance) - np.asarray(kalman.covariance)).max() / scale
    mean = np.abs(np.asarray(dual.predicted.mean) - np.asarray(kalman.mean)).max() / np.sqrt(scale)
    return {
        "linear: optimal cost - Kalman covariance": float(covariance),
        "linear: estimate - Kalman mean": float(mean),
    }


def random_linear(rng: np.random.Generator, config: Config) -> tuple[LinearGaussianModel, jnp.ndarray]:
    """A stable model of order 3 with one channel, and observations."""
    d = config.linear_states
    taps = rng.normal(size=(3, d, d))
    taps *= 0.9 / sum(np.linalg.norm(tap, 2) for tap in taps)
    root = rng.normal(size=(d, d))
    model = LinearGaussianModel(np.zeros(d), np.eye(d), taps, rng.normal(size=(1, d)), root @ root.T / d, np.eye(1))
    return model, jnp.asarray(rng.normal(size=(config.linear_length, 1)))
