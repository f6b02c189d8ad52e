"""The identities behind everything, on random instances: both sides and their difference."""

import dataclasses

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
from .outcome import Outcome, at_most

TITLE = "Duality: the cost of a control is the error of its estimate"

SOURCES = {
    "any control: cost - error": (
        "The cost of any adapted control is the mean squared error of its estimate",
        "Prop. 6",
    ),
    "optimal control: estimate - filter": (
        "The optimal control reproduces the conditional expectation on every string",
        "Thm. 7",
    ),
    "optimal cost above any other": ("No other control costs less", "Thm. 7"),
    "dual filter along a path - filter": ("Along one string, prior minus controls is the filter", "eq. (9)"),
    "linear: optimal cost - Kalman covariance": (
        "The optimal cost is the error covariance of the Kalman filter",
        "Prop. 1",
    ),
    "linear: estimate - Kalman mean": ("The optimal control gives the Kalman estimate", "Thm. 2"),
}
# of rounding: an enumeration, or a Kalman filter on an augmented state
LIMITS = (1e-10, 1e-9)


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


def run(config: Config, seed: int) -> Outcome:
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
    return Outcome(
        TITLE,
        "Prop. 1 and 6, Thm. 2 and 7 of [KudreChangMehta2026]",
        [
            f"{config.instances} random hidden Markov models with {config.n_states} states and {config.n_tokens} tokens: costs "
            f"and errors are computed by enumeration of all {config.n_tokens**config.length} strings of {config.length} tokens, "
            "for a random control and for the optimal one. The same number of random linear-Gaussian models of order 3, against "
            f"a Kalman filter on the augmented state after {config.linear_length} observations.",
        ],
        [
            at_most(
                text, source, worst[name], LIMITS[name.startswith("linear")], f"Largest difference {worst[name]:.1e}"
            )
            for name, (text, source) in SOURCES.items()
        ],
        pictures(pairs, worst),
        {"largest_differences": worst, "costs_and_errors": pairs.tolist()},
    )


def pictures(pairs: np.ndarray, worst: dict[str, float]) -> list[dict]:
    """Costs beside errors, and the largest differences."""
    order = np.argsort(pairs[:, 1])
    n = np.arange(len(pairs))
    return [
        figures.lines(
            "Cost and error of a random and of the optimal control",
            "Circles of cost lie on those of error, instance by instance; the optimal pair lies below the random one.",
            "instance (in order of error)",
            "mean squared error",
            [
                figures.Line("random: cost", n, pairs[order, 0], "baseline"),
                figures.Line("random: error", n, pairs[order, 1], "accent"),
                figures.Line("optimal: cost", n, pairs[order, 2], "dual"),
                figures.Line("optimal: error", n, pairs[order, 3], "filter"),
            ],
            log_y=True,
        ),
        figures.table(
            "Largest differences",
            "Relative for costs and covariances, absolute for estimates.",
            ["identity", "largest difference"],
            [[name, f"{value:.1e}"] for name, value in worst.items()],
        ),
    ]


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
    e = explain_tokens(hmm, tokens, queries="all", target=F[:, None])
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
