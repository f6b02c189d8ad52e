r"""One layer of the dual filter, for every query at once, on arrays.

A layer takes distributions $\rho_0\dots\rho_T$ and returns $\rho^+_0\dots\rho^+_T$. At each step the tokens are merged into
"seen" ($z_t$) and "not seen". With the posteriors under the input distribution

$$\rho^+=\frac{\rho\odot C_z}{\rho^\top C_z},\qquad \rho^-=\frac{\rho\odot(1-C_z)}{\rho^\top(1-C_z)},\qquad
k=\tfrac12(\rho^+-\rho^-),$$

the dual control system backward from a query $T$, for a target function $F$, is

$$y_T=F,\qquad u_t=-k_t^\top Ay_{t+1},\qquad y_t=Ay_{t+1}+(2C_{z_t}-1)u_t,\qquad \rho^+_T(F)=\mu(y_0)-\sum_{t<T}u_t .$$

Its transpose gives the output of all queries in one forward pass of cost $O(d^2T)$,

$$p_0=\mu,\qquad p_{t+1}=A^\top\big[p_t+\big((1-C_{z_t})^\top p_t\big)(\rho^+_t-\rho^-_t)\big],$$

"move the predicted mass that was not seen from $\rho^-$ to $\rho^+$": a delta rule with key $1-C_z$ and value
$\rho^+-\rho^-$. With $\rho=\pi$ it returns $\pi$. $k$ is a difference of two distributions, so its entries sum to zero
whatever the mass of $\rho$, and it keeps full relative accuracy for rare tokens;
$\rho\odot(c-\rho^\top c)/(1-(\rho^\top c)^2)$ is the same number without these properties. Theorem 7 of
[KudreChangMehta2026]; the layered form is Eq. (1c) there.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .likelihoods import emission_table, row_numbers
from .recursions import moved


@jax.jit
def gains(states: Float[Array, "T1 *batch d"], C, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    r"""$k_t=\frac12(\rho^+-\rho^-)$ at each step.

    Zero where the token is certain under $\rho$ (or missing). Where it is impossible under $\rho$, $\rho^+=C_z/\sum C_z$.
    """
    table, rows, rho = emission_table(C), row_numbers(z), states[:-1]
    Cz, total = table[rows], table.sum(-1, keepdims=True)[rows]
    unseen = rho * (1 - Cz)
    r = unseen.sum(-1, keepdims=True)
    minus = unseen / jnp.where(r > 0, r, 1)
    return jnp.where((r > 0) & (total > 0), (_posterior(rho, Cz, total) - minus) / 2, 0)


def _posterior(rho, Cz, total) -> Float[Array, "*batch d"]:
    r"""$\rho^+$."""
    seen = rho * Cz
    q = seen.sum(-1, keepdims=True)
    return jnp.where(q > 0, seen / jnp.where(q > 0, q, 1), Cz / jnp.where(total > 0, total, 1))


@jax.jit
def layer(
    rho: Float[Array, "T1 *batch d"], mu: Float[Array, " d"], A, C: Float[Array, "d V"], z: Int[Array, "T *batch"]
) -> Float[Array, "T1 *batch d"]:
    r"""$\rho^+_0\dots\rho^+_T$, every one of them non-negative and of mass one.

    Where the input is far from the filter the linear recursion leaves the simplex and can grow without bound; negative
    parts are therefore cut, and the mass restored, at each token. The filter itself is not touched by that, so it
    remains the fixed point, and the layer stays causal. $\rho^+_0$ equals $\mu$ exactly, so consecutive layers agree bit
    for bit at position 0 and, by causality, at one more position after each layer; a difference of rounding between them
    would grow like that of any two inputs, to 1e-5 in fifty tokens on models of real data.

    The bracket is computed as $p\odot C_z+u\rho^++(1-C_z)\odot(p-\frac ur\rho)$, $u$ and $r$ being the masses not seen
    under $p$ and $\rho$. The last term vanishes exactly once both agree, and what is left has no subtraction: states of a
    probability far below rounding keep their relative accuracy, which a later token may need that only they emit.

    For speed on a CPU, a single sequence has what does not depend on $p$ computed before the loop, which then has few
    enough operations for XLA to run them without waking another thread; a batch has everything inside, in the caches.
    """
    table, before = emission_table(C), rho[:-1]
    totals = table.sum(-1, keepdims=True)
    rows = jnp.where(totals[row_numbers(z), 0] > 0, row_numbers(z), 0)  # a token that no state emits changes nothing

    def seen(rho, row):
        """The posterior, zero where the token was certain; the mass not seen, and its inverse."""
        Cz = table[row]
        r = jnp.sum((1 - Cz) * rho, -1)
        plus = jnp.where(r[..., None] > 0, _posterior(rho, Cz, totals[row]), 0)
        return plus, r, 1 / jnp.where(r > 0, r, 1)

    def step(p, x):
        row, rho, known = x
        plus, r, inverse = seen(rho, row) if known is None else known
        p, Cz = jnp.maximum(p, 0), table.at[row].get(mode="promise_in_bounds")
        mass, u = _sums(p, (1 - Cz) * p)
        equal = jnp.abs(u - r) <= 16 * jnp.finfo(p.dtype).eps * r  # sums of equal numbers in another order
        share = unless_one(u * inverse, equal)[..., None]
        new = Cz * p + u[..., None] * plus + (1 - Cz) * (p - share * rho)
        p = moved(new / jnp.where(mass > 0, mass, 1)[..., None], A)
        return p, p

    start = jnp.broadcast_to(mu, rho.shape[1:])
    after = lax.scan(step, start, (rows, before, seen(before, rows) if z.ndim == 1 else None))[1]
    return jnp.concatenate([start[None], _onto_simplex(after)])


def unless_one(ratio: Float[Array, "*batch"], equal: Bool[Array, "*batch"]) -> Float[Array, "*batch"]:
    """One where the numbers of a ratio are equal, whatever their rounding; its derivative is that of the ratio everywhere."""
    return jnp.where(equal, 1 + (ratio - lax.stop_gradient(ratio)), ratio)


def _sums(a: Float[Array, "*batch d"], b: Float[Array, "*batch d"]) -> tuple[Float[Array, "*batch"], ...]:
    """Sums over states; for a single sequence in one operation."""
    return (a.sum(-1), b.sum(-1)) if a.ndim > 1 else _both(a, b)


@jax.custom_jvp
def _both(a: Float[Array, " d"], b: Float[Array, " d"]) -> tuple[Float[Array, ""], ...]:
    zero = jnp.zeros((), a.dtype)
    return lax.reduce((a, b), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), (0,))


@_both.defjvp
def _slopes_of_both(values, moves):
    """JAX's own rule fails where only one of the two arrays moves."""
    return _both(*values), tuple(move.sum(-1) for move in moves)


def _onto_simplex(p: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Cuts negative parts and restores the mass where it is wrong by more than rounding; what is right stays as it is."""
    p = jnp.maximum(p, 0)
    mass = p.sum(-1, keepdims=True)
    wrong = (mass > 0) & (jnp.abs(mass - 1) > jnp.sqrt(jnp.finfo(p.dtype).eps))
    return p / jnp.where(wrong, mass, 1)
