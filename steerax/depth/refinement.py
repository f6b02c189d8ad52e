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

from .._errors import ConfigurationError
from ..transformer.gpt import GPT, Block
from .costate import token_losses

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


def runge_kutta(velocity: Callable[[Array], Array], X: Float[Array, "T D"], k) -> Float[Array, "T D"]:
    r"""$\dot X=v(X)$ over unit time by `k` classical Runge–Kutta steps."""
    h = jnp.asarray(1, X.dtype) / k

    def step(_, X):
        a = velocity(X)
        b = velocity(X + h / 2 * a)
        c = velocity(X + h / 2 * b)
        d = velocity(X + h * c)
        return X + h / 6 * (a + 2 * b + 2 * c + d)

    return jax.lax.fori_loop(jnp.zeros_like(k), k, step, X)


def limit_step(kind: str, block: Block, X: Float[Array, "T D"], k) -> Float[Array, "T D"]:
    """One layer of the limiting flow, by `k` Runge–Kutta steps for each velocity."""
    if kind == "lie_trotter":
        return runge_kutta(lambda X: block.attention_increment(X) + block.mlp_increment(X), X, k)
    if kind == "sequential":
        return runge_kutta(block.mlp_increment, runge_kutta(block.attention_increment, X, k), k)
    return runge_kutta(lambda X: joint(block, X), X, k)


def through(step: Callable, gpt: GPT, tokens: Int[Array, "B T"], k) -> Float[Array, "B T D"]:
    """The final states of a batch, every layer by `step(block, X, k)`."""
    one = lambda tokens: jax.lax.scan(lambda X, block: (step(block, X, k), None), gpt.embed(tokens), gpt.blocks)[0]
    return jax.vmap(one)(tokens)


@eqx.filter_jit
def refined_states(gpt: GPT, tokens: Int[Array, "B T"], k, kind: Refinement = "lie_trotter") -> Float[Array, "B T D"]:
    """Final states $X_L$ with every layer in `k` sub-steps; the checkpoint itself at k = 1."""
    checked(kind)
    return through(lambda block, X, k: substeps(kind, block, X, k), gpt, tokens, k)


@eqx.filter_jit
def flow_states(gpt: GPT, tokens: Int[Array, "B T"], k, kind: Refinement = "lie_trotter") -> Float[Array, "B T D"]:
    """Final states of the limiting flow, by `k` Runge–Kutta steps a layer."""
    checked(kind)
    return through(lambda block, X, k: limit_step(kind, block, X, k), gpt, tokens, k)


class FlowDistance(NamedTuple):
    r"""How far a checkpoint is from the flow of its own refinement.

    `kind`; `distance` $e_1=|X^{k=1}_L-X(1)|/|X(1)|$ (root mean square over tokens); `constant` $C\approx k\,e_k$ at the
    largest `k` computed; `errors`, k → $e_k$; `losses`, k → mean loss, with `inf` for the flow itself;
    `reference_error`, change of the reference when its steps are halved, relative.
    """

    kind: str
    distance: float
    constant: float
    errors: dict[int, float]
    losses: dict[int | float, float]
    reference_error: float

    @property
    def ratio(self) -> float:
        """$e_1/C$: 1 where one layer already behaves like a small step, small where it does not."""
        return self.distance / self.constant


def flow_distance(
    gpt: GPT,
    tokens: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    kind: Refinement = "lie_trotter",
    substeps: Sequence[int] = (1, 2, 4, 8, 16),
    reference: int = 12,
) -> FlowDistance:
    """Errors and losses of a family of refinements against its limit.

    Costs `sum(substeps)` + 4·`reference`·1.5 forward passes: sub-sample a large batch. The reference is solved twice,
    with `reference` Runge–Kutta steps a layer and with half as many.
    """
    N = max(int((np.asarray(targets) >= 0).sum()), 1)
    loss = eqx.filter_jit(lambda gpt, X, y: token_losses(gpt, X, y).sum() / N)
    limit = flow_states(gpt, tokens, jnp.asarray(reference), kind)
    size = float(jnp.sqrt((limit**2).sum()))
    coarse = flow_states(gpt, tokens, jnp.asarray(reference // 2), kind)
    reference_error = float(jnp.sqrt(((coarse - limit) ** 2).sum())) / size
    errors, losses = {}, {}
    for k in substeps:
        X = refined_states(gpt, tokens, jnp.asarray(k), kind)
        errors[int(k)] = float(jnp.sqrt(((X - limit) ** 2).sum())) / size
        losses[int(k)] = float(loss(gpt, X, targets))
    losses[float("inf")] = float(loss(gpt, limit, targets))
    deepest = max(substeps)
    return FlowDistance(kind, errors[min(substeps)], deepest * errors[deepest], errors, losses, reference_error)


def lipschitz_exponents(gpt: GPT, tokens: Int[Array, "B T"], steps: int = 15) -> Float[np.ndarray, " L"]:
    r"""$\|\partial_XF_l\|_2$ of each layer at the first sequence, by power iteration (an estimate from below).

    Their sum divided by $\log10$ is the number of decimal digits in the Grönwall constant of the checkpoint.
    """
    states = gpt.hidden_states(tokens[0])[:-1:2]

    @eqx.filter_jit
    def norm(block, X, v):
        f = lambda X: joint(block, X)
        _, pull = jax.vjp(f, X)

        def step(_, v):
            v = pull(jax.jvp(f, (X,), (v,))[1])[0]
            return v / jnp.sqrt((v**2).sum())

        v = jax.lax.fori_loop(0, steps, step, v)
        return jnp.sqrt((jax.jvp(f, (X,), (v,))[1] ** 2).sum())

    v = jax.random.normal(jax.random.key(0), states[0].shape, states.dtype)
    return np.asarray([float(norm(gpt.block(l), X, v)) for l, X in enumerate(states)])
