r"""One layer of the dual filter for operators, for every query at once, on arrays; see `recursions.py` for the letters.

With the posteriors under the input $\rho$, given that the token is $z$ and that it is another,

$$\rho^+=\frac{\rho T^z}{\rho T^zw},\qquad\rho^-=\frac{\rho(A-T^z)}{\rho(A-T^z)w},$$

the output of all queries is one forward pass of cost $O(d^2T)$,

$$p_0=p_0,\qquad p_{t+1}=p_tA+\big(p_t(A-T^{z_t})w\big)(\rho_t^+-\rho_t^-),$$

"move the mass that was not seen from $\rho^-$ to $\rho^+$". With $\rho=p=\pi$ it returns $\rho^+$, the filter; it is causal, hence exact
after at most $T$ layers. For $T^z=\mathrm{diag}(C_z)A$ it is the layer of `hmm/kernels/layers.py`, and with a backward pass

$$y_T=F,\qquad u_t=-k_ty_{t+1},\qquad y_t=Ay_{t+1}+(2T^{z_t}w-w)u_t,\qquad k=\tfrac12(\rho^+-\rho^-),$$

it solves the same control problem, in any basis of the beliefs. [KudreChangMehta2026], Theorem 7, is the case of a hidden chain.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ...hmm.kernels.layers import unless_one
from .recursions import has_no_signs, is_positive, moved, operator_table, other_operators, row_numbers


@jax.jit
def gains(states: Float[Array, "T1 *batch d"], T, w, z: Int[Array, "T *batch"]) -> Float[Array, "T *batch d"]:
    r"""$k_t=\frac12(\rho^+-\rho^-)$ at each step; zero where the token is certain, impossible or missing."""
    table, others = operator_table(T), other_operators(T)
    sizes, other_sizes = jnp.abs(table) @ jnp.abs(w), jnp.abs(others) @ jnp.abs(w)
    at = lambda x: gain(x[0], table[x[1]], others[x[1]], w, sizes[x[1]], other_sizes[x[1]])
    return lax.map(at, (states[:-1], row_numbers(z)))


def gain(rho: Float[Array, "*n d"], M, other, w, size, other_size) -> Float[Array, "*n d"]:
    """The gain of one step, of operators `M` (seen) and `other` (not seen), with `size` $=|M||w|$ and `other_size`."""
    seen, unseen = moved(rho, M), moved(rho, other)
    q, r = seen @ w, unseen @ w
    both = is_positive(q, rho, size) & is_positive(r, rho, other_size)
    plus, minus = (part / jnp.where(both, mass, 1)[..., None] for part, mass in ((seen, q), (unseen, r)))
    return jnp.where(both[..., None], (plus - minus) / 2, 0)


@jax.jit
def layer(
    rho: Float[Array, "T1 *batch d"], p0: Float[Array, " d"], T, w: Float[Array, " d"], z: Int[Array, "T *batch"]
) -> Float[Array, "T1 *batch d"]:
    r"""$p_0\dots p_T$, every one of them finite and of mass $pw=1$.

    Where the token is certain under $\rho$ (or missing) there is no change, $p_{t+1}=p_tA$. Where it is impossible under $\rho$,
    $\rho^+$ is the posterior under $p$, or $pA$ if it is impossible there too. Without negative entries in the model negative
    parts of $p$ are cut; with them only the mass is kept, and where it drowns in the rounding of large entries of both signs,
    $\rho^+$ takes the place of $p$. Nothing of this touches the fixed point.

    The change is computed as $pT^z+u\rho^++(p-\frac ur\rho)(A-T^z)$, $u$ and $r$ being the masses not seen under $p$ and $\rho$; the
    last term vanishes exactly once both agree.
    """
    table, others = operator_table(T), other_operators(T)
    sizes, other_sizes, plain = jnp.abs(table) @ jnp.abs(w), jnp.abs(others) @ jnp.abs(w), has_no_signs(p0, T, w)
    keys = others @ w

    def step(p, x):
        rho, row = x
        p = turned(p, rho, table[row], others[row], table[0], w, (sizes[row], other_sizes[row], keys[row]), plain)
        return p, p

    start = jnp.broadcast_to(p0, rho.shape[1:])
    return jnp.concatenate([start[None], lax.scan(step, start, (rho[:-1], row_numbers(z)))[1]])


def turned(
    p: Float[Array, "*n d"], rho: Float[Array, "*n d"], M, other, A, w, sizes: tuple, plain
) -> Float[Array, "*n d"]:
    r"""One step of a layer, of operators `M` (seen), `other` (not seen) and `A`, their sum; `sizes` are $|M||w|$, $|other||w|$ and
    $other\,w$, and `plain` says that no entry is negative."""
    size, other_size, key = sizes
    eps = jnp.finfo(rho.dtype).eps
    over = lambda x, mass, ok: x / jnp.where(ok, mass, 1)[..., None]
    seen, here = moved(rho, M), moved(p, M)
    q, q_here = seen @ w, here @ w
    known, own = is_positive(q, rho, size), is_positive(q_here, p, size)
    ahead = moved(p, A)
    plus = jnp.where(own[..., None], over(here, q_here, own), ahead)
    plus = jnp.where(known[..., None], over(seen, q, known), plus)
    u, r = jnp.sum(p * key, -1), jnp.sum(rho * key, -1)
    open_ = is_positive(r, rho, other_size)
    equal = jnp.abs(u - r) <= 16 * eps * jnp.abs(r)  # sums of equal numbers in another order
    share = jnp.where(open_, unless_one(u / jnp.where(open_, r, 1), equal), 0)[..., None]
    new = here + jnp.where(open_, u, 0)[..., None] * plus + moved(p - share * rho, other)
    new = jnp.where(plain, jnp.maximum(new, 0), new)
    mass = new @ w
    kept = is_positive(mass, new, jnp.abs(w))
    return jnp.where(kept[..., None], over(new, mass, kept), plus)
