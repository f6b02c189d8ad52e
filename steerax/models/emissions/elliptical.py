r"""Distances and moments of distributions with elliptical contours, of which any channel may be missing.

With $m$ and $S$ of a state and the channels $o$ that are seen, the distance is $\delta=e_o^\top S_{oo}^{-1}e_o$ for $e=z-m$. A
missing channel has, given the others, the mean $m+S_{\cdot o}S_{oo}^{-1}e_o$ and the covariance $S-S_{\cdot o}S_{oo}^{-1}S_{o\cdot}$.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ...maths.covariance import cholesky, solve_upper, symmetric
from .base import Prior

Structure = Literal["full", "diagonal", "tied", "spherical"]
STRUCTURES = get_args(Structure)
_FEW_CHANNELS = 8  # up to which products over channels are written out
_BATCH = 4096  # observations with gaps worked through at once


class Moments(NamedTuple):
    r"""Sums over observations with weights $w$ and scales $u$: `count` $\sum w$ and `weight` $\sum wu$ of each channel, `first`
    $\sum wu\,e$, `second` $\sum w(u\,ee^\top+\mathrm{cov})$, about the means that were used."""

    count: Float[Array, "d p"]
    weight: Float[Array, "d p"]
    first: Float[Array, "d p"]
    second: Float[Array, "d p p"]


def has_independent_channels(structure: Structure) -> bool:
    """Whether matrices of this structure are diagonal."""
    return structure in ("diagonal", "spherical")


def distances(
    z: Float[Array, "N p"], mean: Float[Array, "d p"], S: Float[Array, "d p p"], structure: Structure
) -> tuple[Float[Array, "N d"], Float[Array, "N d"]]:
    r"""$\delta$ and $\log|S_{oo}|$ for every observation and state."""
    seen = ~jnp.isnan(z)
    if has_independent_channels(structure):
        v = jnp.diagonal(S, axis1=-2, axis2=-1)
        return _squares(_deviations(z, mean), 1 / jnp.sqrt(v)), seen.astype(z.dtype) @ jnp.log(v).T

    def complete():
        L = jax.vmap(cholesky)(S)
        log_det = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
        any_seen = seen.any(-1)[:, None]
        return _distance(_deviations(z, mean), inverse_roots(L)), jnp.where(any_seen, log_det[None], 0)

    def with_gaps():
        one = lambda x: jax.vmap(seen_part, (0, 0, None))(S, x[0][None] - mean, x[1])[:2]
        return lax.map(one, (jnp.where(seen, z, 0), seen), batch_size=_BATCH)

    return lax.cond(has_gaps(seen), with_gaps, complete)


def moments(
    weights: Float[Array, "N d"],
    scales: Float[Array, "N d"] | None,
    z: Float[Array, "N p"],
    mean: Float[Array, "d p"],
    S: Float[Array, "d p p"],
    structure: Structure,
) -> Moments:
    """The sums that a new mean and matrix are made of; `scales` of `None` are ones."""
    seen, p = ~jnp.isnan(z), z.shape[1]
    w = jnp.where(seen.any(-1)[:, None], weights, 0)
    wu = w if scales is None else w * scales
    if has_independent_channels(structure):
        inside, e = seen.astype(z.dtype), _deviations(z, mean)
        first = jnp.stack([(wu * part).sum(0) for part in e], axis=-1)
        second = jnp.stack([(wu * part**2).sum(0) for part in e], axis=-1)
        return Moments(w.T @ inside, wu.T @ inside, first, jax.vmap(jnp.diag)(second))
    sums = [jnp.broadcast_to(a.sum(0)[:, None], (mean.shape[0], p)) for a in (w, wu)]

    def complete():
        return _weighted(wu, _deviations(z, mean))

    def with_gaps():
        def one(x):
            e, seen, w, wu = x
            _, _, filled, C = jax.vmap(seen_part, (0, 0, None))(S, e[None] - mean, seen)
            return wu[:, None] * filled, wu[:, None, None] * filled[:, :, None] * filled[:, None] + w[:, None, None] * C

        size = min(_BATCH, len(z))
        padded = [
            jnp.pad(a, ((0, -len(z) % size), *[(0, 0)] * (a.ndim - 1))) for a in (jnp.where(seen, z, 0), seen, w, wu)
        ]
        parts = tuple(a.reshape(-1, size, *a.shape[1:]) for a in padded)
        add = lambda total, part: (jax.tree.map(lambda t, s: t + s.sum(0), total, jax.vmap(one)(part)), None)
        return lax.scan(add, (jnp.zeros_like(mean), jnp.zeros_like(S)), parts)[0]

    return Moments(*sums, *lax.cond(has_gaps(seen), with_gaps, complete))


def translated(found: Moments, shift: Float[Array, "d p"], structure: Structure) -> Moments:
    r"""The same moments about means that lie lower by `shift` $s$: with $e+s$ in place of $e$, and $W=\sum wu$,
    $\sum wu(e+s)=\sum wue+Ws$ and $\sum wu(e+s)(e+s)^\top=\sum wuee^\top+\sum wue\,s^\top+s\sum wue^\top+Wss^\top$."""
    moved = found.weight * shift
    cross = found.first[:, :, None] * shift[:, None]
    second = found.second + cross + cross.swapaxes(1, 2) + moved[:, :, None] * shift[:, None]
    if has_independent_channels(structure):  # where each channel has a weight of its own
        second = second * jnp.eye(second.shape[-1], dtype=second.dtype)[None]
    return found._replace(first=found.first + moved, second=second)


def maximised(
    found: Moments, mean: Float[Array, "d p"], S: Float[Array, "d p p"], structure: Structure, prior: Prior
) -> tuple[Float[Array, "d p"], Float[Array, "d p p"]]:
    r"""The mean $m+\sum wue/\sum wu$ and the matrix $(\sum w\,ee^\top+w_0\Lambda)/(\sum w+w_0)$ about it, for a prior of weight
    $w_0$ and matrix $\Lambda$; states without weight keep theirs."""
    some = found.weight > 0
    shift = jnp.where(some, found.first / jnp.where(some, found.weight, 1), 0)
    scatter = symmetric(found.second - shift[:, :, None] * found.first[:, None])
    if has_independent_channels(structure):
        scatter = scatter * jnp.eye(scatter.shape[-1], dtype=scatter.dtype)[None]
    scatter, count = scatter + prior.weight * jnp.diag(prior.spread)[None], found.count + prior.weight
    if structure == "tied":
        # one matrix, hence one prior for all states
        scatter = (scatter.sum(0) - (len(S) - 1) * prior.weight * jnp.diag(prior.spread))[None]
        count = (count.sum(0) - (len(S) - 1) * prior.weight)[None]
    if structure == "spherical":
        total = jnp.trace(scatter, axis1=-2, axis2=-1)[:, None]
        scatter, count = jax.vmap(jnp.diag)(jnp.broadcast_to(total, count.shape)), count.sum(-1, keepdims=True)
    # channels of a diagonal matrix are counted by themselves; a full one counts all of them alike
    new = scatter / jnp.where(count > 0, count, 1)[:, :, None]
    return mean + shift, jnp.where((count > 0)[:, :, None], new, S)


def free_roots(S: Float[Array, "d p p"], structure: Structure) -> Float[Array, "..."]:
    r"""Numbers without bounds for the matrices: $L$ of $S=L^\top L$, upper-triangular, with logarithms on its diagonal, `[d p p]`, or
    `[1 p p]` of a matrix that all share; of diagonal ones the logarithms of deviations, `[d p]` or `[d 1]`."""
    if has_independent_channels(structure):
        logs = jnp.log(jnp.diagonal(S, axis1=-2, axis2=-1)) / 2
        return logs[:, :1] if structure == "spherical" else logs
    L = jax.vmap(cholesky)(S[:1] if structure == "tied" else S)
    return jnp.triu(L, 1) + jax.vmap(jnp.diag)(jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)))


def matrices_of(roots: Float[Array, "..."], shape: tuple[int, ...], structure: Structure) -> Float[Array, "d p p"]:
    """The matrices of these roots, for means of this shape."""
    if has_independent_channels(structure):
        return jax.vmap(jnp.diag)(jnp.broadcast_to(jnp.exp(2 * roots), shape))
    L = jnp.triu(roots, 1) + jax.vmap(jnp.diag)(jnp.exp(jnp.diagonal(roots, axis1=-2, axis2=-1)))
    S = symmetric(L.swapaxes(1, 2) @ L)
    return jnp.broadcast_to(S, (*shape, shape[1]))


def log_prior(S: Float[Array, "d p p"], structure: Structure, prior: Prior) -> Float[Array, ""]:
    r"""$-\frac{w_0}2\sum_x(\log|S_x|+\mathrm{tr}\,\Lambda S_x^{-1})$; one term for a matrix that all states share."""
    S = S[:1] if structure == "tied" else S
    L = jax.vmap(cholesky)(S)
    log_det = 2 * jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1)).sum()
    trace = (inverse_roots(L) ** 2 * prior.spread[None, :, None]).sum()
    return -prior.weight / 2 * (log_det + trace)


def n_matrix_parameters(d: int, p: int, structure: Structure) -> int:
    """Free parameters of the matrices."""
    return {"full": d * p * (p + 1) // 2, "tied": p * (p + 1) // 2, "diagonal": d * p, "spherical": d}[structure]


def inverse_roots(L: Float[Array, "d p p"]) -> Float[Array, "d p p"]:
    r"""$L^{-1}$ for upper-triangular $L$."""
    return jax.vmap(lambda R: solve_upper(R, jnp.eye(R.shape[0], dtype=R.dtype)))(L)


def _deviations(z: Float[Array, "N p"], mean: Float[Array, "d p"]) -> list[Float[Array, "N d"]]:
    """$z-m$ of every channel, zero where it is missing. One array a channel: the last axis of an array should be a long one."""
    return [jnp.where(jnp.isnan(z[:, c, None]), 0, z[:, c, None] - mean[None, :, c]) for c in range(z.shape[1])]


def _squares(e: list[Float[Array, "N d"]], factors: Float[Array, "d p"]) -> Float[Array, "N d"]:
    """Sums over channels of squares of multiples."""
    return sum(((part * factors[None, :, c]) ** 2 for c, part in enumerate(e)), jnp.zeros((), factors.dtype))


def _distance(e: list[Float[Array, "N d"]], M: Float[Array, "d p p"]) -> Float[Array, "N d"]:
    r"""$|M^\top e|^2$ for upper-triangular $M$."""
    p = len(e)
    if p > _FEW_CHANNELS:
        return (jnp.einsum("ndp,dpq->ndq", jnp.stack(e, axis=-1), M) ** 2).sum(-1)
    none = jnp.zeros((), M.dtype)
    along = (sum((e[c] * M[None, :, c, q] for c in range(q + 1)), none) for q in range(p))
    return sum((y**2 for y in along), none)


def _weighted(
    w: Float[Array, "N d"], e: list[Float[Array, "N d"]]
) -> tuple[Float[Array, "d p"], Float[Array, "d p p"]]:
    r"""$\sum we$ and $\sum w\,ee^\top$."""
    p = len(e)
    if p > _FEW_CHANNELS:
        stacked = jnp.stack(e, axis=-1)
        return jnp.einsum("nd,ndp->dp", w, stacked), jnp.einsum("ndp,ndq->dpq", w[..., None] * stacked, stacked)
    weighted = [w * part for part in e]
    upper = {(c, q): (weighted[c] * e[q]).sum(0) for c in range(p) for q in range(c, p)}
    second = [jnp.stack([upper[min(c, q), max(c, q)] for q in range(p)], axis=-1) for c in range(p)]
    return jnp.stack([part.sum(0) for part in weighted], axis=-1), jnp.stack(second, axis=-2)


def has_gaps(seen: Bool[Array, "N p"]) -> Bool[Array, ""]:
    return (seen.any(-1) & ~seen.all(-1)).any()


def seen_part(S: Float[Array, "p p"], e: Float[Array, " p"], seen: Bool[Array, " p"]):
    """Distance, log-determinant, deviation with missing channels filled in, and what is not known of them."""
    both = seen[:, None] & seen[None]
    L = cholesky(jnp.where(both, S, jnp.eye(len(S), dtype=S.dtype)))
    y = solve_upper(L, jnp.where(seen, e, 0)[:, None], transposed=True)[:, 0]
    G = solve_upper(L, jnp.where(seen[:, None], S, 0), transposed=True)  # [o p], with G.T @ G explained
    missing = ~seen
    filled = jnp.where(seen, e, G.T @ y)
    C = jnp.where(missing[:, None] & missing[None], S - G.T @ G, 0)
    log_det = 2 * jnp.where(seen, jnp.log(jnp.diagonal(L)), 0).sum()
    return (y**2).sum(), log_det, filled, C
