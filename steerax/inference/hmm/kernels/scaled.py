r"""Recursions in which no mass can underflow, on arrays: every number is a mantissa times a power of two.

In linear space the posterior of a closed class, or of a state that can no longer be entered, may fall below the smallest
number of the precision and is then lost for good, although later tokens could decide for it. Here a non-negative array is
a pair $(m,e)$, $x=m2^e$, with a mantissa $m\in[\frac12,1)$ and an integer exponent; products and powers of two are exact,
so the relative error is that of a linear recursion without underflow. Several times slower than `recursions.py`, which is
valid unless `may_have_lost_mass` says otherwise.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ....models.transitions import as_transition
from .counts import ExpectedCounts
from .likelihoods import Emission, Likelihoods, emission_table, row_numbers, rows_of
from .recursions import Limits, filter_checked, filter_possible, is_small_product, may_have_lost_mass, moved

_ZERO = -(2**30)  # the exponent of zero


class Scaled(eqx.Module):
    """Non-negative numbers $m2^e$; a zero has mantissa 0."""

    m: Float[Array, "..."]
    e: Int[Array, "..."]

    @classmethod
    def of(cls, x: Float[Array, "..."], exponent: Any = 0) -> "Scaled":
        """The numbers $x2^{exponent}$; differentiable in `x`."""
        e = jnp.frexp(lax.stop_gradient(x))[1]
        half = -e // 2
        m = x * _power(half, x.dtype) * _power(-e - half, x.dtype)
        return cls(m, jnp.where(m > 0, e + exponent, _ZERO))

    @classmethod
    def exp(cls, x: Float[Array, "..."]) -> "Scaled":
        """The exponentials of numbers, −∞ included, however small they are."""
        possible = jnp.isfinite(x)
        finite = jnp.where(possible, x, 0)
        e = jnp.floor(lax.stop_gradient(finite) / math.log(2))
        m = jnp.where(possible, jnp.exp(finite - e * math.log(2)), 0)
        return cls.of(m, e.astype(jnp.int32))

    def __mul__(self, other: Any) -> "Scaled":
        m = self.m * other.m
        return Scaled.of(m, jnp.where(m > 0, self.e + other.e, 0))

    def __truediv__(self, other: Any) -> "Scaled":
        m = self.m / jnp.where(other.m > 0, other.m, 1)
        return Scaled.of(m, jnp.where(m > 0, self.e - jnp.where(other.m > 0, other.e, 0), 0))

    def __getitem__(self, index: Any) -> "Scaled":
        return Scaled(self.m[index], self.e[index])

    def reshape(self, *shape: int) -> "Scaled":
        return Scaled(self.m.reshape(shape), self.e.reshape(shape))

    def sum(self, axis: int, keepdims: bool = False) -> "Scaled":
        """Sums along an axis, relative to the largest exponent there."""
        largest = self.e.max(axis, keepdims=True)
        total = (self.m * _power(self.e - largest, self.m.dtype)).sum(axis, keepdims=keepdims)
        return Scaled.of(total, largest if keepdims else jnp.squeeze(largest, axis))

    @property
    def linear(self) -> Float[Array, "..."]:
        """The numbers; zero where they are below the precision's smallest."""
        half = jnp.maximum(self.e, -4000) // 2
        return self.m * _power(half, self.m.dtype) * _power(jnp.maximum(self.e, -4000) - half, self.m.dtype)

    @property
    def log(self) -> Float[Array, "..."]:
        """Natural logarithms, −∞ for zero."""
        positive = self.m > 0
        found = jnp.log(jnp.where(positive, self.m, 1)) + self.e * jnp.log(jnp.asarray(2, self.m.dtype))
        return jnp.where(positive, found, -jnp.inf)


def _power(k: Int[Array, "..."], dtype) -> Float[Array, "..."]:
    """$2^k$, exactly, and 0 below the smallest normal number."""
    wide = jnp.dtype(dtype) == jnp.float64
    bias, shift, kind = (1023, 52, jnp.int64) if wide else (127, 23, jnp.int32)
    bits = (jnp.clip(k, -bias + 1, bias).astype(kind) + bias) << shift
    return jnp.where(k > -bias, lax.bitcast_convert_type(bits, jnp.float64 if wide else jnp.float32), 0).astype(dtype)


