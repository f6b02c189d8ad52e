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
from ..stream import Prediction, RememberingStream, TokenStream, begun, check_number, check_state
from ..tokens import check_choice
from .lags import refuse_gaps_after
from .observations import as_observations, lifted, newest
from .predictive import Predictive


def start_series(hmm: HiddenMarkovModel, number: int | None = None) -> TokenStream | RememberingStream:
    """What is known before the first observation: the model's initial distribution, and no past."""
    state = begun(Scaled.of(hmm.initial), number)
    k = hmm.emission.lags * hmm.n_channels
    return RememberingStream(*state, jnp.full((*state.time.shape, k), jnp.nan, hmm.initial.dtype)) if k else state


def step_series(
    hmm: HiddenMarkovModel, state: Any, observation: Any, *, on_impossible: str = "raise"
) -> tuple[TokenStream | RememberingStream, Prediction]:
    r"""$\pi_{t+1}=A^\top(\pi_t\odot\ell_t)/q_t$, as `filter_series`, $O(d^2)$ and a likelihood for each state.

    The prediction's `next` is a `Predictive`, its `p_value` that of `Predictive.p_value`. **Raises:** as `filter_series`;
    `DataError` for a missing observation of a stream that has begun, where the emission reads the past.
    """
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    lags = hmm.emission.lags
    check_state(state, (hmm.n_states,), recent=lags * hmm.n_channels or None, of_numbers=True)
    streams = state.time.shape
    if not is_traced(observation):
        observation = converted(observation if np.ndim(observation) else [observation], "observations")
    z = as_observations(hmm, observation if streams else observation.reshape(1, -1), along_time=False)
    check_number(z, streams)
    own = z if streams else z[0]
    after, prediction = _step(hmm, state, refuse_gaps_after(own, state.recent) if lags else own)
    if on_impossible == "raise" and not is_traced(prediction.log_likelihood):
        impossible = np.isneginf(np.atleast_1d(np.asarray(prediction.log_likelihood)))
        if impossible.any():
            at = int(np.argmax(impossible))
            said = ", ".join(f"{value:g}" for value in z[at])
            raise ImpossibleTokenError(at, int(np.ravel(state.time)[at]), said, "Observation")
    return after, prediction


@jax.jit
def _step(hmm: HiddenMarkovModel, state: Any, z: Float[Array, "*batch p"]) -> tuple[Any, Prediction]:
    p, past = hmm.n_channels, state.recent if hmm.emission.lags else None
    read = z if past is None else jnp.concatenate([z, past], -1)
    found = lifted(hmm.emission.log_likelihoods(read), hmm.transition)
    likelihoods, factors = Likelihoods.of(found.reshape(-1, found.shape[-1]))
    number = jnp.arange(len(factors)).reshape(z.shape[:-1])
    after, log_q = advance(Scaled(state.mantissa, state.exponent), hmm.transition, likelihoods, number)
    log_q = log_q + factors.reshape(log_q.shape)
    known = after.m, after.e, state.log_likelihood + log_q, state.time + 1
    recent = None if past is None else read[..., : past.shape[-1]]
    new = TokenStream(*known) if recent is None else RememberingStream(*known, recent)
    expected = lambda belief, given: Predictive(newest(belief, hmm.transition), hmm.emission, given)
    unusual = expected(state.predicted, None if hmm.emission.reads is None else read[..., p:]).p_value(z[..., :p])
    after_that = jnp.full_like(z[..., p:], jnp.nan) if hmm.emission.n_inputs else recent  # inputs to come are not known
    return new, Prediction(expected(new.predicted, after_that), log_q, unusual)
