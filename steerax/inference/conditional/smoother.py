"""Looking back along a conditionally Markov chain: past states given all tokens, and the likeliest path of states."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..._results import is_traced
from ...data.sequences import Sequences
from ...models.conditional import AbstractConditionalHMM
from ..results import Smoothed
from ..tokens import Tokens, as_codes, batch_first
from .filter import filter_tokens, steps_of
from .kernels.recursions import likeliest_path, smooth_linear
from .kernels.scaled import smooth_scaled


def smooth_tokens(model: AbstractConditionalHMM, data: Tokens, on_impossible: str = "raise") -> Smoothed:
    r"""The distribution of $X_t$, $t=0\dots T-1$, given all $T$ tokens,

    $$P(X_t=i\mid Z)\propto\pi_t(i)\,c_t(i)\,b_t(i),\qquad b_t\propto K_t(c_{t+1}\odot b_{t+1}),\qquad b_{T-1}=1 .$$

    It looks back along the chain with these kernels. Where they stand for a process with more memory, only the distributions given
    the tokens so far are those of the process. **Raises:** as `filter_tokens`.
    """
    filtered = filter_tokens(model, data, on_impossible)
    steps = filtered.steps
    smoothed = filtered.either(
        lambda: smooth_linear(filtered.states, *steps), lambda states: smooth_scaled(states, *steps)
    )
    return Smoothed(batch_first(smoothed), filtered.log_likelihood, filtered.result)


def most_likely_states_tokens(model: AbstractConditionalHMM, data: Any) -> Int[Array, "*batch T"]:
    """The path $X_0\\dots X_{T-1}$ of greatest joint probability with the tokens, along the kernels; see `most_likely_states`.

    **Raises:** as for a hidden Markov model.
    """
    z = as_codes(model, data)
    if z.shape[0] == 0:
        return jnp.zeros(z.shape[::-1], jnp.int32)
    path, best = likeliest_path(model.initial, *steps_of(model, z))
    impossible = jnp.isneginf(best)
    if not is_traced(impossible) and np.asarray(impossible).any():
        filter_tokens(model, data)  # names the token
    path = batch_first(jnp.where(impossible, -1, path), 1)
    return jnp.where(jnp.asarray(data.inside), path, -1) if isinstance(data, Sequences) else path