def forward(p: Scaled, cube: Scaled) -> Scaled:
    """$pA$ for a transition given as a cube `[a b c]`: oldest state, those in between, next state."""
    batch = p.m.shape[:-1]
    a, b, _ = cube.m.shape
    return _raw(p.reshape(*batch, a, b, 1), cube).sum(-3).reshape(*batch, -1)


def _backward(y: Scaled, cube: Scaled) -> Scaled:
    """$Ay$."""
    batch = y.m.shape[:-1]
    _, b, c = cube.m.shape
    return _raw(y.reshape(*batch, 1, b, c), cube).sum(-1).reshape(*batch, -1)


def _raw(x: Scaled, y: Scaled) -> Scaled:
    """A product about to be summed, whose mantissas may be as small as a quarter; a cube meets any batch."""
    y = y.reshape(*(1,) * (x.m.ndim - y.m.ndim), *y.m.shape)
    m = x.m * y.m
    return Scaled(m, jnp.where(m > 0, x.e + y.e, _ZERO))


def cube_of(A) -> Scaled:
    return Scaled.of(as_transition(A).cube)


def scaled_table(C: Emission) -> Scaled:
    """`emission_table` in numbers of which none underflows."""
    if not isinstance(C, Likelihoods):
        return Scaled.of(emission_table(C))
    one, rows = Scaled.of(jnp.ones((1, C.shape[0]), C.dtype)), Scaled.exp(C.relative)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), one, rows)


def _start(mu: Float[Array, " d"], z: Int[Array, "T *batch"]) -> Scaled:
    return Scaled.of(jnp.broadcast_to(mu, (*z.shape[1:], mu.shape[0])))


@jax.jit
def filter_scaled(
    mu: Float[Array, " d"], A, C: Emission, z: Int[Array, "T *batch"]
) -> tuple[Scaled, Float[Array, "T *batch"]]:
    """`(states [T+1 … d], log q [T …])` as `filter_checked`; an impossible token has `log q = -∞` and is stepped over."""
    table, cube = scaled_table(C), cube_of(A)

    def step(p, row):
        after, log_q = _given(p, table[row])
        return forward(after, cube), (p, log_q)

    last, (states, log_q) = lax.scan(step, _start(mu, z), row_numbers(z))
    return jax.tree.map(lambda s, l: jnp.concatenate([s, l[None]]), states, last), log_q


def _given(p: Scaled, seen: Scaled) -> tuple[Scaled, Float[Array, "*batch"]]:
    """The states given a token too, and `log q`; an impossible one is stepped over."""
    joint = p * seen
    q = joint.sum(-1, keepdims=True)
    return choose(q.m > 0, joint / q, p), q.log[..., 0]


def advance(p: Scaled, A, C: Emission, z: Int[Array, "*batch"]) -> tuple[Scaled, Float[Array, "*batch"]]:
    """One step of `filter_scaled`, in linear numbers (of exponent 0) where it loses nothing: no state is small, no token rare."""
    seen, before = rows_of(C, z), p.linear
    joint = before * seen
    q = joint.sum(-1)
    safe = jnp.where(q > 0, q, 1)
    after, log_q = moved(joint / safe[..., None], A), jnp.where(q > 0, jnp.log(safe), -jnp.inf)

    def exact():
        row = Scaled.exp(C.relative[z]) if isinstance(C, Likelihoods) else Scaled.of(seen)
        given, log_q = _given(Scaled.of(p.m, p.e), row)
        return forward(given, cube_of(A)), log_q

    return lax.cond(
        Limits.of(after.dtype).respected(after, log_q), lambda: (Scaled(after, jnp.zeros_like(p.e)), log_q), exact
    )


