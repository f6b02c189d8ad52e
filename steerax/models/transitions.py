r"""Transitions of hidden chains: a matrix, or the tensor of an order-k chain that acts as a matrix on tuples of states.

A model keeps a dense transition as a plain array, which kernels multiply with; `as_transition` gives either kind the
methods that learning, decoding and sampling need.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class OrderKTransition(eqx.Module):
    r"""The transition matrix of the tuple $(x_{t-k+1},\dots,x_t)$, never formed.

    `tensor[i_1, …, i_k, j]` is $P(X_{t+1}=j\mid X_{t-k+1..t}=i_1..i_k)$. On tuples, numbered row-major, the matrix has
    $d$ entries in each of its $d^k$ rows: $(i_1,\dots,i_k)\to(i_2,\dots,i_k,j)$. A product costs $O(d^{k+1})$, not
    $O(d^{2k})$: for a row vector $p$ and a column vector $y$, with $b$ standing for $(i_2,\dots,i_k)$,

    $$(pA)(b,j)=\sum_i p(i,b)\,\mathrm{tensor}(i,b,j),\qquad (Ay)(i,b)=\sum_j\mathrm{tensor}(i,b,j)\,y(b,j).$$

    It stands wherever a dense transition matrix does: `p @ A` (`p` of shape `[… d^k]`) and `A @ y` (`[d^k …]`).
    """

    tensor: Float[Array, "..."]

    @property
    def free(self) -> Float[Array, "..."]:
        """The free parameters, `[d … d d]` with `order + 1` axes: rows of probabilities over the `d` next states."""
        return self.tensor

    @property
    def matrix(self) -> Any:
        """What stands in a model and in products: this object, or the array `[d d]` of a dense transition."""
        return self

    def with_free(self, free: Float[Array, "..."]) -> Any:
        """`matrix` of the same kind with other parameters."""
        return OrderKTransition(free)

    @property
    def order(self) -> int:
        """$k$, the number of past states that the next one depends on."""
        return self.tensor.ndim - 1

    @property
    def n_base_states(self) -> int:
        """$d$, the number of values of one state of the tuple."""
        return self.tensor.shape[-1]

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
    def support(self) -> "OrderKTransition":
        """One where a transition is possible, zero elsewhere."""
        return type(self)((self.tensor > 0).astype(self.dtype))

    @property
    def cube(self) -> Float[Array, "d b d"]:
        """The tensor as `[i, b, j]`: oldest state, states in between, next state."""
        d = self.n_base_states
        return self.tensor.reshape(d, -1, d)

    def __rmatmul__(self, p):
        d, b, _ = self.cube.shape
        out = jnp.einsum("...ab,abc->...bc", p.reshape(*p.shape[:-1], d, b), self.cube)
        return out.reshape(p.shape)

    def __matmul__(self, y):
        d, b, _ = self.cube.shape
        out = jnp.einsum("abc,bc...->ab...", self.cube, y.reshape(b, d, *y.shape[1:]))
        return out.reshape(y.shape)

    def dense(self) -> Float[Array, "D D"]:
        """The matrix on the `D` tuples, written out."""
        return jnp.eye(self.shape[0], dtype=self.dtype) @ self

    def pair_counts(self, a: Float[Array, "*n D"], w: Float[Array, "*n D"]) -> Float[Array, "..."]:
        r"""$\sum_n a_n(i)\,w_n(j)$ for the pairs that the transition allows, in the shape of `free`."""
        d, b, _ = self.cube.shape
        return jnp.einsum("nab,nbc->abc", a.reshape(-1, d, b), w.reshape(-1, b, d)).reshape(self.tensor.shape)

    def best_predecessor(self, score: Float[Array, "*n D"]) -> tuple[Float[Array, "*n D"], Int[Array, "*n D"]]:
        r"""$\max_i(\mathrm{score}_i+\log A_{ij})$ and the maximising $i$, for every $j$."""
        d, b, _ = self.cube.shape
        log_cube = jnp.log(self.cube).reshape((1,) * (score.ndim - 1) + (d, b, d))
        joint = score.reshape(*score.shape[:-1], d, b)[..., None] + log_cube
        oldest = joint.argmax(-3)
        origin = oldest * b + jnp.broadcast_to(jnp.arange(b)[:, None], oldest.shape)
        return joint.max(-3).reshape(score.shape), origin.reshape(score.shape)

    def successor(self, x: Int[Array, ""], u: Float[Array, ""]) -> Int[Array, ""]:
        """The state after `x`, drawn with the uniform number `u`."""
        d = self.n_base_states
        rows = cumulative(self.tensor.reshape(-1, d))
        kept = rows.shape[0] // d  # a tuple forgets its oldest state
        return (x % kept) * d + draw(rows[x], u)

    def lifted_emission(self, C: Float[Array, "d V"]) -> Float[Array, "D V"]:
        """Emission rows of tuples: those of their newest state."""
        return jnp.tile(C, (self.n_base_states ** (self.order - 1), 1))


class _DenseTransition(OrderKTransition):
    """A row-stochastic matrix `[d d]`, the case $k=1$, which stays a plain array in models."""

    @property
    def matrix(self):
        return self.tensor

    def with_free(self, free):
        return free

    def dense(self):
        return self.tensor

    def pair_counts(self, a, w):
        return a.reshape(-1, a.shape[-1]).T @ w.reshape(-1, w.shape[-1])


def as_transition(A: Float[Array, "d d"] | OrderKTransition) -> OrderKTransition:
    """The transition of a model with its methods."""
    return A if isinstance(A, OrderKTransition) else _DenseTransition(A)


def cumulative(rows: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Cumulative probabilities whose last entry is exactly one, so that no entry of probability zero is ever drawn."""
    total = jnp.cumsum(rows, axis=-1)
    return total / total[..., -1:]


def draw(rows: Float[Array, "*batch n"], u: Float[Array, "..."]) -> Int[jax.Array, "*batch"]:
    """Index of the first cumulative probability above `u` in $[0,1)$."""
    return jnp.sum(rows <= u, axis=-1).astype(jnp.int32)
