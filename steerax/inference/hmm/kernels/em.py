r"""Expectation–maximisation (Baum–Welch): one iteration, on arrays."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...._bounds import NOT_NEGATIVE
from ....models.transitions import as_transition
from .counts import ExpectedCounts, expected_counts
from .scaled import counts_scaled


class Pseudocounts(NamedTuple):
    """Counts added to the expected ones, except where the model has a zero: the modes of Dirichlet priors with parameters
    `1 + count`; zero adds nothing."""

    initial: float = 0.0
    transition: float = 0.0
    emission: float = 0.0


class Counts(NamedTuple):
    """Expected counts of starts, transitions and emissions, or sums and means of such."""

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "d V"]


def as_pseudocounts(given: Pseudocounts | float) -> Pseudocounts:
    """One number stands for all three. Raises `ConfigurationError` if a count is negative."""
    counts = given if isinstance(given, Pseudocounts) else Pseudocounts(given, given, given)
    for name, count in zip(Pseudocounts._fields, counts, strict=True):
        NOT_NEGATIVE.check(f"The pseudocount {name}", count)
    return counts


class Iteration(NamedTuple):
    """One iteration of EM: the `arrays` after it, `counts` and log-prior before it, and which states were lost."""

    arrays: tuple
    counts: ExpectedCounts
    log_prior: Float[Array, ""]
    lost: Bool[Array, " d"]

    @property
    def smallest_mass(self) -> Float[Array, ""]:
        return self.counts.smallest_mass

    @property
    def doubtful(self) -> Bool[Array, ""]:
        return self.counts.doubtful


def counts_of(mu, A, C, rows, lengths, block: int, per_chunk: int) -> ExpectedCounts:
    """`expected_counts`; with `block` 0 in scaled numbers."""
    if block:
        return expected_counts(mu, A, C, rows, lengths, block, per_chunk)
    return counts_scaled(mu, A, C, rows, lengths)


@functools.partial(jax.jit, static_argnames=("block", "per_chunk"))
def em_step(
    mu: Float[Array, " d"],
    A,
    C: Float[Array, "d V"],
    rows: Int[Array, "T B"],
    lengths: Int[Array, " B"],
    pseudocounts: Pseudocounts,
    block: int,
    per_chunk: int,
) -> Iteration:
    """One iteration. With `block` 0 no mass can underflow. Rows without any expected count keep their value; they belong to states that no token needs."""
    counts = counts_of(mu, A, C, rows, lengths, block, per_chunk)
    after = maximise(mu, A, C, Counts(*counts[:3]), pseudocounts)
    free = _free(mu, A, C)
    lost = _tied(counts.emission, len(free[2])).sum(-1) + pseudocounts.emission == 0
    return Iteration(after, counts, log_prior_of_rows(free, pseudocounts), lost)


def log_prior_of_rows(rows: tuple, weights: tuple) -> Float[Array, ""]:
    """The logarithm of Dirichlet priors with these pseudocounts, up to a constant; what is zero is no parameter."""
    return sum(
        (
            jnp.sum(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)) * weight
            for p, weight in zip(rows, weights, strict=True)
        ),
        jnp.zeros(()),
    )


def maximise(mu: Float[Array, " d"], A, C: Float[Array, "d V"], counts: Counts, pseudocounts: Pseudocounts) -> tuple:
    r"""The M-step: $(\mu,A,C)$ from expected counts; a row without any keeps its value, and what is zero stays zero."""
    free_C = _free(mu, A, C)[2]
    new_C = _normalised(_tied(counts.emission, len(free_C)), pseudocounts.emission, free_C)
    return *maximise_chain(mu, A, counts, pseudocounts), as_transition(A).lifted_emission(new_C)


def maximise_chain(mu: Float[Array, " d"], A, counts: Counts, pseudocounts: Pseudocounts) -> tuple:
    r"""The M-step of $(\mu,A)$."""
    transition = as_transition(A)
    new_A = _normalised(counts.transition, pseudocounts.transition, transition.free)
    return _normalised(counts.initial, pseudocounts.initial, mu), transition.with_free(new_A)


def _free(mu, A, C):
    """The free parameters: an order-k model ties the emission of all tuples with the same newest state."""
    transition = as_transition(A)
    return mu, transition.free, C[: transition.n_base_states]


def _tied(emission, n: int):
    """Emission counts of tuples summed over all but the newest of their states."""
    return emission.reshape(-1, n, emission.shape[-1]).sum(0)


def _normalised(counts, pseudocount, before):
    counts = counts + jnp.where(before > 0, pseudocount, 0)  # a zero of the start is structure, not a small number
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), before)
