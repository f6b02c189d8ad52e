"""Expectation–maximisation (Baum–Welch): one iteration, on arrays."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...._errors import ConfigurationError
from ....data.sequences import Sequences
from ....models.hmm import HiddenMarkovModel
from ....models.transitions import OrderKTransition
from ..filter import as_tokens
from .counts import expected_counts
from .recursions import row_numbers


class Pseudocounts(NamedTuple):
    """Counts added to the expected ones: the modes of Dirichlet priors with parameters `1 + count`. Zero is none."""

    initial: float = 0.0
    transition: float = 0.0
    emission: float = 0.0


class Counts(NamedTuple):
    """Expected counts of starts, transitions and emissions, or sums and means of such."""

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "d V"]


def as_pseudocounts(given: Pseudocounts | float) -> Pseudocounts:
    """Raises `ConfigurationError` if one is negative."""
    counts = given if isinstance(given, Pseudocounts) else Pseudocounts(given, given, given)
    if min(counts) < 0:
        raise ConfigurationError(f"Pseudocounts cannot be negative, but are {tuple(counts)}.")
    return counts


def block_length(d: int, batch: int, dtype) -> int:
    """Tokens between two normalisations: eight while a step is cheap, one where arithmetic or range forbids it."""
    return 8 if batch * d * d <= 100_000 and dtype == jnp.float64 else 1


def prepare(data: Sequences, model: HiddenMarkovModel) -> tuple[Int[Array, "T B"], int]:
    """`(rows, block)` for `expected_counts`. Raises `DataError` for tokens that the model does not have."""
    rows = row_numbers(as_tokens(model, data))
    return rows, block_length(model.n_states, data.number, model.emission.dtype)


@functools.partial(jax.jit, static_argnames=("block", "per_chunk"))
def em_step(mu, A, C, rows, lengths, pseudocounts: Pseudocounts, block: int, per_chunk: int):
    """One iteration: `((μ, A, C) after it, expected counts, log-prior before it, bool [d] of lost states)`.

    Rows without any expected count keep their value; they belong to states that no token needs.
    """
    found = expected_counts(mu, A, C, rows, lengths, block, per_chunk)
    new = maximise(mu, A, C, Counts(*found[:3]), pseudocounts)
    free = _free(mu, A, C)
    log_prior = sum(
        jnp.sum(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)) * weight
        for p, weight in zip(free, pseudocounts, strict=True)
    )
    lost = _tied(found.emission, len(free[2])).sum(-1) + pseudocounts.emission == 0
    return new, found, log_prior, lost


def maximise(mu, A, C, counts: Counts, pseudocounts: Pseudocounts):
    """`(μ, A, C)` from expected counts; a row without any keeps its value. The M-step."""
    free_mu, free_A, free_C = _free(mu, A, C)
    new_mu = _normalised(counts.initial + pseudocounts.initial, free_mu)
    new_A = _normalised(counts.transition + pseudocounts.transition, free_A)
    new_C = _normalised(_tied(counts.emission, len(free_C)) + pseudocounts.emission, free_C)
    if isinstance(A, OrderKTransition):
        return new_mu, OrderKTransition(new_A), jnp.tile(new_C, (len(C) // len(free_C), 1))
    return new_mu, new_A, new_C


def _free(mu, A, C):
    """The free parameters: an order-k model ties the emission of all tuples with the same newest state."""
    return (mu, A.tensor, C[: A.n_base_states]) if isinstance(A, OrderKTransition) else (mu, A, C)


def _tied(emission, n: int):
    """Emission counts of tuples summed over all but the newest of their states."""
    return emission.reshape(-1, n, emission.shape[-1]).sum(0)


def _normalised(counts, before):
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), before)
