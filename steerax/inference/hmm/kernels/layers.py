"""One layer of the dual filter, for every query at once, on arrays.

A layer takes a sequence of laws `ρ_0 … ρ_T` and returns `ρ⁺_0 … ρ⁺_T`. At each step the tokens are merged into "seen"
(`z_{t+1}`) and "not seen". With the posteriors under the input law

    ρ⁺ = ρ ⊙ C_z / ρ·C_z,        ρ⁻ = ρ ⊙ (1 - C_z) / ρ·(1 - C_z),        k = (ρ⁺ - ρ⁻) / 2,

the dual control system backward from a query `T`, for a target function `F`, is

    y_T = F,    u_t = -k_t·A y_{t+1},    y_t = A y_{t+1} + (2 C_{z_{t+1}} - 1) u_t,    ρ⁺_T(F) = μ(y_0) - Σ_{t<T} u_t.

Its transpose gives the output of all queries in one forward pass of cost `O(d² T)`:

    p_0 = μ,    p_{t+1} = A^⊤[p_t + ((1 - C_{z_{t+1}})·p_t)(ρ⁺_t - ρ⁻_t)],

"move the predicted mass that was not seen from ρ⁻ to ρ⁺": a delta rule with key `1 - C_z` and value `ρ⁺ - ρ⁻`. With
`ρ = π` it returns `π`. `k` is a difference of two laws, so its entries sum to zero whatever the mass of `ρ`, and it
keeps full relative accuracy for rare tokens; `ρ ⊙ (c - ρ·c) / (1 - (ρ·c)²)` is the same number without these
properties. Theorem 7 of [KudreChangMehta2026]; the layered form is Eq. (1c) there.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .recursions import emission_table, moved, row_numbers


@jax.jit
def gain_differences(rho: Float[Array, "T *batch d"], C, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    """`ρ⁺ - ρ⁻ = 2k` at each step; a missing token has none."""
    table, rows = emission_table(C), row_numbers(z)
    return posterior_difference(rho, table[rows], table.sum(-1, keepdims=True)[rows])


def posterior_difference(
    rho: Float[Array, "*batch d"], Cz: Float[Array, "*batch d"], total: Float[Array, "*batch 1"]
) -> Float[Array, "*batch d"]:
    """`ρ⁺ - ρ⁻` for laws `ρ`, the emission probabilities `C_z` of the tokens seen, and their sums over states.

    Zero where the token is certain under `ρ` (or missing, `C_z = 1`). Where it is impossible under `ρ`,
    `ρ⁺ = C_z / ΣC_z`.
    """
    seen, unseen = rho * Cz, rho * (1 - Cz)
    q, r = seen.sum(-1, keepdims=True), unseen.sum(-1, keepdims=True)
    uninformed = Cz / jnp.where(total > 0, total, 1)
    plus = jnp.where(q > 0, seen / jnp.where(q > 0, q, 1), uninformed)
    minus = unseen / jnp.where(r > 0, r, 1)
    return jnp.where((r > 0) & (total > 0), plus - minus, 0)


@jax.jit
def layer(rho: Float[Array, "T1 *batch d"], mu, A, C, z: Int[Array, "T *batch"]) -> Float[Array, "T1 *batch d"]:
    """`ρ⁺_0 … ρ⁺_T`, every law kept non-negative and of mass one.

    Where the input is far from the filter the linear recursion leaves the simplex and can grow without bound; negative
    parts are therefore cut, and the mass restored, at each token. The filter itself is not touched by that, so it
    remains the fixed point, and the layer stays causal. `ρ⁺_0` is `μ` itself, without rounding: so the first laws of two
    layers are the same numbers, and by causality one more law with each layer. A difference of rounding between them
    would grow like that of any two inputs, to 1e-5 in fifty tokens on models of real data.

    For speed on a CPU, a single sequence has all its `ρ⁺_t - ρ⁻_t` computed before the loop, which then has few enough
    operations (eight) for XLA to run them without waking another thread; a batch has everything inside, in the caches.
    """
    start = jnp.broadcast_to(mu, rho.shape[1:])
    after = (_after_each if z.ndim == 1 else _after_each_of_batch)(rho[:-1], start, A, C, z)
    return jnp.concatenate([start[None], after])


def _after_each(rho, start, A, C, z):
    keys = 1 - emission_table(C)

    def step(p, x):
        row, change = x
        p = jnp.maximum(p, 0)
        mass, unseen = _sums(p, keys.at[row].get(mode="promise_in_bounds") * p)
        p = moved((p + unseen * change) / mass, A)
        return p, p

    return _onto_simplex(lax.scan(step, start, (row_numbers(z), gain_differences(rho, C, z)))[1])


def _sums(a: Float[Array, " d"], b: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sums of two vectors, in one operation."""
    zero = jnp.zeros((), a.dtype)
    return lax.reduce((a, b), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), (0,))


def _after_each_of_batch(rho, start, A, C, z):
    table = emission_table(C)
    totals = table.sum(-1, keepdims=True)

    def step(p, x):
        rho, row = x
        Cz, total = (a.at[row].get(mode="promise_in_bounds") for a in (table, totals))
        unseen = jnp.sum((1 - Cz) * p, -1, keepdims=True)
        p = _onto_simplex(moved(p + unseen * posterior_difference(rho, Cz, total), A))
        return p, p

    return lax.scan(step, start, (rho, row_numbers(z)))[1]


@jax.jit
def layer_by_associative_scan(rho: Float[Array, "T1 d"], mu, A, C, z: Int[Array, " T"]) -> Float[Array, "T1 d"]:
    """The same layer as a product of `T` matrices in `O(log T)` depth and `O(d³ T)` work: for wide machines.

    Equal to `layer` where the linear recursion stays in the simplex. `A` must be dense.
    """
    delta = gain_differences(rho[:-1], C, z)
    keys = 1 - emission_table(C)[row_numbers(z)]
    steps = A[None] + keys[:, :, None] * (delta @ A)[:, None, :]
    products = lax.associative_scan(jnp.matmul, steps)
    return jnp.concatenate([mu[None], _onto_simplex(jnp.einsum("i,tij->tj", mu, products))])


def _onto_simplex(p):
    p = jnp.maximum(p, 0)
    mass = p.sum(-1, keepdims=True)
    return p / jnp.where(mass > 0, mass, 1)
