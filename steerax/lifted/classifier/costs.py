r"""What wrong labels cost, in integers without rounding.

Row $i$ with weight $w_i$, class weight $g_{y_i}$ and cost matrix $M$ costs $c_{ik}=w_ig_{y_i}M_{y_ik}$ if it is labelled $k$.
Every number is read as the decimal fraction it prints as; the costs are multiplied by their smallest common denominator.
A test costs $\lambda$, the share `sparsity` of $\sum_i\max_kc_{ik}$. The objective is an integer; cost 1 is `unit` of it.
"""

import math
import numbers
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError, DataError

LARGEST = 2**52  # of all sums of costs


@dataclass(frozen=True, eq=False)
class Costs:
    """**Attributes:** `of [N K]`, integers; `scale`, what stands for cost 1 among them; `share`, the sparsity, exactly."""

    of: Int[np.ndarray, "N K"]
    scale: Fraction
    share: Fraction

    @property
    def multiple(self) -> int:
        """What a cost is multiplied by in the objective, so that the price of a test is whole."""
        return self.share.denominator

    @property
    def price(self) -> int:
        """λ in the objective."""
        return self.share.numerator * int(self.of.max(1).sum()) if self.of.size else 0

    @property
    def unit(self) -> Fraction:
        """What stands for cost 1 in the objective."""
        return self.scale * self.multiple


def exact(number: Any, what: str) -> Fraction:
    """The decimal fraction that a number prints as. **Raises:** `ConfigurationError` if it is negative or not finite."""
    try:
        if isinstance(number, (bool, str)) or not isinstance(number, (numbers.Real, Fraction)):
            raise ValueError
        value = Fraction(str(number))
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{what} holds {number!r}; it must be a finite number of at least 0.") from None
    if value < 0:
        raise ConfigurationError(f"{what} holds {number!r}; it must not be negative.")
    return value


def integer_costs(
    labels: Int[np.ndarray, " N"],
    classes: Any,
    sparsity: float | int | Fraction,
    sample_weight: Any = None,
    class_weight: Any = None,
    cost_matrix: Any = None,
) -> Costs:
    """The integer costs of labels 0..K−1 that stand for `classes`.

    **Arguments:** `sample_weight [N]`; `class_weight`, "balanced" or a dictionary class → weight (1 where it is silent); `cost_matrix [K K]`,
    the cost of answering column k for class y, 0 on the diagonal for no cost.

    **Raises:** `ConfigurationError`, also where no common denominator keeps the sum of all costs below 2**52.
    """
    N, K = len(labels), len(classes)
    weights = _fractions(np.ones(N, int) if sample_weight is None else sample_weight, (N,), "sample_weight")
    matrix = _fractions(1 - np.eye(K, dtype=int) if cost_matrix is None else cost_matrix, (K, K), "cost_matrix")
    by_class = _class_weights(labels, classes, weights, class_weight)
    table = [[by_class[y] * matrix[y * K + k] for k in range(K)] for y in range(K)]
    used = [value for row in table for value in row]
    denominator = math.lcm(*(value.denominator for value in used)) * math.lcm(*{w.denominator for w in weights})
    whole = np.array([[int(v * denominator) for v in row] for row in table], object).reshape(K, K)
    factors = np.array([Fraction(w) for w in weights], object)
    costs = (whole[labels] * factors[:, None]) if N else np.zeros((0, K), object)
    common = math.gcd(*(int(v) for row in costs for v in row)) or 1
    total = sum(max(row) for row in costs) // common if N else 0
    share = exact(sparsity, "sparsity")
    if total * share.denominator * 4 >= LARGEST:
        raise ConfigurationError(
            "The weights and costs have no common denominator that keeps their sum small enough for exact integers "
            f"(it would be {int(total):.1e}); round them to a few digits, for example with numpy.round(weights, 3)."
        )
    return Costs(
        np.array([[int(v // common) for v in row] for row in costs], np.int64).reshape(N, K),
        Fraction(denominator, common),
        share,
    )


def _fractions(values: Any, shape: tuple[int, ...], what: str) -> list[Fraction]:
    array = np.asarray(values)
    if array.shape != shape:
        raise ConfigurationError(f"{what} has the shape {array.shape}; it must be {shape}.")
    known: dict[Any, Fraction] = {}
    return [known[v] if v in known else known.setdefault(v, exact(v, what)) for v in array.ravel()]


def _class_weights(labels: np.ndarray, classes: Any, weights: list[Fraction], class_weight: Any) -> list[Fraction]:
    """A weight for each class, normalised so that no denominator is larger than it must be."""
    K = len(classes)
    if class_weight is None:
        return [Fraction(1)] * K
    if isinstance(class_weight, str) and class_weight == "balanced":
        mass = [Fraction(0)] * K
        for y, w in zip(labels.tolist(), weights, strict=True):
            mass[y] += w
        if not all(mass):
            raise DataError('class_weight="balanced" needs rows with positive weight of every class.')
        return [sum(mass) / (K * m) for m in mass]  # pyright: ignore[reportReturnType]
    if not isinstance(class_weight, dict):
        raise ConfigurationError(f'class_weight={class_weight!r}: give None, "balanced" or a dictionary of classes.')
    known = {c.item() if hasattr(c, "item") else c for c in classes}
    foreign = [name for name in class_weight if (name.item() if hasattr(name, "item") else name) not in known]
    if foreign:
        raise ConfigurationError(f"class_weight speaks of {foreign[0]!r}, which is not among the classes.")
    return [exact(class_weight.get(c, 1), "class_weight") for c in classes]
