"""Square roots of covariance matrices, singular ones included.

On a CPU a *batched* factorisation of LAPACK waits for threads of the pool that XLA runs programs on: two of them side by side,
on two cores, wait for each other for ever. Here factorisations are never batched: a `vmap` takes them one by one, and
triangular systems and Cholesky factors are made of elementwise operations.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

one_by_one = jax.custom_batching.sequential_vmap
eigh = one_by_one(lambda S: tuple(jnp.linalg.eigh(S)))
orthogonal_triangular = one_by_one(lambda rows: tuple(jnp.linalg.qr(rows, mode="complete")))
_triangle = one_by_one(lambda rows: jnp.linalg.qr(rows, mode="r"))
_svd = one_by_one(lambda L: tuple(jnp.linalg.svd(L, full_matrices=False)))


@jax.custom_jvp
def square_root(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""The symmetric square root $B$ of a covariance, $S=BB^\top=B^\top B$; a singular $S$ is allowed.

    Eigenvalues that rounding made negative count as zero; directions without variance are taken to stay so in derivatives.
    """
    w, V = eigh(S)
    return (V * jnp.sqrt(jnp.maximum(w, 0.0))[None]) @ V.T


@square_root.defjvp
def _square_root_jvp(primals, tangents):
    r"""$\dot BB+B\dot B=\dot S$, in the basis of eigenvectors."""
    w, V = eigh(primals[0])
    root = jnp.sqrt(jnp.maximum(w, 0.0))
    total = root[:, None] + root[None]
    slope = jnp.where(total > 0, V.T @ symmetric(tangents[0]) @ V / jnp.where(total > 0, total, 1.0), 0.0)
    return (V * root[None]) @ V.T, V @ slope @ V.T


