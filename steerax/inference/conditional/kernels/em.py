r"""Expectation-maximisation for chains whose transitions and emissions are mixtures over lags of tokens, on arrays.

The likelihood is multilinear in the rows, so expected counts are $\theta\odot\partial\ell/\partial\theta$. What a step reads is its
*context*, the tokens at its lags; contexts repeat, so kernels, counts and the share $r_{u,j}$ of each lag are those of the `U`
distinct ones. Rows become normalised counts. The weights of the lags maximise the concave

$$Q(b,a)=\sum_u\sum_jr_{u,j}\log\lambda_{u,j},\qquad\lambda_{u,j}\propto\exp(b_j+a_j[z_{t-j}]),$$

by steps of Newton's method that are cut until $Q$ grows, so no iteration lowers the likelihood.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ....models.lagged import LaggedHMM
from ....models.lags import is_blank, lag_weights, mixed
from ...hmm.kernels.counts import ExpectedCounts
from ...hmm.kernels.em import Iteration, Pseudocounts, log_prior_of_rows
from ...hmm.kernels.scaled import Scaled
from .recursions import advance, may_grow, may_have_lost_mass
from .scaled import advance as scaled_advance

_NEWTON_STEPS, _DIRECTION_STEPS, _CUTS = 2, 16, 12
_LONGEST = 4.0  # change of a score in one step


class Contexts(NamedTuple):
    """The distinct contexts of transitions `[U m]`, and of emissions with the token that follows `[W n+1]` (its last column), and
    which of them belongs to each step `[T B]`; `counted`, 1 where both ends of a transition belong to a sequence; `begun`, 1 for one
    that is not empty."""

    codes: Int[Array, "U m"]
    emitting: Int[Array, "W n1"]
    context: Int[Array, "T B"]
    emission: Int[Array, "T B"]
    counted: Float[Array, "T B"]
    begun: Float[Array, " B"]


class Counts(NamedTuple):
    """Expected counts under a model, and its log-likelihood; `shares` and `emission_shares`, of the lags in each context; `doubtful`,
    whether mass that later tokens could bring back may have underflowed."""

    initial: Float[Array, " d"]
    transition: Float[Array, "m V d d"]
    emission: Float[Array, "..."]
    shares: Float[Array, "U m"]
    emission_shares: Float[Array, "W n"]
    log_likelihood: Float[Array, ""]
    doubtful: Bool[Array, ""]


def contexts_of(z: Int[np.ndarray, "T B"], lengths: Int[np.ndarray, " B"], m: int, n: int, dtype: Any) -> Contexts:
    """The contexts of time-major tokens for `m` lags of the transition and `n` of the emission."""
    T, B = z.shape
    padded = np.concatenate([np.full((max(m, n + 1), B), -1, z.dtype), z])
    back = lambda j: padded[len(padded) - T - j : len(padded) - j]
    codes, context = _distinct(np.stack([back(j) for j in range(m)], -1))
    emitting, emission = _distinct(np.stack([*(back(j + 1) for j in range(n)), z], -1))
    counted = (np.arange(T)[:, None] + 1 < lengths).astype(dtype)
    begun = (lengths > 0).astype(dtype)
    return Contexts(*(jnp.asarray(a) for a in (codes, emitting, context, emission, counted, begun)))


def _distinct(rows: Int[np.ndarray, "T B k"]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows, and the number of the one at each place; rows without a place fill up to a power of two, so that few shapes are
    compiled."""
    found, place = np.unique(rows.reshape(-1, rows.shape[-1]), axis=0, return_inverse=True)
    none = np.full(((1 << (len(found) - 1).bit_length()) - len(found), rows.shape[-1]), -1, rows.dtype)
    found = np.concatenate([found, none])
    return found, place.reshape(rows.shape[:-1]).astype(np.int32)


class _Passes(NamedTuple):
    """What a forward and a backward pass find: expected numbers, of states at the start, of pairs of states in each context over the
    entries of its kernel, and of states in each emission context over the probability of its token; then as `Counts`."""

    first: Float[Array, " d"]
    pairs: Float[Array, "U d d"]
    hits: Float[Array, "W d"]
    log_likelihood: Float[Array, ""]
    doubtful: Bool[Array, ""]


@functools.partial(jax.jit, static_argnames="scaled")
def expected_counts(model: LaggedHMM, contexts: Contexts, scaled: bool = False) -> Counts:
    """Counts by one forward and one backward pass, normalised at each token; with `scaled` in numbers of which none underflows,
    several times slower."""
    codes, emitting = contexts.codes, contexts.emitting
    weights = lag_weights(codes, model.weights, model.attention)
    K = mixed(model.transition, codes, weights)
    c, emission_weights = _emitted(model, emitting)
    first, pairs, hits, *found = (_scaled if scaled else _linear)(model.initial, K, c, contexts)
    transition, shares = _spread(model.transition, codes, weights, pairs)
    emitted, emission_shares = _spread_emissions(model, emitting, emission_weights, hits)
    return Counts(first, transition, emitted, shares, emission_shares, *found)


