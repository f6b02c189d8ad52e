"""The smallest loss that any predictor of a process can reach."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._bounds import COUNT, bounded
from ..maths import beliefs as cloud
from ..maths.keys import as_key
from .hmm import HiddenMarkovModel, stationary_distribution

LEAST_MOVE = 1e-8  # the smallest probability of a model whose beliefs are told apart with certainty


class ConditionalEntropy(NamedTuple):
    r"""Entropies in nats per token. `standard_error` is zero when `exact`; otherwise both come from simulation.

    **Attributes:** `mean`; `standard_error`; `exact`; `per_token` `[T]`, $H(Z_t\mid Z_{<t})$ for $t=0\dots T-1$ (the
    rate alone for `entropy_rate`).
    """

    mean: float
    standard_error: float
    exact: bool
    per_token: Float[np.ndarray, " T"]


@bounded(length=COUNT, samples=COUNT, max_beliefs=COUNT)
def conditional_entropy(
    hmm: HiddenMarkovModel, length: int, *, key=None, samples: int = 4096, max_beliefs: int = 4096
) -> ConditionalEntropy:
    r"""$H(Z_t\mid Z_{<t})=\mathbb E[H(\pi_tC)]$ under the true filter $\pi_t$, for sequences of a given length.

    Its mean is the floor of the cross-entropy of every predictor of such sequences. Exact if no more than `max_beliefs`
    beliefs are reachable at any time; otherwise the mean over `samples` simulated sequences, with its standard error.

    **Raises:** `ConfigurationError` for a length below one.
    """
    exact = _exact_profile(hmm, length, max_beliefs)
    if exact is not None:
        return ConditionalEntropy(float(exact.mean()), 0.0, True, exact)
    return _simulated(hmm, key, samples, length)


@bounded(samples=COUNT, length=COUNT, max_beliefs=COUNT)
def entropy_rate(
    hmm: HiddenMarkovModel, *, key=None, samples: int = 256, length: int = 4096, max_beliefs: int = 4096
) -> ConditionalEntropy:
    r"""The limit of $H(Z_t\mid Z_{<t})$, for one closed class of states.

    Exact if finitely many beliefs are reachable from the initial distribution: then they form a Markov chain whose
    stationary distribution weighs $H(\pi C)$. Otherwise simulated: the second half of `samples` sequences of `length` tokens.

    **Raises:** `DataError` if the beliefs have several closed classes (the limit then depends on chance).
    """
    found = _closed_beliefs(hmm, max_beliefs)
    if found is not None:
        points, chain = found
        rate = float(stationary_distribution(chain) @ _entropy(points @ np.asarray(hmm.emission, np.float64)))
        return ConditionalEntropy(rate, 0.0, True, np.array([rate]))
    simulated = _simulated(hmm, key, samples, length, skipped=length // 2)
    return simulated._replace(per_token=np.array([simulated.mean]))


def _entropy(p: Float[np.ndarray, "*n V"]) -> Float[np.ndarray, "*n"]:
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def _host(hmm: HiddenMarkovModel):
    """Initial belief `[1 d]`, the product with the transition, the emission, in float64 on the host."""
    A = np.asarray(hmm.dense_transition, np.float64)
    return np.asarray(hmm.initial, np.float64)[None], lambda b: b @ A, np.asarray(hmm.emission, np.float64)


def _exact_profile(hmm: HiddenMarkovModel, length: int, max_beliefs: int) -> np.ndarray | None:
    points, times_A, C = _host(hmm)
    weights = np.ones(1)
    profile = []
    for _ in range(length):
        if len(points) > max_beliefs:
            return None
        profile.append(float(weights @ _entropy(points @ C)))
        points, weights = cloud.spread(points, weights, times_A, C)
    return np.array(profile)


def _closed_beliefs(hmm: HiddenMarkovModel, max_beliefs: int) -> tuple[np.ndarray, np.ndarray] | None:
    """All reachable beliefs `[n d]` and the chain `[n n]` on them; `None` if there are too many, or if a probability is so
    small that beliefs that drift apart slowly could look equal."""
    points, times_A, C = _host(hmm)
    least = min(a[a > 0].min() for a in (points, np.asarray(hmm.dense_transition, np.float64), C))
    if least < LEAST_MOVE:
        return None

    def name_of(belief):
        with np.errstate(divide="ignore"):
            return tuple(np.round(np.log(belief), 11) + 0.0)

    index = {name_of(points[0]): 0}
    found, edges, at = [points[0]], [], 0
    while at < len(found):
        after, q = cloud.children(found[at][None], times_A, C)
        for z in np.flatnonzero(q[0] > 0):
            to = index.setdefault(name_of(after[z, 0]), len(found))
            if to == len(found):
                found.append(after[z, 0])
            edges.append((at, to, q[0, z]))
        at += 1
        if len(found) > max_beliefs:
            return None
    chain = np.zeros((len(found), len(found)))
    for i, j, p in edges:
        chain[i, j] += p
    return np.stack(found), chain


def _simulated(hmm: HiddenMarkovModel, key, samples: int, length: int, skipped: int = 0) -> ConditionalEntropy:
    r"""Means of $H(\pi_tC)$ along simulated sequences without their first `skipped` tokens."""
    entropies = np.asarray(_simulate(*hmm.arrays, as_key(0 if key is None else key), samples, length))[:, skipped:]
    means = entropies.mean(1)
    error = float(means.std(ddof=1) / math.sqrt(samples))
    return ConditionalEntropy(float(means.mean()), error, False, entropies.mean(0))


@functools.partial(jax.jit, static_argnums=(4, 5))
def _simulate(mu, A, C, key, samples, length):
    r"""$H(\pi_tC)$ `[samples T]`; tokens are drawn from the predictive distribution itself."""

    def step(belief, key):
        p = belief @ C
        cumulative = jnp.cumsum(p, -1)
        u = jax.random.uniform(key, (samples, 1), p.dtype) * cumulative[:, -1:]
        z = jnp.sum(cumulative <= u, -1)
        joint = belief * C.T[z]
        entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)), -1)
        return (joint / joint.sum(-1, keepdims=True)) @ A, entropy

    start = jnp.broadcast_to(mu, (samples, mu.shape[0]))
    return jax.lax.scan(step, start, jax.random.split(key, length))[1].T
