"""The forward filter: the distribution of the hidden state and of the next token, given the tokens so far."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..._results import is_traced
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ..devices import mesh_of, over_devices
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
from .kernels.likelihoods import emission_table
from .kernels.recursions import (
    Limits,
    filter_checked,
    filter_possible,
    is_small_product,
    may_have_lost_mass,
)
from .kernels.scaled import Scaled, filter_scaled, filter_traced, posterior_scaled


class FilteredTokens(AbstractFilteredTokens):
    r"""What `filter_tokens` returns: `predicted[t]` is $\pi_t$, the distribution of $X_t$ given $Z_{<t}$; see
    `AbstractFilteredTokens`."""

    model: Any  # a hidden Markov model, or another record with its arrays

    def exact_states(self) -> Scaled:
        over = over_devices(mesh_of(self.states), filter_scaled, (None, None, None, 1), (1, 1))
        return over(*self.model.arrays, jnp.asarray(self.tokens))[0]

    @property
    def filtered(self) -> Float[Array, "*batch T d"]:
        C, z = self.model.emission, jnp.asarray(self.tokens)

        def fast():
            joint = self.states[:-1] * emission_table(C)[z + 1]
            return joint / joint.sum(-1, keepdims=True)

        return batch_first(self.either(fast, lambda states: posterior_scaled(states, C, z).linear))

    def next_all(self) -> Float[Array, "*batch T1 V"]:
        r"""$p(Z_t=z\mid Z_{<t})=\pi_t^\top C_z$ for every $t=0\dots T$."""
        return self.predicted @ self.model.emission


def filter_tokens(hmm: HiddenMarkovModel, data: Tokens, on_impossible: str = "raise") -> FilteredTokens:
    r"""The filter of a hidden Markov model along one sequence `[T]` or a `Sequences`; −1 is a missing token.

    $$\pi_0=\mu,\qquad \pi_{t+1}=\frac{A^\top(\pi_t\odot C_{z_t})}{q_t},\qquad q_t=\pi_t^\top C_{z_t},\qquad
    \log p(z)=\sum_t\log q_t .$$

    $O(d^2T)$ per sequence. No mass underflows for good: where that could matter, the filter runs again in scaled numbers
    (`kernels/scaled.py`), which takes longer. Differentiable and traceable: inside `jit` an impossible token cannot raise;
    it is stepped over ($\pi_{t+1}=A^\top\pi_t$) and makes the log-likelihood −∞.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` for
    tokens that are not codes of the model.
    """
    z = as_codes(hmm, data)
    lengths = np.asarray(data.lengths) if isinstance(data, Sequences) else None
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    if (mesh := mesh_of(data)) is not None and not is_traced(hmm.arrays):
        found = filtered_over(mesh, filter_traced, hmm.arrays, np.asarray(z), on_impossible)
        return FilteredTokens(model=hmm, lengths=lengths, **found)
    filtered = filter_codes(hmm, z, lengths)
    if on_impossible == "raise" and isinstance(filtered.log_q, np.ndarray):
        raise_if_impossible(filtered.log_q, z)
    return filtered


def filter_codes(hmm: Any, z: Int[Array | np.ndarray, "T *batch"], lengths: np.ndarray | None) -> FilteredTokens:
    """`filter_tokens` for checked codes, time first; an impossible one is stepped over.

    **Arguments:** `hmm`, anything with the `arrays` of a hidden Markov model.
    """
    arrays, d = hmm.arrays, hmm.arrays[0].shape[0]
    if isinstance(z, Tracer) or any(isinstance(a, Tracer) for a in jax.tree.leaves(arrays)):
        states, log_q, lost = filter_traced(*arrays, jnp.asarray(z))
        tokens = jnp.where(jnp.isfinite(log_q), z, -1)
        return FilteredTokens(model=hmm, tokens=tokens, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)
    states: Any
    log_q: Any
    states, log_q = (filter_possible if is_small_product(z, d) else filter_checked)(*arrays, z)
    # NumPy reads arrays on a CPU in place, and finds their smallest number faster than another compiled function
    here = np.asarray if next(iter(states.devices())).platform == "cpu" else jnp.asarray
    respected, lost = bool(Limits.of(states.dtype).respected(here(states), here(log_q))), False
    if not respected:
        if not np.isfinite(log_q).all():
            states, log_q = filter_checked(*arrays, z)
        lost = bool(may_have_lost_mass(*arrays[1:], z, states, log_q))
    if lost:
        exact, log_q = filter_scaled(*arrays, jnp.asarray(z))
        states = exact.linear
    log_q = np.asarray(log_q)
    if not respected and not np.isfinite(log_q).all():
        z = np.where(np.isfinite(log_q), z, -1)
    return FilteredTokens(model=hmm, tokens=z, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)


def score_tokens(hmm: HiddenMarkovModel, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every token of a data set; with `on_impossible="skip"` an impossible one scores −∞.

    **Raises:** as `filter_tokens`.
    """
    return scored(hmm, data, filter_tokens, on_impossible)
