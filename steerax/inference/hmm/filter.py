"""The forward filter: the distribution of the hidden state and of the next token, given the tokens so far."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError, DataError, ImpossibleTokenError
from ..._results import RESULTS
from ...data.chunks import chunks
from ...data.scores import TokenScores
from ...data.sequences import Sequences, without_mask
from ...models.hmm import HiddenMarkovModel
from ..results import Filtered
from .kernels.recursions import (
    Limits,
    emission_table,
    filter_checked,
    filter_possible,
    is_small_product,
    may_have_lost_mass,
)
from .kernels.scaled import Scaled, filter_scaled, filter_traced, posterior_scaled

Tokens = Array | np.ndarray | Sequences


class FilteredTokens(Filtered):
    r"""`Filtered` for tokens: `predicted[t]` is $\pi_t$, the distribution of $X_t$ given $Z_{<t}$.

    **Attributes:** those of `Filtered`; `log_likelihood` is −∞ if a token was impossible; `tokens` `[T]` or `[T B]`, those
    that count (impossible ones that were stepped over are −1); `states`, `predicted` with time first; `log_q`, of every
    token, −∞ if it was impossible; `lost_mass`, whether the linear recursion would have lost mass for good.
    """

    model: HiddenMarkovModel
    tokens: Int[Array | np.ndarray, "T *batch"]
    states: Float[Array, "T1 *batch d"]
    log_q: Float[Array | np.ndarray, "T *batch"]
    lost_mass: Any  # bool, traced inside `jit`
    lengths: Int[np.ndarray, " batch"] | None = None

    def either(self, fast: Callable[[], Any], exact: Callable[[Scaled], Any]) -> Any:
        """`fast()`; where mass would underflow for good, what `exact` makes of the states as scaled numbers."""
        again = lambda: exact(filter_scaled(*self.model.arrays, jnp.asarray(self.tokens))[0])
        if isinstance(self.lost_mass, Tracer):
            return lax.cond(self.lost_mass, again, fast)
        return again() if self.lost_mass else fast()

    @property
    def predicted(self) -> Float[Array, "*batch T1 d"]:
        return batch_first(self.states)

    @property
    def filtered(self) -> Float[Array, "*batch T d"]:
        C, z = self.model.emission, jnp.asarray(self.tokens)

        def fast():
            joint = self.states[:-1] * emission_table(C)[z + 1]
            return joint / joint.sum(-1, keepdims=True)

        return batch_first(self.either(fast, lambda states: posterior_scaled(states, C, z).linear))

    @property
    def log_likelihood(self) -> Float[Array | np.ndarray, "*batch"]:
        total = self.log_q.sum(0)
        return np.asarray(total) if isinstance(self.log_q, np.ndarray) else total

    @property
    def log_likelihoods(self) -> Float[Array, "*batch T"]:
        log_q = jnp.asarray(self.log_q)
        return batch_first(jnp.where(jnp.isfinite(log_q), log_q, 0), 1)

    @property
    def result(self) -> RESULTS:
        total = self.log_likelihood
        if isinstance(total, np.ndarray):
            return RESULTS.successful if np.isfinite(total).all() else RESULTS.impossible_token
        return RESULTS.where(jnp.isfinite(total).all(), RESULTS.successful, RESULTS.impossible_token)

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
    arrays = hmm.arrays
    if isinstance(z, Tracer) or any(isinstance(a, Tracer) for a in jax.tree.leaves(arrays)):
        states, log_q, lost = filter_traced(*arrays, jnp.asarray(z))
        tokens = jnp.where(jnp.isfinite(log_q), z, -1)
        return FilteredTokens(model=hmm, tokens=tokens, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)
    states: Any
    log_q: Any
    states, log_q = (filter_possible if is_small_product(z, hmm.n_states) else filter_checked)(*arrays, z)
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
        if on_impossible == "raise":
            _raise_if_impossible(log_q, z)
        z = np.where(np.isfinite(log_q), z, -1)
    return FilteredTokens(model=hmm, tokens=z, states=states, log_q=log_q, lost_mass=lost, lengths=lengths)


def _raise_if_impossible(log_q, z) -> None:
    """Raise `ImpossibleTokenError` for the first token with `log q = -∞`; `log_q` and `z` are `[T]` or `[T B]`."""
    impossible = np.isneginf(log_q)
    if impossible.any():
        place = np.argwhere(impossible)[0]
        position, sequence = int(place[0]), int(place[1]) if len(place) > 1 else 0
        raise ImpossibleTokenError(sequence, position, int(np.asarray(z)[tuple(place)]))


def batch_first(x: Array, features: int = 2) -> Array:
    """`[T B …]` as `[B T …]`, where the last `features` axes (time among them) belong to one sequence."""
    return jnp.moveaxis(x, 0, -features) if x.ndim > features else x


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Raises `ConfigurationError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")


def as_codes(hmm: HiddenMarkovModel, data: Any) -> Int[Array | np.ndarray, "T ..."]:
    """Checked codes, time first: `[T]` for one sequence, `[T B]` for a `Sequences`; on the host unless traced.

    **Raises:** `DataError` for observations, a wrong rank, or a code outside −1 … V−1.
    """
    several = isinstance(data, Sequences)
    if several and hmm.vocabulary is not None:
        data = data.in_codes_of(hmm.vocabulary)
    values: Any = data.values if several else data
    if isinstance(values, Tracer):
        return _traced_codes(hmm, values, several)
    host = without_mask(values)
    if host.dtype.kind not in "iu" and (host.size or several):
        raise DataError(f"Tokens are integer codes, one per position; got an array {host.dtype}{list(host.shape)}.")
    if host.ndim > 1 and not several:
        raise DataError(f"Tokens of shape {host.shape} are several sequences; wrap them in `Sequences`.")
    host = host.astype(np.int32).T
    if host.size and (host.min() < -1 or host.max() >= hmm.n_tokens):
        at = np.argwhere((host < -1) | (host >= hmm.n_tokens))[0]
        where = f"position {at[0]}" + (f" of sequence {at[1]}" if len(at) > 1 else "")
        raise DataError(
            f"Token {host[tuple(at)]} at {where} is not a code of the model: codes are 0 … {hmm.n_tokens - 1}, "
            "and -1 for a missing token."
        )
    return host


def _traced_codes(hmm: HiddenMarkovModel, values: Array, several: bool) -> Int[Array, "T ..."]:
    """Codes inside `jit`: rank and type are known, and a code outside the model stops the compiled function."""
    if values.ndim != 1 + several or not jnp.issubdtype(values.dtype, jnp.integer):
        raise DataError(f"Tokens are integer codes, one per position; got an array {values.dtype}{list(values.shape)}.")
    outside = (values < -1) | (values >= hmm.n_tokens)
    message = f"A token is not a code of the model: codes are 0 … {hmm.n_tokens - 1}, and -1 for a missing token."
    return eqx.error_if(values, outside, message).T


def score_tokens(hmm: HiddenMarkovModel, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every token of a data set; with `on_impossible="skip"` an impossible one scores −∞.

    **Raises:** as `filter_tokens`.
    """
    data = data if hmm.vocabulary is None else data.in_codes_of(hmm.vocabulary)
    scores = np.zeros(data.values.shape)
    for part, rows in parts_of(data):
        filtered = _filter_part(hmm, part, rows, on_impossible)
        skipped = part.mask & (np.asarray(filtered.tokens).T < 0)
        scores[rows] = np.where(skipped, -np.inf, np.asarray(filtered.log_likelihoods))
    return TokenScores(scores, data.mask)


def parts_of(data: Sequences, size: int = 256):
    """`(sequences, their rows)`, at most `size` sequences at a time."""
    return ((Sequences(data.values[rows], data.lengths[rows]), rows) for rows in chunks(data.number, size))


def _filter_part(hmm: HiddenMarkovModel, part: Sequences, rows: slice, on_impossible: str) -> FilteredTokens:
    """The filter of some sequences; errors name the sequence in the whole data set."""
    try:
        return filter_tokens(hmm, part, on_impossible)
    except ImpossibleTokenError as error:
        raise ImpossibleTokenError(rows.start + error.sequence, error.position, error.token) from None
