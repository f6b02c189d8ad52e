"""The transition of an order-k chain, kept as a tensor while it acts as a matrix on tuples of states."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class OrderKTransition(eqx.Module):
    """The transition matrix of the tuple `(x_{t-k+1}, …, x_t)`, never formed.

    `tensor[i_1, …, i_k, j] = P(X_{t+1} = j | X_{t-k+1..t} = i_1..i_k)`. On tuples, numbered row-major, the matrix has
    `d` entries in each of its `d^k` rows: `(i_1, …, i_k) → (i_2, …, i_k, j)`. A product costs `O(d^{k+1})`, not
    `O(d^{2k})`: for a row vector `p` and a column vector `y`, with `b` standing for `(i_2, …, i_k)`,

        (p A)(b, j) = Σ_i p(i, b) tensor(i, b, j),        (A y)(i, b) = Σ_j tensor(i, b, j) y(b, j).

    It stands wherever a dense transition matrix does: `p @ A` (`p` of shape `[... d^k]`) and `A @ y` (`[d^k ...]`).
    """

    tensor: Float[Array, "..."]

    @property
    def order(self) -> int:
        """k, the number of past states that the next one depends on."""
        return self.tensor.ndim - 1

    @property
    def n_base_states(self) -> int:
        """d, the number of values of one state of the tuple."""
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
        """The matrix itself, `[d^k d^k]`: for small examples and for tests."""
        return jnp.eye(self.shape[0], dtype=self.dtype) @ self
