"""The filter of a generalised hidden Markov model: the belief, and the distribution of the next token, given the tokens so far."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..._errors import ConfigurationError
from ..._results import is_traced
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.generalised import GeneralisedHMM
from ..devices import mesh_of, over_devices
from ..hmm.kernels.recursions import Limits
from ..hmm.kernels.scaled import Scaled
from ..tokens import (
    AbstractFilteredTokens,
    Tokens,
    as_codes,
    batch_first,
    check_choice,
    filtered_over,
    raise_if_impossible,
    scored,
)
from .kernels.recursions import (
    filter_linear,
    has_no_signs,
    may_have_lost_mass,
    next_probabilities,
    operator_table,
    row_numbers,
)
from .kernels.scaled import filter_scaled, filter_traced, posterior_scaled

_UNNAMED = (
    "The beliefs of this process are coordinates with signs, not distributions of a hidden state, so none of them belongs to the "
    "time of a token; use `predicted` and `next`."
)


class FilteredTokens(AbstractFilteredTokens):
    r"""What `filter_tokens` returns: `predicted[t]` is the row vector $\pi_t$ with $\pi_tw=1$; see `AbstractFilteredTokens`."""

    model: GeneralisedHMM

    def exact_states(self) -> Scaled:
        over = over_devices(mesh_of(self.states), filter_scaled, (None, None, None, 1), (1, 1))
        return over(*self.model.arrays, jnp.asarray(self.tokens))[0]

    @property
    def filtered(self) -> Float[Array, "*batch T d"]:
        r"""The distribution of $X_t$ given $Z_{\le t}$, $\pi_t\odot T^zw/q$, of a process with hidden states.

        **Raises:** `ConfigurationError` for a process with negative entries, or with $w\ne1$ (inside `jit` it stops the compiled
        function).
        """
        _, T, w = self.model.arrays
        z, states = jnp.asarray(self.tokens), self.states
        if is_traced(self.model):
            states = eqx.error_if(states, ~(has_no_signs(*self.model.arrays) & (w == 1).all()), _UNNAMED)
        elif not self.model.is_classical:
            raise ConfigurationError(_UNNAMED)

        def fast():
            joint = states[:-1] * (operator_table(T) @ w)[row_numbers(z)]
            return joint / joint.sum(-1, keepdims=True)

        return batch_first(self.either(fast, lambda states: posterior_scaled(states, T, w, z).linear))

    def next_all(self) -> Float[Array, "*batch T1 V"]:
        r"""$p(Z_t=z\mid Z_{<t})=\pi_tT^zw$ for every $t=0\dots T$."""
        return next_probabilities(self.predicted, *self.model.arrays[1:])


def filter_tokens(model: GeneralisedHMM, data: Tokens, on_impossible: str = "raise") -> FilteredTokens:
    r"""The filter of a generalised hidden Markov model along one sequence `[T]` or a `Sequences`; −1 is a missing token.

    $$\pi_0=p_0,\qquad\pi_{t+1}=\frac{\pi_tT^{z_t}}{q_t},\qquad q_t=\pi_tT^{z_t}w,\qquad\log p(z)=\sum_t\log q_t .$$

    $O(d^2T)$ per sequence. A token is impossible where $q_t$ is at most 64 machine epsilons of $|\pi_t||T^z||w|$, which without
    negative entries means zero. There no mass underflows for good either: where that could matter, the filter runs again in
    scaled numbers. Differentiable and traceable: inside `jit` an impossible token cannot raise; it is stepped over
    ($\pi_{t+1}=\pi_tA$) and makes the log-likelihood −∞.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` for
    tokens that are not codes of the model.
    """
    z = as_codes(model, data)
    lengths = np.asarray(data.lengths) if isinstance(data, Sequences) else None
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    arrays = model.arrays
    if isinstance(z, Tracer) or any(isinstance(a, Tracer) for a in jax.tree.leaves(arrays)):
        states, log_q, lost = filter_traced(*arrays, jnp.asarray(z))
        tokens = jnp.where(jnp.isfinite(log_q), z, -1)
        return FilteredTokens(model=model, tokens=tokens, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)
    if (mesh := mesh_of(data)) is not None:
        found = filtered_over(mesh, filter_traced, arrays, np.asarray(z), on_impossible)
        return FilteredTokens(model=model, lengths=lengths, **found)
    states: Any
    log_q: Any
    states, log_q = filter_linear(*arrays, z)
    lost = not bool(Limits.of(states.dtype).respected(states, log_q)) and bool(
        may_have_lost_mass(*arrays, z, states, log_q)
    )
    if lost:
        exact, log_q = filter_scaled(*arrays, jnp.asarray(z))
        states = exact.linear
    log_q = np.asarray(log_q)
    if not np.isfinite(log_q).all():
        if on_impossible == "raise":
            raise_if_impossible(log_q, z)
        z = np.where(np.isfinite(log_q), z, -1)
    return FilteredTokens(model=model, tokens=z, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)


def score_tokens(model: GeneralisedHMM, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every token of a data set; with `on_impossible="skip"` an impossible one scores −∞.

    **Raises:** as `filter_tokens`.
    """
    return scored(model, data, filter_tokens, on_impossible)
