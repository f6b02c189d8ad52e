"""Hidden Markov models: a chain that is not seen, and the tokens or numbers it emits."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..data.convert import string_of
from ..data.vocabulary import Vocabulary
from ..maths.keys import as_key
from ..maths.precision import in_one_precision
from .emissions.base import AbstractEmission
from .emissions.base import from_config as emission_from_config
from .emissions.counts import Categorical
from .transitions import OrderKTransition, as_transition, cumulative, draw


class HiddenMarkovModel(eqx.Module):
    r"""A chain $X_0,X_1,\dots$ on $d$ states that is not seen, and what it emits, tokens or numbers $Z_0,Z_1,\dots$:

    $$X_0\sim\mu,\qquad P(X_{t+1}=j\mid X_t=i)=A(i,j),\qquad P(Z_t=z\mid X_t=x)=C(x,z)\ \text{or a density }p(z\mid x),$$

    with $Z_t$ and $X_{t+1}$ independent given $X_t$.

    **Arguments:**

    - `initial`: $\mu$, `[d]`.
    - `transition`: $A$, `[d d]`, or an `OrderKTransition` on tuples of states.
    - `emission`: $C$, `[d V]`, for tokens; or an emission of `sx.emissions` for series of $p$ channels (of a tuple of states, what
      its newest one emits). A `Categorical` by itself is a matrix $C$.
    - `vocabulary`: what the tokens stand for, if anything.
    - `channels`: the names of the channels of a series, and of the inputs behind them, if they have any.

    Rows must be probabilities to the square root of the precision; what rounding has left over is divided out. The
    arrays get one precision, the widest given; an entry below its smallest normal number counts as zero.

    **Raises:** `DataError` for a wrong shape, a negative or non-finite entry, or a row that does not sum to one.
    """

    initial: Float[Array, " d"]
    transition: Float[Array, "d d"] | OrderKTransition
    emission: Any  # [d V], or an emission of numbers
    vocabulary: Vocabulary | None = eqx.field(static=True)
    channels: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        initial: Any,
        transition: Any,
        emission: Any,
        vocabulary: Vocabulary | None = None,
        channels: Any = None,
    ):
        ordered = isinstance(transition, OrderKTransition)
        tensor = transition.tensor if ordered else transition
        emission = emission.probabilities if isinstance(emission, Categorical) else emission
        rows = [_rows("initial", initial, 1), _rows("transition", tensor, np.ndim(tensor) if ordered else 2)]
        if isinstance(emission, AbstractEmission):
            leaves, structure = jax.tree.flatten(emission)
            mu, A, *leaves = in_one_precision(*rows, *leaves)
            C = jax.tree.unflatten(structure, leaves)
        else:
            mu, A, C = in_one_precision(*rows, _rows("emission", emission, 2))
            C = _rescaled(C)
        mu, A = _rescaled(mu), _rescaled(A)
        self.initial, self.transition, self.emission = mu, OrderKTransition(A) if ordered else A, C
        self.vocabulary = vocabulary
        self.channels = None if channels is None else tuple(str(name) for name in channels)
        self._check_shapes()

    def _check_shapes(self) -> None:
        d, emits = len(self.initial), self.emits_tokens
        emitting = self.emission.shape[0] if emits else self.emission.n_states
        fits = emitting == (d if emits else as_transition(self.transition).n_base_states)
        if self.transition.shape != (d, d) or not fits:
            shapes = self.initial.shape, self.transition.shape, self.emission.shape if emits else (emitting, "…")
            raise DataError(f"The shapes {shapes} do not fit together; (d,), (d, d) and (d, V) do.")
        if self.vocabulary is not None and (not emits or len(self.vocabulary) != self.emission.shape[1]):
            raise DataError(
                f"The vocabulary has {len(self.vocabulary)} symbols, the emission matrix {self.n_tokens} columns."
            )
        if self.channels is not None and (emits or len(self.channels) != self.emission.n_columns):
            inputs = "" if emits or self.n_inputs == 0 else f" and {self.n_inputs} inputs"
            raise DataError(
                f"`channels` names {len(self.channels)} channels; "
                + ("a model of tokens has none." if emits else f"the emission has {self.n_channels}{inputs}.")
            )

    @property
    def emits_tokens(self) -> bool:
        """Whether the model emits tokens, by a matrix $C$; otherwise numbers, by an emission of `sx.emissions`."""
        return not isinstance(self.emission, AbstractEmission)

    @property
    def n_states(self) -> int:
        """$d$, the number of hidden states (of tuples, if the model has an order above one)."""
        return self.initial.shape[0]

    @property
    def n_tokens(self) -> int:
        """$V$, the number of tokens. **Raises:** `ConfigurationError` for a model that emits numbers."""
        return self.emission_matrix.shape[1]

    @property
    def n_channels(self) -> int:
        """$p$, the number of channels of what a model emits; a token is one."""
        return 1 if self.emits_tokens else self.emission.n_channels

    @property
    def n_inputs(self) -> int:
        """$q$, how many known inputs the emission reads: the last columns of data."""
        return 0 if self.emits_tokens else self.emission.n_inputs

    def known_inputs(self, inputs: Any, shape: tuple[int, ...], what: str) -> Float[Array, "*batch T q"]:
        """Inputs of times for which there are no data, `[T q]` or `[*batch T q]`, for `shape` `[*batch T]`.

        **Raises:** `ConfigurationError`, of `what` needs them, where none are given, or the emission reads none; `DataError` for another
        shape or a number that is not finite.
        """
        q = self.n_inputs
        if q == 0:
            raise ConfigurationError("inputs= is of models whose emission reads known inputs; this one reads none.")
        wanted = f"inputs=[{shape[-1]} {q}]"
        if inputs is None:
            names = "" if self.channels is None else f" ({', '.join(self.channels[-q:])})"
            raise ConfigurationError(f"{what} needs the known inputs of its times{names}: give {wanted}.")
        found = inputs if isinstance(inputs, Tracer) else np.asarray(inputs)
        found = found[..., None] if q == 1 and found.ndim == 1 else found
        if found.dtype.kind not in "iuf" or found.shape not in ((shape[-1], q), (*shape, q)):
            raise DataError(f"The inputs are {found.dtype}{list(found.shape)}, but {wanted} is needed.")
        if not isinstance(found, Tracer) and not np.isfinite(found).all():
            raise DataError("An input is not finite; a known input is a number at every time.")
        return jnp.broadcast_to(jnp.asarray(found, self.initial.dtype), (*shape, q))

    def check_channels(self, columns: tuple[str, ...] | None) -> None:
        """**Raises:** `DataError` if the columns of some data have other names than the channels."""
        if columns is not None and self.channels is not None and columns != self.channels:
            raise DataError(
                f"The data have the channels {', '.join(columns)}, and the model was fitted to {', '.join(self.channels)}; "
                "give these, in this order."
            )

    @property
    def emission_matrix(self) -> Float[Array, "d V"]:
        """$C$. **Raises:** `ConfigurationError` for a model that emits numbers."""
        if not self.emits_tokens:
            raise ConfigurationError(
                f"This model emits numbers ({type(self.emission).__name__}), and a model of tokens is needed here."
            )
        return self.emission

    @property
    def arrays(self):
        r"""$(\mu,A,C)$, as kernels take them. **Raises:** `ConfigurationError` for a model that emits numbers."""
        return self.initial, self.transition, self.emission_matrix

    @property
    def parameters(self):
        r"""$\mu$, $A$ and the matrix $C$ or the emission."""
        return self.initial, self.transition, self.emission

    @property
    def dense_transition(self) -> Float[Array, "d d"]:
        """$A$ as a matrix, also for a model on tuples of states."""
        return as_transition(self.transition).dense()

    def kernels(self, tokens: Any) -> Float[Array, "T d d"]:
        r"""$K_t=A$ for every token: the case of `AbstractConditionalHMM` whose transitions read nothing. **Raises:** `DataError`."""
        tokens = string_of(tokens, self.n_tokens, self.vocabulary)
        return jnp.broadcast_to(self.dense_transition, (len(tokens), *self.transition.shape))

    def sample(self, key, length: int, inputs: Any = None) -> tuple[Int[Array, " T"], Array]:
        """`(states, observations)`: tokens `[T]` or numbers `[T p]`, of which number `t` is emitted by `states[t]`. Of an emission that
        reads them the `inputs` `[T q]` are needed, and stand behind the numbers, as data have them. Pure; runs inside `jit` and `vmap`."""
        if self.n_inputs or inputs is not None:
            u = self.known_inputs(inputs, (length,), f"A sample of {length} observations")
            return _sample_given(*self.parameters, as_key(key), u)
        if self.emits_tokens:
            return _sample(*self.arrays, as_key(key), length)
        return _sample_numbers(*self.parameters, as_key(key), length)

    def stationary(self) -> Float[Array, " d"]:
        r"""The distribution $\pi=\pi A$ that the chain keeps; also defined for a periodic chain.

        **Raises:** `DataError` if there are several (the chain has more than one closed class of states).
        """
        A = np.asarray(self.dense_transition, dtype=np.float64)
        return jnp.asarray(stationary_distribution(A), dtype=self.initial.dtype)

    def started(self, initial: str | Any) -> "HiddenMarkovModel":
        """The same model with another distribution of $X_0$: `"stationary"`, `"uniform"` or an array `[d]`."""
        if isinstance(initial, str):
            if initial not in ("stationary", "uniform"):
                raise ConfigurationError(f"Unknown initial={initial!r}; use 'stationary', 'uniform' or an array.")
            uniform = jnp.full_like(self.initial, 1 / self.n_states)
            initial = self.stationary() if initial == "stationary" else uniform
        return HiddenMarkovModel(initial, self.transition, self.emission, self.vocabulary, self.channels)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays."""
        symbols = None if self.vocabulary is None else list(self.vocabulary.symbols)
        config = {"order": as_transition(self.transition).order, "vocabulary": symbols}
        if self.emits_tokens:
            return config
        named = {} if self.channels is None else {"channels": list(self.channels)}
        return config | {"emission": self.emission.to_config()} | named

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, Any]) -> "HiddenMarkovModel":
        """The model of `HiddenMarkovModel.to_config` and its named arrays."""
        symbols = config["vocabulary"]
        dense = "transition" in arrays
        transition = arrays["transition"] if dense else OrderKTransition(jnp.asarray(arrays["transition.tensor"]))
        vocabulary = None if symbols is None else Vocabulary(tuple(symbols))
        numbers = "emission" in config
        emission = emission_from_config(config["emission"], arrays) if numbers else arrays["emission"]
        return cls(arrays["initial"], transition, emission, vocabulary, config.get("channels"))


