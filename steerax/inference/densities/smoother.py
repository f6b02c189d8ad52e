"""Looking back: the distribution of every past state given all observations, and the likeliest path of states."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ...models.hmm import HiddenMarkovModel
from ..devices import mesh_of
from ..hmm.smoother import likeliest_path, smoothed_states
from ..results import Smoothed
from .filter import filter_series
from .observations import as_observations, numbers_of, seen_chain


def smooth_series(hmm: HiddenMarkovModel, data: Any, on_impossible: str = "raise") -> Smoothed:
    r"""The distribution of $X_t$, $t=0\dots T-1$, given all observations,

    $$P(X_t=i\mid Z)\propto\pi_t(i)\,\ell_t(i)\,b_t(i),\qquad b_t\propto A(\ell_{t+1}\odot b_{t+1}),\qquad b_{T-1}=1 .$$

    **Raises:** as `filter_series`.
    """
    filtered = filter_series(hmm, data, on_impossible)
    return Smoothed(smoothed_states(filtered.run, mesh_of(data)), filtered.log_likelihood, filtered.result)


def most_likely_states_series(hmm: HiddenMarkovModel, data: Any) -> Int[Array, "*batch T"]:
    """The path of greatest joint density with the observations, as `most_likely_states_tokens`. **Raises:** as `filter_series`."""
    z = as_observations(hmm, data)
    chain, _ = seen_chain(hmm, jnp.asarray(z))
    return likeliest_path(chain, jnp.asarray(numbers_of(z, hmm.emission)), data, lambda: filter_series(hmm, data))
