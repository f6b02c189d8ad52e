"""Conditionally Markov models: a hidden chain whose transitions and emissions read the tokens so far."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..data.convert import string_of
from ..data.vocabulary import Vocabulary
from ..maths.keys import as_key
from .transitions import cumulative, draw

Tokens = Int[Array | np.ndarray, " T"]


class AbstractConditionalHMM(eqx.Module):
    r"""A chain on $d$ hidden states, Markov given the tokens that it has emitted:

    $$X_0\sim\mu,\qquad P(Z_t=z\mid X_t=x,Z_{<t})=C_t(x,z),\qquad P(X_{t+1}=j\mid X_t=i,Z_{\le t})=K_t(i,j).$$

    The *kernels* $K_t$ and the emissions $C_t$ may read every token so far, so the tokens may have any memory: whatever the joint
    distribution of states and tokens is, the chain with its kernels $P(X_{t+1}=j\mid X_t=i,Z_{\le t})$ has the same distribution of
    tokens, the same filter and the same optimal control, on $d$ states. The plain chain is the case $K_t=A$.

    A subclass has the fields `initial` $\mu$ `[d]` and `emission` (`[d V]` unless it defines `emissions`) and defines `kernels`; every
    verb then takes it. It may say more, which saves time: `memory`, `reads_newest`, `kernel_at`, `emission_at`, `unseen`.

    −1 is a missing token: it says nothing of the states, and kernels are told that it is missing, so a gap is not summed over.
    """

    initial: eqx.AbstractVar[Float[Array, " d"]]
    emission: eqx.AbstractVar[Float[Array, "..."]]
    vocabulary: ClassVar[Vocabulary | None] = None

    @property
    def n_states(self) -> int:
        """$d$, the number of hidden states."""
        return self.initial.shape[0]

    @property
    def n_tokens(self) -> int:
        """$V$, the number of tokens."""
        return self.emission.shape[-1]

    @property
    def memory(self) -> int | None:
        """How many of the last tokens $K_t$ and $C_{t+1}$ read, wherever in time they stand; `None`: all of them."""
        return None

    @property
    def reads_newest(self) -> bool:
        """Whether $K_t$ reads the token $Z_t$ itself; if not, nothing needs to be known of the tokens that were not seen."""
        return True

    @property
    def emission_reads_tokens(self) -> bool:
        """Whether $C_t$ is another one after other tokens."""
        return type(self).emissions is not AbstractConditionalHMM.emissions

    @property
    def sums_gaps(self) -> bool:
        """Whether the steps at a missing token are those with the token summed over, so that forecasts need no simulation."""
        return False

    @abc.abstractmethod
    def kernels(self, tokens: Tokens) -> Float[Array, "T d d"]:
        r"""$K_0\dots K_{T-1}$: row `t` moves $X_t$ to $X_{t+1}$ and reads `tokens[:t+1]` only."""

    def codes(self, tokens: Any) -> Tokens:
        """One string of tokens as codes. **Raises:** `DataError` for what is none of this model."""
        return string_of(tokens, self.n_tokens, self.vocabulary)

    def emissions(self, tokens: Tokens | Any) -> Float[Array, "T1 d V"]:
        r"""$C_0\dots C_T$: row `t` emits $Z_t$ and reads `tokens[:t]` only."""
        tokens = self.codes(tokens)
        return jnp.broadcast_to(self.emission, (len(tokens) + 1, *self.emission.shape))

    def emitted(self, tokens: Tokens | Any) -> Float[Array, "T d"]:
        r"""$C_t(x,z_t)$ of every token, ones for a missing one."""
        tokens = self.codes(tokens)
        if not self.emission_reads_tokens:
            table = jnp.concatenate([jnp.ones((1, self.n_states), self.emission.dtype), self.emission.T])
            return table[jnp.asarray(tokens) + 1]
        chosen = jnp.maximum(jnp.asarray(tokens), 0)[:, None, None]
        column = jnp.take_along_axis(self.emissions(tokens)[:-1], chosen, -1)[..., 0]
        return jnp.where(jnp.asarray(tokens)[:, None] < 0, 1, column)

    def kernel_at(self, tokens: Tokens, t: Any) -> Float[Array, "d d"]:
        """$K_t$ alone."""
        return self.kernels(tokens)[t]

    def emission_at(self, tokens: Tokens, t: Any) -> Float[Array, "d V"]:
        """$C_t$ alone, `t` at most `T`."""
        return self.emissions(tokens)[t]

    def unseen(self, tokens: Tokens | Any) -> Float[Array, "T d d"]:
        r"""$\sum_{z\ne z_t}C_t(x,z)K_t^z(x,x')$, with $K_t^z$ the kernel if the token at $t$ had been $z$; zero for a missing one.

        $O(Vd^2)$ a token where `memory` is bounded: $V$ times `memory` calls of `kernels`, as tokens that far apart can be exchanged
        at once; without a bound $VT$ calls.
        """
        tokens = jnp.asarray(self.codes(tokens))
        here, emissions = tokens[:, None, None] >= 0, self.emissions(tokens)[:-1]
        if not self.reads_newest:
            return jnp.where(here, (1 - self.emitted(tokens))[..., None] * self.kernels(tokens), 0)
        T, times = len(tokens), jnp.arange(len(tokens))
        apart = max(1, T if self.memory is None else min(self.memory, T))

        def with_token(z):
            def at(first):
                places = times % apart == first
                return jnp.where(places[:, None, None], self.kernels(jnp.where(places, z, tokens)), 0)

            kernels = lax.map(at, jnp.arange(apart)).sum(0)
            other = here & (tokens != z)[:, None, None]
            return jnp.where(other, emissions[:, :, z, None] * kernels, 0)

        add = lambda total, z: (total + with_token(z), None)
        start = jnp.zeros((T, self.n_states, self.n_states), self.initial.dtype)
        return lax.scan(add, start, jnp.arange(self.n_tokens))[0]

    def sample(self, key, length: int) -> tuple[Int[Array, " T"], Int[Array, " T"]]:
        """`(states, tokens)`, each `[T]`: `tokens[t]` is emitted by `states[t]`. Pure; runs inside `jit` and `vmap`."""
        return _sample(self, as_key(key), length)


@eqx.filter_jit
def _sample(model: AbstractConditionalHMM, key, length: int):
    u = jax.random.uniform(key, (2 * length + 1,), model.initial.dtype)

    def step(carry, given):
        (x, tokens), (t, u) = carry, given
        z = draw(cumulative(model.emission_at(tokens, t)[x]), u[1])
        tokens = tokens.at[t].set(z)
        return (draw(cumulative(model.kernel_at(tokens, t)[x]), u[0]), tokens), x

    start = draw(cumulative(model.initial), u[0]), jnp.full(max(length, 1), -1, jnp.int32)
    (_, tokens), states = lax.scan(step, start, (jnp.arange(length), u[1:].reshape(length, 2)))
    return states, tokens[:length]