@jax.jit
def filter_traced(
    mu: Float[Array, " d"], A, C: Emission, z: Int[Array, "T *batch"]
) -> tuple[Float[Array, "T1 *batch d"], Float[Array, "T *batch"], Bool[Array, ""]]:
    """`(states, log q, whether mass would have been lost)` by the fastest recursion that is valid, decided while it runs:
    for use inside `jit` and `grad`. (Under `vmap` all of them run.)"""
    checked = lambda: filter_checked(mu, A, C, z)
    if is_small_product(z, len(mu)):
        fast = filter_possible(mu, A, C, z)
        states, log_q = lax.cond(jnp.isfinite(fast[1]).all(), lambda: fast, checked)
    else:
        states, log_q = checked()
    found = lax.stop_gradient((states, log_q))
    respected = Limits.of(states.dtype).respected(*found)
    lost = lax.cond(respected, lambda: jnp.asarray(False), lambda: may_have_lost_mass(A, C, z, *found))

    def again():
        exact, log_q = filter_scaled(mu, A, C, z)
        return exact.linear, log_q

    return *lax.cond(lost, again, lambda: (states, log_q)), lost


@jax.jit
def next_log_probabilities(
    mu: Float[Array, " d"], A, C: Float[Array, "d V"], z: Int[Array, "T *batch"]
) -> Float[Array, "T1 *batch V"]:
    """Logarithms of the distributions of the next token after every prefix. Impossible tokens are stepped over."""
    states, _, lost = filter_traced(mu, A, C, z)
    columns = Scaled.of(C)
    at = lambda p: _raw(p.reshape(*p.m.shape, 1), columns).sum(-2).log
    exact = lambda: lax.map(at, filter_scaled(mu, A, C, z)[0])
    return lax.cond(lost, exact, lambda: jnp.log(states @ C))


def choose(where: Bool[Array, "..."], a: Scaled, b: Scaled) -> Scaled:
    return Scaled(jnp.where(where, a.m, b.m), jnp.where(where, a.e, b.e))


@jax.jit
def posterior_scaled(states: Scaled, C: Emission, z: Int[Array, "T *batch"]) -> Scaled:
    """The states of the filter given the token of the same time too, `[T … d]`."""
    joint = states[:-1] * scaled_table(C)[row_numbers(z)]
    return joint / joint.sum(-1, keepdims=True)


