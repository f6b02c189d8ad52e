"""The filter of a conditionally Markov model: the state and the next token, given the tokens so far."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..._errors import ConfigurationError
from ..._results import is_traced
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.conditional import AbstractConditionalHMM
from ..hmm.kernels.recursions import Limits
from ..hmm.kernels.scaled import Scaled
from ..tokens import AbstractFilteredTokens, Tokens, as_codes, batch_first, check_choice, raise_if_impossible, scored
from .kernels.recursions import filter_linear, may_have_lost_mass
from .kernels.scaled import filter_scaled, filter_traced, posterior_scaled


class Steps(NamedTuple):
    """What a model makes of tokens, time first: `emitted` $C_t(x,z_t)$ `[T … d]`, ones where missing, and `kernels` `[T … d d]`."""

    emitted: Float[Array, "T *batch d"]
    kernels: Float[Array, "T *batch d d"]


@eqx.filter_jit
def steps_of(model: AbstractConditionalHMM, z: Any) -> Steps:
    """The steps along `[T]` or `[T B]` tokens."""
    return Steps(along(model.emitted, z), along(model.kernels, z))


def along(function: Any, z: Any) -> Array:
    """A function of one sequence, of each of the columns of `[T B]` tokens."""
    z = jnp.asarray(z)
    return function(z) if z.ndim == 1 else jax.vmap(function, in_axes=1, out_axes=1)(z)


class FilteredTokens(AbstractFilteredTokens):
    r"""What `filter_tokens` returns: `predicted[t]` is $\pi_t$, the distribution of $X_t$ given $Z_{<t}$; see
    `AbstractFilteredTokens`. Also `steps`, the kernels and emitted probabilities that were used, and `read`, the tokens as the model
    read them, time first: one that was impossible and stepped over is still read by later kernels."""

    model: AbstractConditionalHMM
    steps: Steps = eqx.field(kw_only=True)
    read: Int[Array | np.ndarray, "T *batch"] = eqx.field(kw_only=True)

    def exact_states(self) -> Scaled:
        return filter_scaled(self.model.initial, *self.steps)[0]

    @property
    def filtered(self) -> Float[Array, "*batch T d"]:
        c = self.steps.emitted

        def fast():
            joint = self.states[:-1] * c
            return joint / joint.sum(-1, keepdims=True)

        return batch_first(self.either(fast, lambda states: posterior_scaled(states, c).linear))

    @property
    def kernels(self) -> Float[Array, "*batch T d d"]:
        r"""$K_t$, the transition from $X_t$ to $X_{t+1}$ given the tokens up to $Z_t$."""
        return batch_first(self.steps.kernels, 3)

    @property
    def lag_weights(self) -> Float[Array, "*batch T m"]:
        r"""$\lambda_{t,j}$ of a model of lags, to be set beside the attention of a transformer.

        **Raises:** `ConfigurationError` for a model without lags.
        """
        weights = getattr(self.model, "lag_weights", None)
        if weights is None:
            raise ConfigurationError(f"A {type(self.model).__name__} has no weights of lags; see its kernels.")
        return batch_first(along(weights, self.read))

    def next_all(self) -> Float[Array, "*batch T1 V"]:
        r"""$p(Z_t=z\mid Z_{<t})=\pi_t^\top C_t(\cdot,z)$ for every $t=0\dots T$."""
        return batch_first(_next_all(self.model, self.states, self.read))


@eqx.filter_jit
def _next_all(model: AbstractConditionalHMM, states: Float[Array, "T1 *batch d"], z) -> Float[Array, "T1 *batch V"]:
    if not model.emission_reads_tokens:
        return states @ model.emission
    return jnp.sum(states[..., None] * along(model.emissions, z), -2)


def filter_tokens(model: AbstractConditionalHMM, data: Tokens, on_impossible: str = "raise") -> FilteredTokens:
    r"""The filter of a conditionally Markov model along one sequence `[T]` or a `Sequences`; −1 is a missing token.

    $$\pi_0=\mu,\qquad\pi_{t+1}=\frac{(\pi_t\odot C_t(\cdot,z_t))K_t}{q_t},\qquad q_t=\pi_t^\top C_t(\cdot,z_t),\qquad
    \log p(z)=\sum_t\log q_t .$$

    $O(d^2T)$ per sequence beside the kernels. A missing token says nothing of the state, and the model makes kernels without it: a
    gap is known to be one, not summed over. No mass underflows for good: where that could matter, the filter runs again in scaled
    numbers. Differentiable and traceable: inside `jit` an impossible token cannot raise; it is stepped over ($\pi_{t+1}=\pi_tK_t$)
    and makes the log-likelihood −∞.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` for
    tokens that are not codes of the model.
    """
    z = as_codes(model, data)
    lengths = np.asarray(data.lengths) if isinstance(data, Sequences) else None
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    steps, mu = steps_of(model, z), model.initial
    if is_traced(z, model):
        states, log_q, lost = filter_traced(mu, *steps)
        possible, tokens = jnp.isfinite(log_q), jnp.where(jnp.isfinite(log_q), z, -1)
    else:
        states, log_q = filter_linear(mu, *steps)
        respected = bool(Limits.of(states.dtype).respected(states, log_q))
        lost = not respected and bool(may_have_lost_mass(*steps, states, log_q))
        if lost:
            exact, log_q = filter_scaled(mu, *steps)
            states = exact.linear
        log_q = np.asarray(log_q)
        if on_impossible == "raise":
            raise_if_impossible(log_q, z)
        possible, tokens = np.isfinite(log_q), np.where(np.isfinite(log_q), z, -1)
    steps = steps._replace(emitted=jnp.where(possible[..., None], steps.emitted, 1))
    return FilteredTokens(
        model=model, tokens=tokens, states=states, log_q=log_q, lost_mass=lost, lengths=lengths, steps=steps, read=z
    )  # fmt: skip


def next_log_probabilities(model: AbstractConditionalHMM, z: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch V"]:
    """Logarithms of the distributions of the next token after every prefix. Impossible tokens are stepped over."""
    steps, mu = steps_of(model, z), model.initial
    states, _, lost = filter_traced(mu, *steps)
    C = along(model.emissions, z)
    at = lambda x: (x[0].reshape(*x[0].m.shape, 1) * Scaled.of(x[1])).sum(-2).log
    exact = lambda: lax.map(at, (filter_scaled(mu, *steps)[0], C))
    return lax.cond(lost, exact, lambda: jnp.log(jnp.sum(states[..., None] * C, -2)))


def score_tokens(model: AbstractConditionalHMM, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every token of a data set; with `on_impossible="skip"` an impossible one scores −∞.

    **Raises:** as `filter_tokens`.
    """
    return scored(model, data, filter_tokens, on_impossible)
