r"""Both sides of the near-optimality theorem of the quantised problem, measured on a continuous instance.

Tokens $x\in[-1,1]$, layers $x_i\leftarrow\mathrm{clip}(x_i+v\sum_j\mathrm{softmax}_j(a\,x_ix_j)\,x_j)$ with $|a|\le A$,
$|v|\le1$; the first token is compared with a label, $\ell=|x_0-y|$; weighted sequences. The labels come from a teacher
inside the box, so the continuous optimum is $J^*=0$ exactly. Quantising states, weights and the distribution with mesh $h$ gives
a finite problem whose optimum $J_h$ must lie within a computable bound of $J^*$ ([AkmanSaldiYuksel2026]).
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from ..._errors import ConfigurationError
from ...maths.lipschitz import Bound, Certified, attention_lipschitz, propagate
from ..problem.quantisers import nearest_type, uniform

A, V = 2.0, 1.0  # |a| ≤ A, |v| ≤ V
_LARGEST_LOSS = 2.0  # |x₀ - y| on [-1, 1]


@dataclass(frozen=True, eq=False)
class Instance:
    """Sequences `x [N n]`, their distribution `p [N]` and labels `y [N]`; `teacher` = (a₁, v₁, a₂, v₂)."""

    x: Float[np.ndarray, "N n"]
    p: Float[np.ndarray, "N"]
    y: Float[np.ndarray, "N"]
    teacher: Float[np.ndarray, "4"]

    @classmethod
    def random(cls, number: int = 12, length: int = 3, seed: int = 3) -> "Instance":
        """Random sequences and weights; an irrational teacher, so that no grid contains it."""
        rng = np.random.default_rng(seed)
        x, p = rng.uniform(-1, 1, (number, length)), rng.dirichlet(np.ones(number))
        teacher = np.array([0.9 * np.sqrt(2), -0.61803, -np.pi / 3, np.sqrt(3) - 1])
        return cls(x, p, _first_tokens(x, teacher, 0.0), teacher)

    def cost(self, weights: Float[np.ndarray, "4"]) -> float:
        """J of a network in the continuous problem."""
        return float(self.p @ np.abs(_first_tokens(self.x, weights, 0.0) - self.y))


@dataclass(frozen=True)
class Gap:
    """One mesh: `value` J_h, `gap` |J* - J_h|, `loss` J(policy) - J*, `bound` of the gap (the loss: twice that), and
    `actions_only`, the gap if only the weights are quantised."""

    mesh: float
    value: float
    gap: float
    loss: float
    bound: Bound
    actions_only: float


def measure(instance: Instance, bits: int) -> Gap:
    """Solve the finite problem of mesh $2^{-bits}$ exactly and compare it with the continuous one."""
    if not 1 <= bits <= 7:
        raise ConfigurationError(f"bits={bits}: choose 1 to 7; the work grows like 16**bits.")
    scores, values = uniform(bits, A), uniform(bits, V)
    step = 2.0**-bits
    p = nearest_type(instance.p, int(4 / step)) / (4 / step)
    a, v = scores.codebook[:, 0], values.codebook[:, 0]
    value, policy = _optimum(instance.x, p, instance.y, a, v, step)
    nested, _ = _optimum(instance.x, instance.p, instance.y, a, v, 0.0)
    slope = attention_lipschitz(1.0, A, V)
    rounding = Certified(step / 2, "states rounded to the mesh")
    # |∂F/∂a| ≤ |v| |x| Var(x) ≤ V and |∂F/∂v| ≤ 1 on [-1, 1]
    new = V * scores.radius + 1.0 * values.radius + rounding
    distribution = Certified(float(np.abs(p - instance.p).sum() / 2), "total variation of the type")
    bound = propagate(rounding.value, [(slope, new), (slope, new)]) + _LARGEST_LOSS * distribution
    return Gap(step, value, abs(value), instance.cost(policy), bound, nested)


@njit(cache=True)
@no_type_check
def _attend(x, a, i):
    """Softmax attention of token i over one sequence."""
    top = -np.inf
    for xj in x:
        top = max(top, a * x[i] * xj)
    mass = total = 0.0
    for xj in x:
        w = np.exp(a * x[i] * xj - top)
        mass += w
        total += w * xj
    return total / mass


@njit(cache=True)
@no_type_check
def _round(x, step):
    """Clip to [-1, 1] and, unless step is 0, round to the mesh."""
    x = min(max(x, -1.0), 1.0)
    return np.floor(x / step + 0.5) * step if step > 0 else x


@njit(cache=True)
@no_type_check
def _first_tokens(x, weights, step):
    """The first token of every sequence after both layers."""
    N, n = x.shape
    out, h, k = np.empty(N), np.empty(n), np.empty(n)
    for s in range(N):
        for i in range(n):
            h[i] = _round(x[s, i], step)
        for l in range(2):
            for i in range(n):
                k[i] = _round(h[i] + weights[2 * l + 1] * _attend(h, weights[2 * l], i), step)
            h[:] = k
        out[s] = h[0]
    return out


@njit(cache=True)
@no_type_check
def _optimum(x, p, y, scores, values, step):
    """The exact optimum of the finite problem: every first layer, then the last layer in closed loops with early exit."""
    N, n = x.shape
    start, h, z = np.empty((N, n)), np.empty((N, n)), np.empty((len(scores), N))
    best, weights = np.inf, np.zeros(4)
    for s in range(N):
        for i in range(n):
            start[s, i] = _round(x[s, i], step)
    for a in scores:
        for v in values:
            for s in range(N):
                for i in range(n):
                    h[s, i] = _round(start[s, i] + v * _attend(start[s], a, i), step)
            for c in range(len(scores)):
                for s in range(N):
                    z[c, s] = _attend(h[s], scores[c], 0)
            for c in range(len(scores)):
                for u in values:
                    cost = 0.0
                    for s in range(N):
                        cost += p[s] * abs(_round(h[s, 0] + u * z[c, s], step) - y[s])
                        if cost >= best:
                            break
                    if cost < best:
                        best = cost
                        weights = np.array([a, v, scores[c], u])
    return best, weights
