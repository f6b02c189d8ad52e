"""The recursions of models without negative entries in which no mass can underflow, on arrays; see `hmm/kernels/scaled.py`.

Several times slower than `recursions.py`, which is valid unless `may_have_lost_mass` says otherwise.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...hmm.kernels.recursions import Limits
from ...hmm.kernels.scaled import Scaled, add, choose, total_of
from .recursions import (
    filter_linear,
    may_have_lost_mass,
    next_probabilities,
    operator_table,
    other_operators,
    ranked,
    row_numbers,
)


def _moved(p: Scaled, M: Scaled) -> Scaled:
    """$pM$."""
    return (p.reshape(*p.m.shape, 1) * _ranked(M, p.m.ndim + 1)).sum(-2)


def _ranked(a: Scaled, ndim: int) -> Scaled:
    return Scaled(ranked(a.m, ndim), ranked(a.e, ndim))


def _weighed(p: Scaled, w: Float[Array, " d"]) -> Scaled:
    """$pw$, with an axis of length one."""
    return (p * _ranked(Scaled.of(w), p.m.ndim)).sum(-1, keepdims=True)


def _start(p0: Float[Array, " d"], z: Int[Array, "T *batch"]) -> Scaled:
    return Scaled.of(jnp.broadcast_to(p0, (*z.shape[1:], p0.shape[0])))


@jax.jit
def filter_scaled(p0, T, w, z: Int[Array, "T *batch"]) -> tuple[Scaled, Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])` as `filter_linear`."""
    table = Scaled.of(operator_table(T))

    def step(p, row):
        new, log_q = advance(p, table[row], table[0], w)
        return new, (p, jnp.where(row == 0, 0, log_q))

    last, (states, log_q) = lax.scan(step, _start(p0, z), row_numbers(z))
    return jax.tree.map(lambda s, l: jnp.concatenate([s, l[None]]), states, last), log_q


def advance(p: Scaled, M: Scaled, A: Scaled, w: Float[Array, " d"]) -> tuple[Scaled, Float[Array, "*batch"]]:
    """The belief after a token of operator `M`, and `log q`; an impossible token is stepped over with $A$."""
    after, ahead = _moved(p, M), _moved(p, A)
    q = _weighed(after, w)
    return choose(q.m > 0, after / q, ahead / _weighed(ahead, w)), q.log[..., 0]


@jax.jit
def filter_traced(
    p0, T, w, z: Int[Array, "T *batch"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"], Bool[Array, ""]]:
    """`(states, log q, whether mass would have been lost)`, decided while it runs: for use inside `jit` and `grad`."""
    states, log_q = filter_linear(p0, T, w, z)
    found = lax.stop_gradient((states, log_q))
    respected = Limits.of(states.dtype).respected(*found)
    lost = lax.cond(respected, lambda: jnp.asarray(False), lambda: may_have_lost_mass(p0, T, w, z, *found))

    def again():
        exact, log_q = filter_scaled(p0, T, w, z)
        return exact.linear, log_q

    return *lax.cond(lost, again, lambda: (states, log_q)), lost


@jax.jit
def next_log_probabilities(p0, T, w, z: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch V"]:
    """Logarithms of the distributions of the next token after every prefix. Impossible tokens are stepped over."""
    states, _, lost = filter_traced(p0, T, w, z)
    columns = Scaled.of(jnp.einsum("zij,j->iz", T, w))
    at = lambda p: (p.reshape(*p.m.shape, 1) * _ranked(columns, p.m.ndim + 1)).sum(-2).log
    exact = lambda: lax.map(at, filter_scaled(p0, T, w, z)[0])
    return lax.cond(lost, exact, lambda: jnp.log(next_probabilities(states, T, w)))


@jax.jit
def posterior_scaled(states: Scaled, T, w, z: Int[Array, "T *batch"]) -> Scaled:
    """The distribution of the state that emits, given its token too, `[T … d]`."""
    joint = states[:-1] * Scaled.of(operator_table(T) @ w)[row_numbers(z)]
    return joint / joint.sum(-1, keepdims=True)


@jax.jit
def gains_scaled(states: Scaled, T, w, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    """`gains` of `layers.py`."""
    table, others = Scaled.of(operator_table(T)), Scaled.of(other_operators(T))
    return lax.map(lambda x: gain(x[0], table[x[1]], others[x[1]], w), (states[:-1], row_numbers(z)))


def gain(rho: Scaled, M: Scaled, other: Scaled, w: Float[Array, " d"]) -> Float[Array, "*n d"]:
    """`gain` of `layers.py`."""
    seen, unseen = _moved(rho, M), _moved(rho, other)
    q, r = _weighed(seen, w), _weighed(unseen, w)
    return jnp.where((q.m > 0) & (r.m > 0), ((seen / q).linear - (unseen / r).linear) / 2, 0)


@jax.jit
def layer_scaled(rho: Scaled, p0, T, w, z: Int[Array, "T *batch"]) -> Scaled:
    """`layer` of `layers.py`, whose formula it follows term by term; the change is a difference of two sums."""
    table, others = Scaled.of(operator_table(T)), Scaled.of(other_operators(T))

    def step(p, x):
        p = turned(p, x[0], table[x[1]], others[x[1]], table[0], w)
        return p, p

    first = _start(p0, z)
    found = lax.scan(step, first, (rho[:-1], row_numbers(z)))[1]
    return jax.tree.map(lambda f, s: jnp.concatenate([f[None], s]), first, found)


def soft_states_scaled(p0, T, w, z: Int[Array, " T"], log_q: Float[Array, " T"], a, b):
    """`(states [T+1 d], log of the mass [T] of every step)` of `soft.py`."""
    table = Scaled.of(operator_table(T))

    def step(p, x):
        row, q, a, b = x
        joint = total_of(_moved(p, table[row]) / q * a, _moved(p, table[0]) * b)
        mass = _weighed(joint, w)
        return joint / mass, (p.linear, mass.log[0])

    evidence = row_numbers(z), Scaled.exp(log_q[:, None]), Scaled.of(a[:, None]), Scaled.of(b[:, None])
    last, (states, log_mass) = lax.scan(step, Scaled.of(p0), evidence)
    return jnp.concatenate([states, last.linear[None]]), log_mass


def turned(p: Scaled, rho: Scaled, M: Scaled, other: Scaled, A: Scaled, w: Float[Array, " d"]) -> Scaled:
    """`turned` of `layers.py`."""
    nothing = lambda x: Scaled.of(jnp.zeros_like(x.m))
    seen, unseen, here, apart = (_moved(x, N) for x in (rho, p) for N in (M, other))
    q, r, q_here, u = (_weighed(part, w) for part in (seen, unseen, here, apart))
    ahead = _moved(p, A)
    plus = choose(q_here.m > 0, here / q_here, ahead)
    plus = choose(q.m > 0, seen / q, plus)
    certain = r.m == 0
    share = choose(certain, nothing(u), u / r)
    new = add(here, choose(certain, nothing(plus), plus * u), apart, unseen * share)
    mass = _weighed(new, w)
    return choose(mass.m > 0, new / mass, plus)
