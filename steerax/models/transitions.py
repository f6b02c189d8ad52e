r"""Transitions of hidden chains: a matrix, or the tensor of an order-k chain that acts as a matrix on tuples of states.

A model keeps a dense transition as a plain array, which kernels multiply with; `as_transition` gives either kind the
methods that learning, decoding and sampling need.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class AbstractTransition(eqx.Module):
    """A transition on `D` states (tuples of `order` states, each of `d` values) with free parameters `free`, whose rows
    are probabilities over the `d` next states."""

    @property
    @abc.abstractmethod
    def free(self) -> Float[Array, "..."]:
        """The free parameters: `[d d]`, or `[d … d d]` with `order + 1` axes."""

    @property
    @abc.abstractmethod
    def matrix(self) -> Any:
        """What stands in a model and in products: the array `[d d]`, or this object."""

    @abc.abstractmethod
    def with_free(self, free: Float[Array, "..."]) -> Any:
        """`matrix` of the same kind with other parameters."""

    @abc.abstractmethod
    def dense(self) -> Float[Array, "D D"]:
        """The matrix on tuples, written out."""

    @abc.abstractmethod
    def pair_counts(self, a: Float[Array, "*n D"], w: Float[Array, "*n D"]) -> Float[Array, "..."]:
        r"""$\sum_n a_n(i)\,w_n(j)$ for the pairs that the transition allows, in the shape of `free`."""

    @abc.abstractmethod
    def best_predecessor(
        self, score: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch D"], Int[Array, "*batch D"]]:
        r"""$\max_i(\mathrm{score}_i+\log A_{ij})$ and the maximising $i$, for every $j$."""

    @property
    def order(self) -> int:
        """k, the number of past states that the next one depends on."""
        return self.free.ndim - 1

    @property
    def n_base_states(self) -> int:
        """d, the number of values of one state of the tuple."""
        return self.free.shape[-1]

    def successor(self, x: Int[Array, ""], u: Float[Array, ""]) -> Int[Array, ""]:
        """The state after `x`, drawn with the uniform number `u`."""
        d = self.n_base_states
        rows = cumulative(self.free.reshape(-1, d))
        kept = rows.shape[0] // d  # a tuple forgets its oldest state
        return (x % kept) * d + draw(rows[x], u)

    def lifted_emission(self, C: Float[Array, "d V"]) -> Float[Array, "D V"]:
        """Emission rows of tuples: those of their newest state."""
        return jnp.tile(C, (self.n_base_states ** (self.order - 1), 1))


class DenseTransition(AbstractTransition):
    """A row-stochastic matrix `[d d]`."""

    A: Float[Array, "d d"]

    @property
    def free(self):
        return self.A

    @property
    def matrix(self):
        return self.A

    def with_free(self, free):
        return free

    def dense(self):
        return self.A

    def pair_counts(self, a, w):
        return a.reshape(-1, a.shape[-1]).T @ w.reshape(-1, w.shape[-1])

    def best_predecessor(self, score):
        joint = score[..., None] + _aligned(jnp.log(self.A), score.ndim + 1)
        return joint.max(-2), joint.argmax(-2)


class OrderKTransition(AbstractTransition):
    r"""The transition matrix of the tuple $(x_{t-k+1},\dots,x_t)$, never formed.

    `tensor[i_1, …, i_k, j]` is $P(X_{t+1}=j\mid X_{t-k+1..t}=i_1..i_k)$. On tuples, numbered row-major, the matrix has
    $d$ entries in each of its $d^k$ rows: $(i_1,\dots,i_k)\to(i_2,\dots,i_k,j)$. A product costs $O(d^{k+1})$, not
    $O(d^{2k})$: for a row vector $p$ and a column vector $y$, with $b$ standing for $(i_2,\dots,i_k)$,

    $$(pA)(b,j)=\sum_i p(i,b)\,\mathrm{tensor}(i,b,j),\qquad (Ay)(i,b)=\sum_j\mathrm{tensor}(i,b,j)\,y(b,j).$$

    It stands wherever a dense transition matrix does: `p @ A` (`p` of shape `[… d^k]`) and `A @ y` (`[d^k …]`).
    """

    tensor: Float[Array, "..."]

    @property
    def free(self):
        return self.tensor

    @property
    def matrix(self):
        return self

    def with_free(self, free):
        return OrderKTransition(free)

    def dense(self):
        return jnp.eye(self.shape[0], dtype=self.dtype) @ self

    def pair_counts(self, a, w):
        d, b, _ = self._cube.shape
        return jnp.einsum("nab,nbc->abc", a.reshape(-1, d, b), w.reshape(-1, b, d)).reshape(self.tensor.shape)

    def best_predecessor(self, score):
        d, b, _ = self._cube.shape
        joint = score.reshape(*score.shape[:-1], d, b)[..., None] + _aligned(jnp.log(self._cube), score.ndim + 2)
        oldest = joint.argmax(-3)
        middle = jnp.arange(b)[:, None]
        origin = oldest * b + jnp.broadcast_to(middle, oldest.shape[-2:])
        return joint.max(-3).reshape(score.shape), origin.reshape(score.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix on tuples."""
        n = self.n_base_states**self.order
        return n, n

    @property
    def dtype(self):
        return self.tensor.dtype

    @property
    def ndim(self) -> int:
        return 2

    @property
    def _cube(self) -> Float[Array, "d b d"]:
        """The tensor as `[i, b, j]`: oldest state, states in between, next state."""
        d = self.n_base_states
        return self.tensor.reshape(d, -1, d)

    def __rmatmul__(self, p):
        d, b, _ = self._cube.shape
        out = jnp.einsum("...ab,abc->...bc", p.reshape(*p.shape[:-1], d, b), self._cube)
        return out.reshape(p.shape)

    def __matmul__(self, y):
        d, b, _ = self._cube.shape
        out = jnp.einsum("abc,bc...->ab...", self._cube, y.reshape(b, d, *y.shape[1:]))
        return out.reshape(y.shape)


def as_transition(A: Float[Array, "d d"] | AbstractTransition) -> AbstractTransition:
    """The transition of a model with its methods."""
    return A if isinstance(A, AbstractTransition) else DenseTransition(A)


def cumulative(rows: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Cumulative probabilities whose last entry is exactly one, so that no entry of probability zero is ever drawn."""
    total = jnp.cumsum(rows, axis=-1)
    return total / total[..., -1:]


def draw(rows: Float[Array, "*batch n"], u: Float[Array, "..."]) -> Int[jax.Array, "*batch"]:
    """Index of the first cumulative probability above `u` in $[0,1)$."""
    return jnp.sum(rows <= u, axis=-1).astype(jnp.int32)


def _aligned(x: Array, ndim: int) -> Array:
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
