"""The filter of a hidden Markov model of numbers, observation by observation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ImpossibleTokenError
from ..._results import is_traced
from ...data.convert import converted
from ...models.hmm import HiddenMarkovModel
from ..hmm.kernels.likelihoods import Likelihoods
from ..hmm.kernels.scaled import Scaled, advance
from ..stream import Prediction, TokenStream, begun, check_number, check_state
from ..tokens import check_choice
from .observations import as_observations, lifted, newest
from .predictive import Predictive


def start_series(hmm: HiddenMarkovModel, number: int | None = None) -> TokenStream:
    """What is known before the first observation: the model's initial distribution."""
    return begun(Scaled.of(hmm.initial), number)


def step_series(
    hmm: HiddenMarkovModel, state: Any, observation: Any, *, on_impossible: str = "raise"
) -> tuple[TokenStream, Prediction]:
    r"""$\pi_{t+1}=A^\top(\pi_t\odot\ell_t)/q_t$, as `filter_series`, $O(d^2)$ and a likelihood for each state.

    The prediction's `next` is a `Predictive`, its `p_value` that of `Predictive.p_value`. **Raises:** as `filter_series`.
    """
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    check_state(state, TokenStream, hmm.n_states)
    streams = state.time.shape
    if not is_traced(observation):
        observation = converted(observation if np.ndim(observation) else [observation], "observations")
    z = as_observations(hmm, observation if streams else observation.reshape(1, -1))
    check_number(z, streams)
    after, prediction = _step(hmm, state, z if streams else z[0])
    if on_impossible == "raise" and not is_traced(prediction.log_likelihood):
        impossible = np.isneginf(np.atleast_1d(np.asarray(prediction.log_likelihood)))
        if impossible.any():
            at = int(np.argmax(impossible))
            said = ", ".join(f"{value:g}" for value in z[at])
            raise ImpossibleTokenError(at, int(np.ravel(state.time)[at]), said, "Observation")
    return after, prediction


@jax.jit
def _step(hmm: HiddenMarkovModel, state: TokenStream, z: Float[Array, "*batch p"]) -> tuple[TokenStream, Prediction]:
    found = lifted(hmm.emission.log_likelihoods(z), hmm.transition)
    likelihoods, factors = Likelihoods.of(found.reshape(-1, found.shape[-1]))
    number = jnp.arange(len(factors)).reshape(z.shape[:-1])
    after, log_q = advance(Scaled(state.mantissa, state.exponent), hmm.transition, likelihoods, number)
    log_q = log_q + factors.reshape(log_q.shape)
    new = TokenStream(after.m, after.e, state.log_likelihood + log_q, state.time + 1)
    expected = lambda belief: Predictive(newest(belief, hmm.transition), hmm.emission)
    return new, Prediction(expected(new.predicted), log_q, expected(state.predicted).p_value(z))
