r"""Attributions of one prediction to the observations before it, on arrays, for any model whose filter is a path of soft steps.

A step of evidence $(a,b)$ replaces the likelihood $\ell_t$ of an observation by $a\,\ell_t/q_t+b$, where $q_t$ is its predictive
probability under the filter: $(1,0)$ is the observation as it was seen, $(0,1)$ a missing one, and $(\alpha,1-\alpha)$ leaves the
belief at $\alpha$ times the one with the observation plus $1-\alpha$ times the one without it. So the scale of $\ell_t$ plays no part, and
densities will do. With $v(a,b)$ the prediction $\pi_TF$ after such evidence,

$$\text{integrated}_s=\int_0^1\Big(\frac{\partial v}{\partial a_s}-\frac{\partial v}{\partial b_s}\Big)(\alpha,1-\alpha)\,d\alpha,\qquad
\text{deletion}_s=v(1,0)-v(1-e_s,e_s)=-\frac{\partial v/\partial b_s}{\partial\log p/\partial b_s}(1,0),$$

the second because numerator and denominator of $v$ are linear in $b_s$. Integrated terms add up to $v(1,0)-v(0,1)$: the path is that of
Aumann and Shapley, [AumannShapley1974], along which [SundararajanTalyYan2017] integrate gradients.
"""

import abc
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_AT_ONCE = 2**22  # numbers of one kind that are held for several nodes or subsets together
_NODES = (16, 32, 64, 128, 256, 512)
_NODES_TRACED = 64  # where values are not known while the program is written


class AbstractSoftPath(eqx.Module):
    """The filter along one sequence as a function of the evidence of every step."""

    @abc.abstractmethod
    def states(self, a: Float[Array, " T"], b: Float[Array, " T"]) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
        r"""`(states [T+1 d], log of the mass [T] of every step)` under the evidence `(a, b)`."""

    @abc.abstractmethod
    def ahead(self, p: Float[Array, "T d"]) -> Float[Array, "T d"]:
        """$pA$, beliefs one missing step later."""

    @abc.abstractmethod
    def back(self, y: Float[Array, "d k"]) -> Float[Array, "d k"]:
        """$Ay$, functions of a belief one missing step earlier."""


class Asked(NamedTuple):
    """What is explained: the times `[q]`, the functions `F` of a belief, and which observations `[T]` are there."""

    times: Int[Array | np.ndarray, " q"]
    F: Float[Array, "d k"]
    observed: Bool[Array | np.ndarray, " T"]

    @property
    def known(self) -> Bool[Array, "q T"]:
        """Which observations each query looks back at."""
        past = jnp.arange(len(self.observed))[None] < jnp.asarray(self.times)[:, None]
        return jnp.asarray(self.observed)[None] & past


@jax.jit
def values(path: AbstractSoftPath, asked: Asked, masks: Bool[Array, "n T"]) -> Float[Array, "n q k"]:
    """The predictions from each subset of the observations, the others missing."""

    def one(mask):
        seen = jnp.where(asked.observed, mask, True).astype(asked.F.dtype)
        return path.states(seen, 1 - seen)[0][asked.times] @ asked.F

    return lax.map(one, masks, batch_size=_together(masks.shape[0], masks.shape[1] * asked.F.shape[0]))


@jax.jit
def ends(path: AbstractSoftPath, asked: Asked, states: Float[Array, "T1 d"]) -> tuple[Array, Array]:
    """The prediction from no observation `[q k]`, and what all of them, with the beliefs `states`, add to it."""
    blind = jnp.asarray(asked.observed, asked.F.dtype)
    prior = path.states(1 - blind, blind)[0][asked.times] @ asked.F
    return prior, states[asked.times] @ asked.F - prior


@jax.jit
def news(path: AbstractSoftPath, asked: Asked, states: Float[Array, "T1 d"]) -> Float[Array, "q T k"]:
    r"""$(\pi_{s+1}-\pi_sA)A^{q-s-1}F$: what each observation changed in the prediction when it arrived. $O(d^2kT+dkqT)$."""
    innovations = jnp.where(asked.observed[:, None], states[1:] - path.ahead(states[:-1]), 0)
    powers = lax.scan(lambda y, _: (path.back(y), y), asked.F, None, length=len(innovations))[1]
    steps = jnp.arange(len(innovations))

    def one(time):
        ahead = time - 1 - steps
        terms = jnp.einsum("td,tdk->tk", innovations, powers[jnp.maximum(ahead, 0)])
        return jnp.where(ahead[:, None] >= 0, terms, 0)

    return lax.map(one, asked.times)


