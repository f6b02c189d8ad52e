r"""Expectation–maximisation for a chain that emits numbers: one iteration, and running means, on arrays."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ....models.emissions.base import AbstractEmission, Prior
from ....models.transitions import as_transition
from ...devices import summed
from ...hmm.kernels.em import (
    Counts,
    ExpectedCounts,
    Iteration,
    Pseudocounts,
    counts_of,
    log_prior_of_rows,
    maximise_chain,
    of_all_devices,
)
from ...hmm.kernels.likelihoods import Likelihoods
from ..lags import windows
from ..observations import lifted, newest


class Expected(NamedTuple):
    """Expected counts, of which `emission` is the number of observations of each state `[d 1]`, and the statistics of the emission."""

    counts: ExpectedCounts
    statistics: Any

    @property
    def smallest_mass(self) -> Float[Array, ""]:
        return self.counts.smallest_mass

    @property
    def doubtful(self) -> Bool[Array, ""]:
        return self.counts.doubtful


class Means(NamedTuple):
    """Means over observations of expected counts, and of the statistics that `emission` collected."""

    counts: Counts
    statistics: Any
    emission: AbstractEmission


@functools.partial(jax.jit, static_argnames=("block", "per_chunk", "axis"))
def expected(
    mu: Float[Array, " d"],
    A,
    emission: AbstractEmission,
    z: Float[Array, "T B p"],
    lengths: Int[Array, " B"],
    block: int,
    per_chunk: int,
    axis: str | None = None,
) -> Expected:
    """The E-step; with `block` 0 in scaled numbers, and sums over the devices that `axis` names."""
    T, B, _ = z.shape
    read = windows(z, emission.lags)
    flat = read.reshape(-1, read.shape[-1])
    # each is computed once, not again by all that reads it
    likelihoods, factors = lax.optimization_barrier(Likelihoods.of(lifted(emission.log_densities(flat), A)))
    rows = 1 + jnp.arange(T * B).reshape(T, B)
    counts = counts_of(mu, A, likelihoods, rows, lengths, block, per_chunk)
    belongs = lax.optimization_barrier(newest(counts.emission.T, A))
    statistics = summed(emission.statistics(belongs, flat), axis)
    log_likelihood = counts.log_likelihood + factors.sum()
    counts = counts._replace(emission=belongs.sum(0)[:, None], log_likelihood=log_likelihood)
    return Expected(of_all_devices(counts, axis), statistics)


@functools.partial(jax.jit, static_argnames=("block", "per_chunk", "axis"))
def em_step(
    mu: Float[Array, " d"],
    A,
    emission: AbstractEmission,
    z: Float[Array, "T B p"],
    lengths: Int[Array, " B"],
    pseudocounts: Pseudocounts,
    prior: Prior,
    block: int,
    per_chunk: int,
    axis: str | None = None,
) -> Iteration:
    """One iteration. States without any expected count keep their distributions."""
    counts, statistics = expected(mu, A, emission, z, lengths, block, per_chunk, axis)
    after = maximise(mu, A, Means(Counts(*counts[:3]), statistics, emission), pseudocounts, prior)
    rows = mu, as_transition(A).free
    log_prior = log_prior_of_rows(rows, pseudocounts[:2]) + emission.log_prior(prior)
    return Iteration(after, counts, log_prior, counts.emission[:, 0] + prior.weight == 0)


@jax.jit
def maximise(mu: Float[Array, " d"], A, found: Means, pseudocounts: Pseudocounts, prior: Prior) -> tuple:
    """The M-step, from sums or means that the emission of the model collected."""
    emission = found.emission.maximised(found.statistics, prior)
    return *maximise_chain(mu, A, found.counts, pseudocounts), emission


@jax.jit
def mixed(before: Means, fresh: Means, share: Any) -> Means:
    r"""$(1-\gamma)s+\gamma\hat s$, with $s$ in terms of the emission that collected $\hat s$."""
    statistics = fresh.emission.translated(before.statistics, before.emission)
    mean = lambda s, f: (1 - share) * s + share * f
    counts, statistics = jax.tree.map(mean, (before.counts, statistics), fresh[:2])
    return Means(counts, statistics, fresh.emission)
