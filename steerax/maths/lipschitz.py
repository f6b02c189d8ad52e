r"""Lipschitz constants that know whether they are proven, and how errors travel through layers.

A *certified* number is an upper bound that a proof stands behind; an *estimated* one was measured on a sample, so it
bounds nothing. They are different types: sums and products of certified numbers are certified, and one estimated term
makes the whole estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .._errors import ConfigurationError


@dataclass(frozen=True)
class _Constant:
    """A finite number ≥ 0 and where it comes from."""

    value: float
    source: str

    def __post_init__(self):
        if not 0 <= self.value < float("inf"):
            raise ConfigurationError(f"A bound is a finite number ≥ 0, not {self.value} ({self.source}).")

    def __float__(self) -> float:
        return float(self.value)

    def __add__(self, other: "Bound | float") -> "Bound":
        return _combine(self, other, float(self) + float(other))

    def __mul__(self, other: "Bound | float") -> "Bound":
        return _combine(self, other, float(self) * float(other))

    __radd__, __rmul__ = __add__, __mul__


@dataclass(frozen=True)
class Certified(_Constant):
    """An upper bound with a proof. **Attributes:** `value`; `source`, the theorem or formula."""


@dataclass(frozen=True)
class Estimated(_Constant):
    """A sampled value, described by `source`; it can underestimate the true constant, so it certifies nothing."""

    @classmethod
    def largest(cls, ratios: Sequence[float], source: str) -> "Estimated":
        """The largest of the observed ratios $|f(x)-f(y)|/|x-y|$."""
        if len(ratios) == 0:
            raise ConfigurationError("An estimate needs at least one observed ratio.")
        return cls(float(max(ratios)), source)


Bound = Certified | Estimated


def _combine(a: _Constant, b: _Constant | float, value: float) -> Bound:
    kind = Estimated if isinstance(a, Estimated) or isinstance(b, Estimated) else Certified
    sources = a.source.split("; ") + (b.source.split("; ") if isinstance(b, _Constant) else [])
    return kind(value, "; ".join(dict.fromkeys(sources)))


def attention_lipschitz(radius: float, score: float, value: float, residual: bool = True) -> Certified:
    r"""Lipschitz constant of a softmax-attention layer in the largest-token norm $\max_i|x_i|$.

    For tokens in the ball of radius $R$, scores $x^\top Ay$ and values $Vy$,
    $$\mathrm{Lip}\le\|V\|(1+2R^2\|A\|)\;(+1\text{ with a residual connection}),$$
    whatever the number of tokens: tokens moved by $\epsilon$ move every score by at most $2R\|A\|\epsilon$, and the
    mean moves by the covariance, under the attention weights, of tokens (deviation ≤ $R$) and score changes.

    **Arguments:** `radius` $R$; `score` $\|A\|$ and `value` $\|V\|$, operator norms (upper bounds of them).
    """
    for name, number in (("radius", radius), ("score", score), ("value", value)):
        if number < 0:
            raise ConfigurationError(f"The {name} is a norm and cannot be {number}.")
    return Certified(value * (1 + 2 * radius**2 * score) + residual, "attention on a ball: ‖V‖(1 + 2R²‖A‖)")


def propagate(initial: float, layers: Sequence[tuple[Bound | float, Bound | float]]) -> Bound:
    r"""How far two runs of a network drift apart: $e_{t+1}=L_te_t+c_t$ from $e_0=$ `initial`.

    **Arguments:** `layers`, one pair $(L_t,c_t)$ a layer: its Lipschitz constant in the state, and what is newly made
    wrong there (for weights moved by $\alpha_t$ and a state rounded by $\delta_t$: $c_t=M_t\alpha_t+\delta_t$).
    Plain numbers count as certified. Returns $e_L$, certified if every term is.
    """
    error: Bound = Certified(initial, "e₀")
    for slope, added in layers:
        error = error * slope + added
    return error