@functools.partial(jax.jit, static_argnames="length")
def _sample(mu, A, C, key, length: int):
    u = jax.random.uniform(key, (2 * length + 1,), C.dtype)
    emitted, transition = cumulative(C), as_transition(A)

    def step(x, u):
        return transition.successor(x, u[0]), (x, draw(emitted[x], u[1]))

    return jax.lax.scan(step, draw(cumulative(mu), u[0]), u[1:].reshape(length, 2))[1]


@functools.partial(jax.jit, static_argnames="length")
def _sample_numbers(mu, A, emission, key, length: int):
    moves, emitted = jax.random.split(key)
    states = _path(mu, A, moves, length)
    return states, emission.sample(emitted, states % as_transition(A).n_base_states)


@jax.jit
def _sample_given(mu, A, emission, key, inputs: Float[Array, "T q"]):
    moves, emitted = jax.random.split(key)
    states = _path(mu, A, moves, len(inputs))
    z = emission.sample_given(emitted, states % as_transition(A).n_base_states, inputs)
    return states, jnp.concatenate([z, inputs], -1)


def _path(mu, A, key, length: int) -> Int[Array, " T"]:
    """States of the chain."""
    u = jax.random.uniform(key, (length + 1,), mu.dtype)
    transition = as_transition(A)
    step = lambda x, u: (transition.successor(x, u), x)
    return jax.lax.scan(step, draw(cumulative(mu), u[0]), u[1:])[1]


