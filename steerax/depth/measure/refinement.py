r"""A checkpoint as one point of a family of networks, and how far it is from the flow the family tends to.

A GPT block is two half-steps, $A$ (attention) and $M$ (MLP). Three families agree with it at $k=1$ and differ beyond:

| refinement | k sub-steps of a layer | limit |
|---|---|---|
| "lie_trotter" (default) | $X\mathrel{+}=A(X)/k$, $X\mathrel{+}=M(X)/k$, alternating; again a GPT, of $kL$ layers | $\dot X=L(A+M)$ |
| "joint" | $X\mathrel{+}=F(X)/k$ with $F=A+M\circ(I+A)$ | $\dot X=LF$ |
| "sequential" | $k$ steps of $A/k$, then $k$ of $M/k$ | $\dot X=2LA$, then $2LM$ |

Trained networks are not near the limit of any: that distance is the result, not an error.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._bounds import NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError, DataError
from ...transformer.gpt import GPT, Block
from .costate import summed_losses
from .scoring import in_full_precision

Refinement = Literal["lie_trotter", "joint", "sequential"]
REFINEMENTS = ("lie_trotter", "joint", "sequential")


def checked(kind: str) -> None:
    """Raises `ConfigurationError` for a refinement that does not exist."""
    if kind not in REFINEMENTS:
        raise ConfigurationError(f"There is no refinement {kind!r}; choose one of {', '.join(REFINEMENTS)}.")


def substeps(kind: str, block: Block, X: Float[Array, "T D"], k) -> Float[Array, "T D"]:
    """One layer in `k` sub-steps: a traced integer (one compilation serves every k), or an int (differentiable)."""
    h = jnp.asarray(1, X.dtype) / k
    first = 0 if isinstance(k, int) else jnp.zeros_like(k)
    repeat = lambda step, X: jax.lax.fori_loop(first, k, lambda _, X: step(X), X)
    attention = lambda X: X + h * block.attention_increment(X)
    mlp = lambda X: X + h * block.mlp_increment(X)
    if kind == "lie_trotter":
        return repeat(lambda X: mlp(attention(X)), X)
    if kind == "sequential":
        return repeat(mlp, repeat(attention, X))
    return repeat(lambda X: X + h * joint(block, X), X)


def joint(block: Block, X: Float[Array, "T D"]) -> Float[Array, "T D"]:
    r"""$F(X)=A(X)+M(X+A(X))$: a whole layer as one velocity."""
    a = block.attention_increment(X)
    return a + block.mlp_increment(X + a)


def adaptive(velocity: Callable[[Array], Array], X: Float[Array, "B T D"], tolerance) -> tuple[Array, Array]:
    r"""$\dot X=v(X)$ over unit time by an adaptive method of order 5, and the number of steps.

    A step's error is held at `tolerance`, relative to each number or to the root mean square of the initial state,
    whichever is larger. NaN if 4096 steps are not enough.
    """
    import diffrax

    size = jnp.sqrt((X**2).mean())
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, X, args: velocity(X)),
        diffrax.Tsit5(),
        # plain numbers would be double precision where JAX allows it, and the state with them
        t0=jnp.zeros((), X.dtype),
        t1=jnp.ones((), X.dtype),
        dt0=None,
        y0=X,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance * size),
        max_steps=4096,
        throw=False,
    )
    reached = found.result == diffrax.RESULTS.successful
    return jnp.where(reached, jnp.asarray(found.ys)[0], jnp.nan), found.stats["num_steps"]


def _limit_step(kind: str, block: Block, X: Float[Array, "B T D"], tolerance) -> tuple[Array, Array]:
    """One layer of the limiting flow of a batch, and how many steps it took."""
    attention, mlp = jax.vmap(block.attention_increment), jax.vmap(block.mlp_increment)
    if kind == "lie_trotter":
        return adaptive(lambda X: attention(X) + mlp(X), X, tolerance)
    if kind == "sequential":
        half, first = adaptive(attention, X, tolerance)
        full, second = adaptive(mlp, half, tolerance)
        return full, first + second
    return adaptive(jax.vmap(lambda X: joint(block, X)), X, tolerance)


@eqx.filter_jit
def refined_states(gpt: GPT, tokens: Int[Array, "B T"], k, kind: Refinement = "lie_trotter") -> Float[Array, "B T D"]:
    """Final states $X_L$ with every layer in `k` sub-steps; the checkpoint itself at k = 1."""
    checked(kind)
    layer = lambda X, block: (substeps(kind, block, X, k), None)
    return jax.vmap(lambda tokens: jax.lax.scan(layer, gpt.embed(tokens), gpt.blocks)[0])(tokens)


@eqx.filter_jit
def flow_states(
    gpt: GPT, tokens: Int[Array, "B T"], tolerance, kind: Refinement = "lie_trotter"
) -> tuple[Float[Array, "B T D"], Int[Array, " L"]]:
    """Final states of the limiting flow, and the adaptive steps each layer took; see `adaptive`."""
    checked(kind)
    layer = lambda X, block: _limit_step(kind, block, X, tolerance)
    return jax.lax.scan(layer, jax.vmap(gpt.embed)(tokens), gpt.blocks)


class FlowDistance(NamedTuple):
    r"""How far a checkpoint is from the flow of its own refinement.

    `kind`; `distance` $e_1=|X^{k=1}_L-X(1)|/|X(1)|$ (root mean square over tokens); `constant` $C\approx k\,e_k$ at the
    largest `k` computed; `errors`, k → $e_k$; `losses`, k → mean loss, with `inf` for the flow itself;
    `reference_error`, change of the reference at ten times its tolerance, relative; `steps` `[L]` it took per layer.
    """

    kind: str
    distance: float
    constant: float
    errors: dict[int, float]
    losses: dict[int | float, float]
    reference_error: float
    steps: np.ndarray

    @property
    def ratio(self) -> float:
        """$e_1/C$: 1 where one layer already behaves like a small step, small where it does not."""
        return self.distance / self.constant


@bounded(tolerance=NOT_NEGATIVE)
def flow_distance(
    gpt: GPT,
    tokens: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    kind: Refinement = "lie_trotter",
    substeps: Sequence[int] = (1, 2, 4, 8, 16),
    tolerance: float | None = None,
) -> FlowDistance:
    """Errors and losses of a family of refinements against its limit.

    Costs `sum(substeps)` forward passes and six for every adaptive step of the reference: sub-sample a large batch. The
    reference is solved twice, at `tolerance` (1e-4 in single precision, 1e-6 in double) and at ten times as much.

    **Raises:** `DataError` if the flow needs more than 4096 steps in a layer.
    """
    N = max(int((np.asarray(targets) >= 0).sum()), 1)
    gpt = in_full_precision(gpt)
    dtype = gpt.token_embedding.dtype
    if tolerance is None:
        tolerance = 1e-6 if dtype == jnp.float64 else 1e-4
    limit, steps = flow_states(gpt, tokens, jnp.asarray(tolerance, dtype), kind)
    coarse, _ = flow_states(gpt, tokens, jnp.asarray(10 * tolerance, dtype), kind)
    size = float(jnp.sqrt((limit**2).sum()))
    if not np.isfinite(size):
        raise DataError(f"The {kind} flow takes more than 4096 steps in a layer; try a larger tolerance.")
    reference_error = float(jnp.sqrt(((coarse - limit) ** 2).sum())) / size
    errors, losses = {}, {}
    for k in substeps:
        X = refined_states(gpt, tokens, jnp.asarray(k), kind)
        errors[int(k)] = float(jnp.sqrt(((X - limit) ** 2).sum())) / size
        losses[int(k)] = float(summed_losses(gpt, X, targets)) / N
    losses[float("inf")] = float(summed_losses(gpt, limit, targets)) / N
    first, last = min(substeps), max(substeps)
    return FlowDistance(kind, errors[first], last * errors[last], errors, losses, reference_error, np.asarray(steps))