def _linear(mu: Float[Array, " d"], K: Float[Array, "U d d"], c: Float[Array, "W d"], contexts: Contexts) -> _Passes:
    _, _, context, emission, counted, begun = contexts

    def forward(p, x):
        u, w = x
        after, log_q = advance(p, c[w], K[u])
        return after, (p, log_q)

    start = jnp.broadcast_to(mu, (context.shape[1], len(mu)))
    last, (states, log_q) = lax.scan(forward, start, (context, emission))

    def backward(carry, x):
        b, pairs, hits = carry  # b: likelihood of what follows, as a function of the state after this step
        p, log_q, u, w, n = x
        q = jnp.exp(log_q)[:, None]
        pairs = pairs.at[u].add(n[:, None, None] * (p * c[w] / q)[..., None] * b[:, None, :])
        ahead = jnp.sum(K[u] * b[:, None, :], -1) / q
        hits = hits.at[w].add(p * ahead)
        b = jnp.where(p > 0, c[w] * ahead, 0)  # of a state that cannot be there it has no bound
        return (b, pairs, hits), None

    carry = jnp.ones_like(start), jnp.zeros_like(K), jnp.zeros_like(c)
    (b, pairs, hits), _ = lax.scan(backward, carry, (states, log_q, context, emission, counted), reverse=True)

    def looked():
        at = lambda x: may_have_lost_mass(c[x[3]][None], K[x[2]][None], jnp.stack(x[:2]), x[4][None])
        ends = jnp.concatenate([states[1:], last[None]])
        return lax.map(at, (states, ends, context, emission, log_q)).any()

    doubtful = lax.cond(may_grow(c[emission].max(-1), log_q), looked, lambda: jnp.asarray(False))
    return _Passes(begun @ (start * b), pairs, hits, log_q.sum(), doubtful)


def _scaled(mu: Float[Array, " d"], K: Float[Array, "U d d"], c: Float[Array, "W d"], contexts: Contexts) -> _Passes:
    _, _, context, emission, counted, begun = contexts
    exact_K, exact_c = Scaled.of(K), Scaled.of(c)

    def forward(p, x):
        after, log_q = scaled_advance(p, exact_c[x[1]], exact_K[x[0]])
        return after, (p, log_q)

    start = Scaled.of(jnp.broadcast_to(mu, (context.shape[1], len(mu))))
    _, (states, log_q) = lax.scan(forward, start, (context, emission))

    def backward(carry, x):
        b, pairs, hits, _ = carry
        p, u, w, n = x
        moves = exact_K[u] * b.reshape(len(n), 1, -1)
        ahead, joint = moves.sum(-1), p * exact_c[w]
        both = joint.reshape(*joint.m.shape, 1) * moves
        total = both.reshape(len(n), -1).sum(-1, keepdims=True)
        pairs = pairs.at[u].add(n[:, None, None] * (both / total.reshape(-1, 1, 1)).linear)
        here = (joint * ahead / total).linear
        return (exact_c[w] * ahead / total, pairs, hits.at[w].add(here), here), None

    one = jnp.ones_like(states.m[0])
    carry = Scaled.of(one), jnp.zeros_like(K), jnp.zeros_like(c), one
    (_, pairs, hits, here), _ = lax.scan(backward, carry, (states, context, emission, counted), reverse=True)
    per = lambda number, p: jnp.where(p > 0, number / jnp.where(p > 0, p, 1), 0)
    return _Passes(begun @ here, per(pairs, K), per(hits, c), log_q.sum(), jnp.asarray(False))


def _emitted(model: LaggedHMM, emitting: Int[Array, "W n1"]) -> tuple[Float[Array, "W d"], Float[Array, "W n"]]:
    """The probability of the token of each emission context, ones where it is missing, and the weights of its lags."""
    before, z = emitting[:, :-1], emitting[:, -1]
    if not model.emission_reads_tokens:
        C, weights = model.emission.T[jnp.maximum(z, 0)], jnp.zeros((len(z), 0), model.emission.dtype)
    else:
        given: Any = model.emission_weights
        weights = lag_weights(before, given, model.emission_attention)
        tables = mixed(model.emission, before, weights)
        C = jnp.take_along_axis(tables, jnp.maximum(z, 0)[:, None, None], -1)[..., 0]
    return jnp.where(z[:, None] < 0, 1, C), weights


def _spread(
    tables: Float[Array, "m V *r"], codes: Int[Array, "U m"], weights: Float[Array, "U m"], slopes: Float[Array, "U *r"]
):
    """Counts `[m V …]` of the tables and shares `[U m]` of the lags, from the slopes of the log-likelihood by what was mixed."""
    V, flat = tables.shape[1], slopes.reshape(len(slopes), -1)
    blank = is_blank(codes, weights)[:, None]

    def of_lag(x):
        table, code, weight = x
        # the row of the token there, or all of them alike where `mixed` takes their mean
        chosen = jnp.where(blank, 1 / V, jax.nn.one_hot(code, V, dtype=tables.dtype))
        counts = ((chosen * weight[:, None]).T @ flat).reshape(table.shape) * table
        return counts, weight * jnp.sum(chosen * (flat @ table.reshape(V, -1).T), -1)

    counts, shares = lax.map(of_lag, (tables, codes.T, weights.T))
    return counts, shares.T