@jax.jit
def smooth_scaled(states: Scaled, A, C: Emission, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    """Distributions of every state given all tokens, from the states of the filter."""
    table, cube = scaled_table(C), cube_of(A)

    def step(b, x):
        state, row = x
        b = table[row] * _backward(b, cube)
        joint = state * b
        total = joint.sum(-1, keepdims=True)
        return b / total, (joint / total).linear

    last = states[-1]
    one = Scaled.of(jnp.ones_like(last.m))
    return lax.scan(step, one, (states[:-1], row_numbers(z)), reverse=True)[1]


@jax.jit
def counts_scaled(
    mu: Float[Array, " d"], A, C: Emission, rows: Int[Array, "T B"], lengths: Int[Array, " B"]
) -> ExpectedCounts:
    """`expected_counts` of all sequences; memory for all states."""
    chain, cube, table = as_transition(A), cube_of(A), scaled_table(C)
    T, B = rows.shape
    states, log_q = filter_scaled(mu, A, C, rows - 1)
    (a, b, c), d, V = cube.m.shape, *C.shape

    def step(carry, x):
        w, transition, emission, _ = carry  # w: message of the tokens from here on, times the emission here
        time, state, row = x
        joint = state * table[row]
        pairs = _raw(joint.reshape(B, a, b, 1), cube) * w.reshape(B, 1, b, c)
        total = pairs.reshape(B, -1).sum(-1, keepdims=True)
        counted = (time + 1 < lengths)[:, None]
        shares = jnp.where(counted, (pairs.reshape(B, -1) / total).linear, 0)
        message = _backward(w, cube)
        gamma = joint * message
        gamma = (gamma / gamma.sum(-1, keepdims=True)).linear
        if not by_time:
            emission = emission + jax.ops.segment_sum(gamma, row, V + 1)[1:]
        w = (message * table[row]) / total
        carry = (w, transition + shares.sum(0).reshape(chain.free.shape), emission, gamma)
        return carry, jnp.where((time < lengths)[:, None], gamma, 0) if by_time else None

    none, by_time = jnp.zeros((B, d), mu.dtype), isinstance(C, Likelihoods)
    counted = jnp.zeros((0 if by_time else V, d), mu.dtype)
    carry = (Scaled.of(none + 1), jnp.zeros_like(chain.free, mu.dtype), counted, none)
    carry, each = lax.scan(step, carry, (jnp.arange(T), states[:-1], rows), reverse=True)
    _, transition, emission, first = carry
    emission = emission if each is None else each.reshape(-1, d)
    first = jnp.where(lengths[:, None] > 0, first, 0).sum(0)
    one = jnp.ones((), mu.dtype)
    log_likelihood = jnp.where(jnp.isfinite(log_q), log_q, 0).sum()
    return ExpectedCounts(
        first, transition, emission.T, log_likelihood, jnp.where(jnp.isfinite(log_q).all(), one, 0), jnp.asarray(False)
    )


@jax.jit
def gains_scaled(states: Scaled, C: Emission, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    r"""`gains` of `layers.py` at the states of the filter."""
    table, rows = emission_table(C), row_numbers(z)
    plus = posterior_scaled(states, C, z)
    unseen = states[:-1] * Scaled.of(1 - table)[rows]
    r = unseen.sum(-1, keepdims=True)
    return jnp.where(r.m > 0, (plus.linear - (unseen / r).linear) / 2, 0)


@jax.jit
def layer_scaled(rho: Scaled, mu: Float[Array, " d"], A, C: Emission, z: Int[Array, "T *batch"]) -> Scaled:
    """`layer` of `layers.py`, whose formula it follows term by term; negative parts are cut before the move."""
    table, cube = emission_table(C), cube_of(A)
    totals = table.sum(-1, keepdims=True)
    rows = jnp.where(totals[row_numbers(z), 0] > 0, row_numbers(z), 0)
    seen, keys, totals = Scaled.of(table), Scaled.of(1 - table), Scaled.of(totals)

    def step(p, x):
        rho, row = x
        Cz, key = seen[row], keys[row]
        joint, apart, here = rho * Cz, rho * key, p * key
        q, r, u = (part.sum(-1, keepdims=True) for part in (joint, apart, here))
        plus = choose(q.m > 0, joint / q, Cz / totals[row])
        u = choose(r.m > 0, u, Scaled.of(jnp.zeros_like(u.m)))
        new = add(p * Cz, plus * u, here, apart * (u / r))
        total = new.sum(-1, keepdims=True)
        after = forward(choose(total.m > 0, new / total, p), cube)
        return after, after

    first = _start(mu, z)
    found = lax.scan(step, first, (rho[:-1], rows))[1]
    return jax.tree.map(lambda f, s: jnp.concatenate([f[None], s]), first, found)


def add(a: Scaled, b: Scaled, c: Scaled, d: Scaled) -> Scaled:
    """$\\max(a+b+(c-d),0)$; the difference is exact where both are equal."""
    at = lambda x, e: x.m * _power(x.e - e, x.m.dtype)
    larger = jnp.maximum(c.e, d.e)
    left = at(c, larger) - at(d, larger)
    larger = jnp.where(left == 0, _ZERO, larger)  # what cancels does not hide what is small
    e = jnp.maximum(jnp.maximum(a.e, b.e), larger)
    return Scaled.of(jnp.maximum(at(a, e) + at(b, e) + left * _power(larger - e, left.dtype), 0), e)


def soft_states_scaled(
    mu: Float[Array, " d"], A, likelihoods: Any, log_q: Float[Array, " T"], a, b
) -> tuple[Float[Array, "T1 d"], Float[Array, " T"]]:
    """`(states, log of the mass of every step)` of `soft.py`."""
    cube = cube_of(A)
    rows = likelihoods if isinstance(likelihoods, Scaled) else Scaled.of(likelihoods)

    def step(p, x):
        seen, q, a, b = x
        joint = total_of(p * seen / q * a, p * b)
        mass = joint.sum(-1, keepdims=True)
        return forward(joint / mass, cube), (p.linear, mass.log[0])

    evidence = rows, Scaled.exp(log_q[:, None]), Scaled.of(a[:, None]), Scaled.of(b[:, None])
    last, (states, log_mass) = lax.scan(step, Scaled.of(mu), evidence)
    return jnp.concatenate([states, last.linear[None]]), log_mass


def total_of(*parts: Scaled) -> Scaled:
    """The sum of several numbers."""
    return jax.tree.map(lambda *each: jnp.stack(each), *parts).sum(0)
