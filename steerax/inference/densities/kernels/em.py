r"""Expectation–maximisation for a chain that emits numbers: one iteration, on arrays."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ....models.emissions.base import AbstractEmission, Prior
from ....models.transitions import as_transition
from ...devices import summed
from ...hmm.kernels.em import (
    Counts,
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
    """One iteration; with `block` 0 in scaled numbers, and sums over the devices that `axis` names. States without any expected
    count keep their distributions."""
    (T, B, _), chain = z.shape, as_transition(A)
    read = windows(z, emission.lags)
    flat = read.reshape(-1, read.shape[-1])
    likelihoods, factors = Likelihoods.of(lifted(emission.log_likelihoods(flat), A))
    rows = 1 + jnp.arange(T * B).reshape(T, B)
    counts = counts_of(mu, A, likelihoods, rows, lengths, block, per_chunk)
    belongs = newest(counts.emission.T, A)
    maximised = emission.maximised(summed(emission.statistics(belongs, flat), axis), prior)
    log_likelihood = counts.log_likelihood + factors.sum()
    counts = of_all_devices(counts._replace(emission=belongs.sum(0)[:, None], log_likelihood=log_likelihood), axis)
    after = *maximise_chain(mu, A, Counts(*counts[:3]), pseudocounts), maximised
    log_prior = log_prior_of_rows((mu, chain.free), pseudocounts[:2]) + emission.log_prior(prior)
    return Iteration(after, counts, log_prior, counts.emission[:, 0] + prior.weight == 0)