def _spread_emissions(
    model: LaggedHMM, emitting: Int[Array, "W n1"], weights: Float[Array, "W n"], hits: Float[Array, "W d"]
):
    before, z = emitting[:, :-1], emitting[:, -1]
    seen = jax.nn.one_hot(z, model.n_tokens, dtype=hits.dtype)
    if not model.emission_reads_tokens:
        return (hits.T @ seen) * model.emission, weights
    return _spread(model.emission, before, weights, hits[:, :, None] * seen[:, None, :])


@functools.partial(jax.jit, static_argnames="scaled")
def em_step(model: LaggedHMM, contexts: Contexts, pseudocounts: Pseudocounts, scaled: bool) -> Iteration:
    """One iteration; with `scaled` no mass can underflow. A state is lost if no token is expected of it."""
    counts = expected_counts(model, contexts, scaled)
    rows = model.initial, model.transition, model.emission
    of_states = jnp.moveaxis(counts.emission, -2, 0).reshape(model.n_states, -1).sum(-1)
    sums = counts.initial, counts.transition, counts.emission, counts.log_likelihood
    mass = jnp.isfinite(counts.log_likelihood).astype(model.initial.dtype)
    found = ExpectedCounts(*sums, mass, counts.doubtful)
    after = maximised(model, counts, contexts, pseudocounts).parameters
    return Iteration(after, found, log_prior_of_rows(rows, pseudocounts), of_states + pseudocounts.emission == 0)


def maximised(model: LaggedHMM, counts: Counts, contexts: Contexts, pseudocounts: Pseudocounts) -> LaggedHMM:
    """The M-step: normalised counts, and the weights of the lags by Newton's method; what is zero stays zero."""
    rows = lambda count, extra, before: _normalised(count + jnp.where(before > 0, extra, 0), before)
    w, a = _climbed(model.weights, model.attention, counts.shares, contexts.codes)
    new = {
        "initial": rows(counts.initial, pseudocounts.initial, model.initial),
        "transition": rows(counts.transition, pseudocounts.transition, model.transition),
        "emission": rows(counts.emission, pseudocounts.emission, model.emission),
        "weights": w,
        "attention": a,
    }
    if model.emission_reads_tokens:
        given: Any = model.emission_weights
        v, e = _climbed(given, model.emission_attention, counts.emission_shares, contexts.emitting[:, :-1])
        new |= {"emission_weights": v, "emission_attention": e}
    return replaced(model, new)


def replaced(model: LaggedHMM, arrays: dict[str, Any]) -> LaggedHMM:
    """The model with other arrays of the same shapes."""
    names = [name for name, value in arrays.items() if value is not None]
    return eqx.tree_at(lambda m: [getattr(m, name) for name in names], model, [arrays[name] for name in names])


def _normalised(counts: Float[Array, "*n k"], before: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), before)


def _climbed(
    w: Float[Array, " m"], a: Float[Array, "m V"] | None, shares: Float[Array, "U m"], codes: Int[Array, "U m"]
) -> tuple[Float[Array, " m"], Float[Array, "m V"] | None]:
    """Weights and scores of larger $Q$, by Newton's method with conjugate gradients; the step is halved until $Q$ does not fall."""
    positive = w > 0
    theta = jnp.log(jnp.where(positive, w, 1)), a

    def Q(theta):
        b, a = theta
        scale = jax.nn.softmax(jnp.where(positive, b, -jnp.inf))
        weights = lag_weights(codes, scale, a)
        return jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(weights > 0, weights, 1)), 0))

    def newton(theta, _):
        value, slope = jax.value_and_grad(Q)(theta)
        bend = lambda d: jax.tree.map(
            lambda x, y: -x + 1e-9 * shares.sum() * y, jax.jvp(jax.grad(Q), (theta,), (d,))[1], d
        )
        direction = jax.scipy.sparse.linalg.cg(bend, slope, maxiter=_DIRECTION_STEPS)[0]
        largest = jnp.max(jnp.stack([jnp.abs(d).max() for d in jax.tree.leaves(direction)]))
        direction = jax.tree.map(lambda d: d * jnp.minimum(1, _LONGEST / jnp.where(largest > 0, largest, 1)), direction)
        at = lambda size: jax.tree.map(lambda t, d: t + size * d, theta, direction)
        sizes = 0.5 ** jnp.arange(_CUTS, dtype=w.dtype)
        values = lax.map(lambda size: Q(at(size)), sizes)
        good = values >= value
        size = jnp.where(good.any(), sizes[jnp.argmax(good)], 0)
        return at(size), None

    (b, a), _ = lax.scan(newton, theta, None, length=_NEWTON_STEPS)
    return jax.nn.softmax(jnp.where(positive, b, -jnp.inf)), a