def stationary_distribution(A: Float[np.ndarray, "d d"]) -> Float[np.ndarray, " d"]:
    r"""The distribution $\pi=\pi A$ of a row-stochastic matrix, by state reduction (the GTH algorithm, [GrassmannTaksarHeyman1985]):
    without subtractions, so that the smallest probability has as many digits as the largest.

    **Raises:** `DataError` if there are several.
    """
    from scipy.sparse.csgraph import connected_components

    n_classes, of = connected_components(A > 0, directed=True, connection="strong")
    leaves = np.zeros(n_classes, bool)
    rows, columns = np.nonzero(A)
    leaves[of[rows[of[rows] != of[columns]]]] = True
    if leaves.sum() != n_classes - 1:
        raise DataError("The chain has more than one closed class of states, so no unique distribution is stationary.")
    closed = np.flatnonzero(of == np.argmin(leaves))
    P, n = np.array(A[np.ix_(closed, closed)], np.float64), len(closed)
    for k in range(n - 1, 0, -1):  # leave state k out: P becomes the chain watched in 0 … k-1
        P[:k, k] /= P[k, :k].sum()
        P[:k, :k] += np.outer(P[:k, k], P[k, :k])
    pi = np.ones(n)
    for k in range(1, n):
        pi[k] = pi[:k] @ P[:k, k]
        pi /= pi.max()
    out = np.zeros(len(A))
    out[closed] = pi / pi.sum()
    return out


def _rows(name: str, rows: Any, ndim: int) -> Array:
    """An array of rows that are probabilities to the square root of its own precision; traced values pass unchecked."""
    (rows,) = in_one_precision(rows, names=[name])
    if rows.ndim != ndim or 0 in rows.shape:
        raise DataError(f"`{name}` must be a non-empty array with {ndim} axes, but its shape is {rows.shape}.")
    if isinstance(rows, Tracer):
        return rows
    host = np.asarray(rows)
    if not np.isfinite(host).all() or (host < 0).any():
        raise DataError(f"`{name}` holds an entry that is negative or not finite; probabilities are needed.")
    sums = host.sum(-1, keepdims=True)
    off = np.abs(sums - 1)
    if off.max() > np.sqrt(np.finfo(host.dtype).eps):
        worst = np.unravel_index(off.argmax(), off.shape)[:-1]
        where = f"Row {tuple(map(int, worst))} of `{name}`" if ndim > 1 else f"`{name}`"
        raise DataError(f"{where} sums to {float(sums[(*worst, 0)]):.6g}, not to one; divide it by its sum.")
    return rows


def _rescaled(rows: Array) -> Array:
    """Rows divided by what rounding left over, entries below the smallest normal number as zeros."""
    if isinstance(rows, Tracer):
        return rows
    host, limits = np.asarray(rows), np.finfo(rows.dtype)
    sums = host.sum(-1, keepdims=True)
    rounding = np.abs(sums - 1) > 4 * host.shape[-1] * limits.eps
    return jnp.asarray(np.where(host < limits.tiny, 0, np.where(rounding, host / sums, host)))
