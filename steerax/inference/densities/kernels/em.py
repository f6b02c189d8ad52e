r"""Expectation–maximisation for a chain that emits numbers: one iteration, on arrays."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ....models.emissions.base import AbstractEmission, Prior
from ....models.transitions import as_transition
from ...hmm.kernels.em import Counts, Iteration, Pseudocounts, counts_of, log_prior_of_rows, maximise_chain
from ...hmm.kernels.likelihoods import Likelihoods
from ..observations import lifted, newest


@functools.partial(jax.jit, static_argnames=("block", "per_chunk"))
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
) -> Iteration:
    """One iteration; with `block` 0 in scaled numbers. States without any expected count keep their distributions."""
    (T, B, p), chain = z.shape, as_transition(A)
    flat = z.reshape(-1, p)
    likelihoods, factors = Likelihoods.of(lifted(emission.log_likelihoods(flat), A))
    rows = 1 + jnp.arange(T * B).reshape(T, B)
    counts = counts_of(mu, A, likelihoods, rows, lengths, block, per_chunk)
    belongs = newest(counts.emission.T, A)
    maximised = emission.maximised(emission.statistics(belongs, flat), prior)
    total = Counts(counts.initial, counts.transition, belongs.sum(0)[:, None])
    after = *maximise_chain(mu, A, total, pseudocounts), maximised
    log_prior = log_prior_of_rows((mu, chain.free), pseudocounts[:2]) + emission.log_prior(prior)
    counts = counts._replace(emission=total.emission, log_likelihood=counts.log_likelihood + factors.sum())
    return Iteration(after, counts, log_prior, total.emission[:, 0] + prior.weight == 0)
