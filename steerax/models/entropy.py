"""The smallest loss that any predictor of a process can reach."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._bounds import COUNT, bounded
from ..maths import beliefs as cloud
from ..maths.keys import as_key
from .generalised import GeneralisedHMM, check_process
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
    process: HiddenMarkovModel | GeneralisedHMM | Any,
    length: int,
    *,
    key=None,
    samples: int = 4096,
    max_beliefs: int = 4096,
) -> ConditionalEntropy:
    r"""$H(Z_t\mid Z_{<t})=\mathbb E[H(\pi_tT^zw)]$ ($\pi_tC$ for a chain) under the true filter $\pi_t$, for sequences of a given length.

    Its mean is the floor of the cross-entropy of every predictor of such sequences. Exact if no more than `max_beliefs`
    beliefs are reachable at any time; otherwise the mean over `samples` simulated sequences, with its standard error.

    **Raises:** `ConfigurationError` for a length below one, or another process.
    """
    check_process("conditional_entropy", process)
    exact = _exact_profile(process, length, max_beliefs)
    if exact is not None:
        return ConditionalEntropy(float(exact.mean()), 0.0, True, exact)
    return _simulated(process, key, samples, length)


@bounded(samples=COUNT, length=COUNT, max_beliefs=COUNT)
def entropy_rate(
    process: HiddenMarkovModel | GeneralisedHMM | Any,
    *,
    key=None,
    samples: int = 256,
    length: int = 4096,
    max_beliefs: int = 4096,
) -> ConditionalEntropy:
    r"""The limit of $H(Z_t\mid Z_{<t})$, for one closed class of states.

    Exact if finitely many beliefs are reachable from the initial distribution: then they form a Markov chain whose
    stationary distribution weighs the entropies of the next token. Otherwise simulated: the second half of `samples` sequences of `length` tokens.

    **Raises:** `DataError` if the beliefs have several closed classes (the limit then depends on chance); `ConfigurationError` for
    another process.
    """
    check_process("entropy_rate", process)
    found = _closed_beliefs(process, max_beliefs)
    if found is not None:
        q, chain = found
        rate = float(stationary_distribution(chain) @ _entropy(q))
        return ConditionalEntropy(rate, 0.0, True, np.array([rate]))
    simulated = _simulated(process, key, samples, length, skipped=length // 2)
    return simulated._replace(per_token=np.array([simulated.mean]))


def _entropy(p: Float[np.ndarray, "*n V"]) -> Float[np.ndarray, "*n"]:
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def _host(process: Any) -> tuple[np.ndarray, Any, np.ndarray]:
    """Initial belief `[1 d]`, operators (of a chain as products with its transition) and evaluation, on the host in float64."""
    if isinstance(process, GeneralisedHMM):
        p0, T, w = (np.asarray(a, np.float64) for a in process.arrays)
        return p0[None], T, w
    mu, A, C = (np.asarray(a, np.float64) for a in (process.initial, process.dense_transition, process.emission_matrix))
    return mu[None], [lambda b, c=c: (b * c) @ A for c in C.T], np.ones(len(mu))


def _least(process: Any) -> float:
    """The smallest number of a model that is not zero, by its absolute value."""
    if isinstance(process, GeneralisedHMM):
        arrays = process.arrays
    else:
        arrays = process.initial, process.dense_transition, process.emission_matrix
    return min(np.abs(a[a != 0]).min() for a in (np.asarray(a, np.float64) for a in arrays))


def _exact_profile(process: Any, length: int, max_beliefs: int) -> np.ndarray | None:
    points, operators, w = _host(process)
    weights = np.ones(1)
    profile = []
    for _ in range(length):
        if len(points) > max_beliefs:
            return None
        after, q = cloud.children(points, operators, w)
        profile.append(float(weights @ _entropy(q)))
        points, weights = cloud.merge(after.reshape(-1, points.shape[1]), (weights * q.T).ravel())
    return np.array(profile)


def _closed_beliefs(process: Any, max_beliefs: int) -> tuple[np.ndarray, np.ndarray] | None:
    """All reachable beliefs' distributions of the next token `[n V]` and the chain `[n n]` on them; `None` if there are too
    many, or if a probability is so small that beliefs that drift apart slowly could look equal."""
    points, operators, w = _host(process)
    if _least(process) < LEAST_MOVE:
        return None
    found, edges, closed = cloud.reachable(points, operators, w, max_beliefs)
    if not closed:
        return None
    chain, q = np.zeros((len(found), len(found))), np.zeros((len(found), len(operators)))
    for i, z, j, p in edges:
        chain[i, j] += p
        q[i, z] = p
    return q, chain


def _simulated(process: Any, key, samples: int, length: int, skipped: int = 0) -> ConditionalEntropy:
    r"""Means of $H(Z_t\mid Z_{<t})$ along simulated sequences without their first `skipped` tokens."""
    key = as_key(0 if key is None else key)
    entropies = np.asarray(_simulate(process, key, samples, length))[:, skipped:]
    means = entropies.mean(1)
    error = float(means.std(ddof=1) / math.sqrt(samples))
    return ConditionalEntropy(float(means.mean()), error, False, entropies.mean(0))


@eqx.filter_jit
def _simulate(process: Any, key, samples: int, length: int):
    """Entropies of the next token `[samples T]`; tokens are drawn from the predictive distribution itself."""
    start, columns, move = _steps(process)

    def step(belief, key):
        p = columns(belief)
        cumulative = jnp.cumsum(p, -1)
        u = jax.random.uniform(key, (samples, 1), p.dtype) * cumulative[:, -1:]
        z = jnp.sum(cumulative <= u, -1)
        entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)), -1)
        return move(belief, z), entropy

    start = jnp.broadcast_to(start, (samples, start.shape[0]))
    return jax.lax.scan(step, start, jax.random.split(key, length))[1].T


def _steps(process: Any):
    """The initial belief, the distribution of the next token, and the move by a token, of rows of beliefs."""
    if isinstance(process, GeneralisedHMM):
        p0, T, w = process.arrays
        weigh = jnp.einsum("zij,j->iz", T, w)

        def move_by_operator(belief, z):
            after = jnp.einsum("ni,nij->nj", belief, T[z])
            return after / (after @ w)[:, None]

        return p0, lambda belief: jnp.maximum(belief @ weigh, 0), move_by_operator
    mu, A, C = process.arrays

    def move(belief, z):
        joint = belief * C.T[z]
        return (joint / joint.sum(-1, keepdims=True)) @ A

    return mu, lambda belief: belief @ C, move
