r"""Toy controlled velocity fields: small, smooth, with the structure of a residual layer.

A field $F(X;\theta)$ moves the tokens $X\in\mathbb R^{n\times D}$ of one sequence; the control $\theta\in\mathbb R^p$
is one flat vector, so that costates, Hamiltonians and optimal controls of toys stay short. Tokens interact only
through their empirical distribution (and, if causal, their order). Real checkpoints are the business of `refinement.py`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class TransformerField(eqx.Module):
    r"""One head of attention and one hidden layer, smooth in state and control.

    $F(X;\theta)_i=V\sum_j\mathrm{softmax}_j(\hat x_i^\top B\hat x_j/\sqrt D)\,\hat x_j+W_2\tanh(W_1\hat x_i+b)$, with
    $\hat x=\mathrm{LN}(x)$ (no affine part; epsilon as given) if `normalise`, else $\hat x=x$; $j\le i$ if `causal`;
    $\theta=(B,V,W_1,b,W_2)$ flattened.

    **Attributes:** `width` $D$, `hidden` neurons, `causal`, `normalise`, `epsilon` of the normalisation (large values
    keep the field gently curved near the origin).
    """

    width: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)
    causal: bool = eqx.field(static=True, default=True)
    normalise: bool = eqx.field(static=True, default=False)
    epsilon: float = eqx.field(static=True, default=1e-2)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of $B,V,W_1,b,W_2$."""
        D, m = self.width, self.hidden
        return (D, D), (D, D), (m, D), (m,), (D, m)

    @property
    def size(self) -> int:
        """Number $p$ of parameters."""
        return sum(int(np.prod(s)) for s in self.shapes)

    def unpack(self, theta: Float[Array, " p"]) -> list[Array]:
        """The matrices of a flat control."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1].tolist()
        return [part.reshape(s) for part, s in zip(jnp.split(theta, ends), self.shapes, strict=True)]

    def __call__(self, X: Float[Array, "n D"], theta: Float[Array, " p"]) -> Float[Array, "n D"]:
        B, V, W_1, b, W_2 = self.unpack(theta)
        n, D = X.shape
        Z = normalised(X, self.epsilon) if self.normalise else X
        scores = Z @ B @ Z.T / np.sqrt(D)
        if self.causal:
            scores = jnp.where(np.tri(n, dtype=bool), scores, -jnp.inf)
        attention = jax.nn.softmax(scores, axis=-1) @ Z @ V.T
        neurons = jnp.tanh(Z @ W_1.T + jnp.broadcast_to(b, (n, self.hidden)))
        return attention + neurons @ W_2.T


class LinearField(eqx.Module):
    r"""$F(X;\theta)_i=Ax_i+\theta$: linear dynamics with an additive control, the state equation of an LQ problem."""

    A: Float[Array, "D D"]

    @property
    def size(self) -> int:
        """Number $p=D$ of parameters."""
        return self.A.shape[0]

    def __call__(self, X: Float[Array, "n D"], theta: Float[Array, " D"]) -> Float[Array, "n D"]:
        return X @ self.A.T + jnp.broadcast_to(theta, X.shape)


Field = TransformerField | LinearField


def normalised(X: Float[Array, "n D"], epsilon: float) -> Float[Array, "n D"]:
    r"""$(x-\bar x)/\sqrt{\mathrm{var}(x)+\epsilon}$, token by token."""
    centred = X - X.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