def symmetric(S: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    r"""The symmetric part $(S+S^\top)/2$."""
    return (S + jnp.swapaxes(S, -1, -2)) / 2


_UNROLLED, _UNROLLED_GENERAL = 32, 8  # rows up to which what follows is made of elementwise operations


def cholesky(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""Upper-triangular $L$ with $S=L^\top L$, row by row; not finite if there is none."""
    n = len(S)
    if n > _UNROLLED:
        return jnp.linalg.cholesky(S).T
    rows = []
    for i in range(n):
        rest = S[i] - sum(row[i] * row for row in rows)
        rows.append(jnp.where(jnp.arange(n) >= i, rest / jnp.sqrt(rest[i]), 0.0))
    return jnp.stack(rows)


def solve_upper(R: Float[Array, "*batch n n"], B: Float[Array, "*batch n c"], transposed: bool = False) -> Array:
    r"""$X$ with $RX=B$, or $R^\top X=B$, for upper-triangular $R$, by halves."""
    n = R.shape[-1]
    if n == 1:
        return B / R
    if n > _UNROLLED:
        return jax.scipy.linalg.solve_triangular(R, B, trans="T" if transposed else "N")
    h = n // 2
    above, corner, below = R[..., :h, :h], R[..., :h, h:], R[..., h:, h:]
    times = lambda M, X: jnp.sum(M[..., :, :, None] * X[..., None, :, :], -2)
    if transposed:
        first = solve_upper(above, B[..., :h, :], True)
        second = solve_upper(below, B[..., h:, :] - times(jnp.swapaxes(corner, -1, -2), first), True)
    else:
        second = solve_upper(below, B[..., h:, :])
        first = solve_upper(above, B[..., :h, :] - times(corner, second))
    return jnp.concatenate([first, second], axis=-2)


def solve(A: Shaped[Array, "n k k"], B: Shaped[Array, "n k c"]) -> Array:
    r"""$X_i$ with $A_iX_i=B_i$ for regular matrices, real or complex."""
    if A.shape[-1] <= _UNROLLED_GENERAL:
        return jax.vmap(_eliminated)(A, B)
    return jax.lax.map(lambda pair: jnp.linalg.solve(*pair), (A, B))


def _eliminated(A: Shaped[Array, "k k"], B: Shaped[Array, "k c"]) -> Array:
    """Gauss and Jordan's elimination with row pivots."""
    M, row = jnp.concatenate([A, B], axis=1), jnp.arange(len(A))
    for k in range(len(A)):
        pivot = jnp.argmax(jnp.where(row >= k, jnp.abs(M[:, k]), -1))
        here, there = M[k][None], M[pivot][None]
        M = jnp.where((row == pivot)[:, None], here, M)
        there = there / there[:, k, None]
        M = jnp.where((row == k)[:, None], there, M - M[:, k][:, None] * there)
    return M[:, len(A) :]


def by_size(rows: Float[Array, "r c"]) -> Float[Array, "r r"]:
    """The permutation that puts larger rows first; a sort by one product, much faster than XLA's on few rows."""
    size, index = jnp.abs(rows).max(axis=1), jnp.arange(len(rows))
    larger = (size[None] > size[:, None]) | ((size[None] == size[:, None]) & (index[None] < index[:, None]))
    return (larger.sum(axis=1)[None] == index[:, None]).astype(rows.dtype)


@jax.custom_jvp
def triangular(rows: Float[Array, "r c"]) -> Float[Array, "min c"]:
    r"""Upper-triangular $R$ with $R^\top R$ = `rows.T @ rows`, by Householder reflections.

    Larger rows come first, so that the error in what a row contributes is proportional to that row ([CoxHigham1998]): a
    variance of 1 survives beside one of 1e15. Derivatives exist at a singular matrix too, if the columns that depend on
    others come last and stay dependent; otherwise they are NaN.
    """
    return _triangle(by_size(rows) @ rows)


@triangular.defjvp
def _triangular_jvp(primals, tangents):
    r"""$\dot R=TR$ with $T$ the upper part of $R^{-\top}\dot SR^{-1}$ (half of its diagonal), $S=R^\top R$; a row of zeros
    stays zero."""
    (rows,), (change,) = primals, tangents
    R = triangular(rows)
    square = jnp.pad(R, ((0, R.shape[1] - R.shape[0]), (0, 0)))
    n, size = len(square), jnp.sqrt(jnp.sum(square**2, axis=0))
    least = 64 * n * jnp.finfo(R.dtype).eps * size
    full = jnp.abs(jnp.diagonal(square)) > least
    empty = jnp.all(jnp.abs(square) <= least[None], axis=1)
    regular = jnp.where(full[:, None], square, jnp.eye(n, dtype=R.dtype))
    product = rows.T @ change
    half = solve_upper(regular, product + product.T, transposed=True)
    M = solve_upper(regular, half.T, transposed=True)
    T = (jnp.triu(M, 1) + 0.5 * jnp.diag(jnp.diagonal(M))) * full[:, None]
    slope = jnp.where(jnp.all(full | empty), T @ regular, jnp.nan)
    return R, slope[: R.shape[0]]


@jax.custom_jvp
def solve_root(L: Float[Array, "n n"], B: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """The least-squares solution $X$ of $LX=B$, $L$ the upper-triangular root of a covariance that may be singular.

    Directions whose standard deviation is below $8n$ units of rounding, after scaling to unit variances, count as having
    none, and are taken to stay so in derivatives.
    """
    return _of_root(L, B)


def _of_root(L: Float[Array, "n n"], B: Float[Array, "n c"]) -> Float[Array, "n c"]:
    scale = jnp.sqrt(jnp.sum(L**2, axis=0))
    least = 8 * len(L) * jnp.finfo(L.dtype).eps

    def truncated(B):
        unit = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1.0), 0.0)
        u, w, vt = _svd(L * unit[None])
        present = w > least * w[0]
        inverse = jnp.where(present, 1 / jnp.where(present, w, 1.0), 0.0)
        return unit[:, None] * (vt.T @ (inverse[:, None] * (u.T @ B)))

    regular = jnp.all(jnp.abs(jnp.diagonal(L)) > 1e3 * least * scale)
    return jax.lax.cond(regular, lambda B: solve_upper(L, B), truncated, B)


@solve_root.defjvp
def _solve_root_jvp(primals, tangents):
    (L, B), (dL, dB) = primals, tangents
    X = solve_root(L, B)
    return X, _of_root(L, dB - dL @ X)


def pseudo_inverse(S: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The pseudo-inverse of a covariance, with its rank judged after scaling it to unit variances.

    Directions whose share of the variance is below $4n$ units of rounding count as having none.
    """
    scale = jnp.sqrt(jnp.diag(S))
    inverse_scale = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1.0), 0.0)
    unit = inverse_scale[:, None] * inverse_scale[None, :]
    w, V = eigh(S * unit)
    present = w > 4 * len(S) * jnp.finfo(S.dtype).eps * jnp.max(w)
    inverse = jnp.where(present, 1 / jnp.where(present, w, 1.0), 0.0)
    return ((V * inverse[None]) @ V.T) * unit