@jax.jit
def deleted(path: AbstractSoftPath, asked: Asked) -> Float[Array, "q T k"]:
    """The prediction minus the one without each observation, by one backward pass per query and column. $O(d^2(k+1)T)$ a query."""
    (q, k), one = (len(asked.times), asked.F.shape[1]), jnp.ones(len(asked.observed), asked.F.dtype)

    def outputs(b):
        states, log_mass = path.states(one, b)
        total = jnp.concatenate([jnp.zeros(1, log_mass.dtype), jnp.cumsum(log_mass)])[asked.times]
        return jnp.concatenate([states[asked.times] @ asked.F, total[:, None]], 1)

    slopes = _jacobian(jax.vjp(outputs, jnp.zeros_like(one))[1], jnp.zeros((q, k + 1), one.dtype))[0]
    safe = jnp.where(asked.known, slopes[:, k], 1)
    return jnp.moveaxis(jnp.where(asked.known[:, None], -slopes[:, :k] / safe[:, None], 0), 1, 2)


def integrated(path: AbstractSoftPath, asked: Asked, total: Float[Array, "q k"], traced: bool) -> Any:
    """`(terms [q T k], whether they are exact to rounding)`, by Gauss–Legendre quadrature along the path.

    The number of nodes doubles until the terms change by less than the root of the precision, which leaves an error of about the
    precision (the integrand is analytic, so each doubling squares it), and add up to `total`. Inside `jit` it is fixed.
    """
    if traced:
        terms = _by_nodes(path, asked, _NODES_TRACED)
        return terms, _misses(terms, terms, total)[0] <= 1
    before = None
    for n in _NODES:
        terms = _by_nodes(path, asked, n)
        if before is not None and max(np.asarray(_misses(terms, before, total))) <= 1:
            return terms, True
        before = terms
    return before, False


@jax.jit
def _misses(
    terms: Float[Array, "q T k"], before: Float[Array, "q T k"], total: Float[Array, "q k"]
) -> Float[Array, "2"]:
    """By how much the terms miss their sum, and the terms before, in multiples of what is allowed."""
    scale, eps = jnp.maximum(jnp.abs(total).max(initial=0), 1), jnp.finfo(terms.dtype).eps
    gap, change = jnp.abs(terms.sum(1) - total).max(initial=0), jnp.abs(terms - before).max(initial=0)
    return jnp.stack([gap / (1e4 * eps * scale), change / (jnp.sqrt(eps) * scale)])


def _by_nodes(path: AbstractSoftPath, asked: Asked, n: int) -> Float[Array, "q T k"]:
    """The terms by `n` nodes, 16 of them in a compiled call: one program serves every number of nodes."""
    nodes, shares = np.polynomial.legendre.leggauss(n)
    rule = np.stack([nodes + 1, shares]) / 2
    parts = [_part(path, asked, *jnp.asarray(each, asked.F.dtype)) for each in np.split(rule, n // _NODES[0], axis=1)]
    return functools.reduce(jnp.add, parts)


@jax.jit
def _part(path: AbstractSoftPath, asked: Asked, nodes: Float[Array, " n"], shares: Float[Array, " n"]):
    """The sum of the slopes at some nodes, by their shares; as many at once as memory allows."""
    (q, k), T = (len(asked.times), asked.F.shape[1]), len(asked.observed)

    def slopes(alpha):
        a = jnp.full(T, alpha)
        pull = jax.vjp(lambda a, b: path.states(a, b)[0][asked.times] @ asked.F, a, 1 - a)[1]
        rising, falling = _jacobian(pull, jnp.zeros((q, k), asked.F.dtype))
        return rising - falling

    together = _together(len(nodes), T * (asked.F.shape[0] * (k + 4) + q * k))
    add = lambda sum_, x: (sum_ + jnp.tensordot(x[1], jax.vmap(slopes)(x[0]), 1), None)
    batches = nodes.reshape(-1, together), shares.reshape(-1, together)
    terms = lax.scan(add, jnp.zeros((q, k, T), asked.F.dtype), batches)[0]
    return jnp.moveaxis(jnp.where(asked.known[:, None], terms, 0), 1, 2)


def _jacobian(pull: Any, zero: Float[Array, "q k"]) -> tuple[Float[Array, "q k T"], ...]:
    """Rows of the Jacobian of outputs like `zero`, from the function that pulls a cotangent back: one query after the other."""
    columns = jnp.arange(zero.shape[1])
    return lax.map(lambda i: jax.vmap(lambda j: pull(zero.at[i, j].set(1)))(columns), jnp.arange(zero.shape[0]))


def _together(n: int, each: int) -> int:
    """The largest power of two that divides into `n` items of `each` numbers and fits the memory."""
    fits = max(1, min(n, _AT_ONCE // max(each, 1)))
    return 1 << (fits.bit_length() - 1)
