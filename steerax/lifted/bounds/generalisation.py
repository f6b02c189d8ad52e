r"""How far the error on the sample can be from the error on the population, for a counted finite class.

The class is counted on the whole input domain or as parameter settings, never on the sample.
"""

import math
from dataclasses import dataclass

from ..._errors import ConfigurationError
from ...maths import concentration
from ...maths.lipschitz import Certified


@dataclass(frozen=True)
class GeneralisationBound:
    """With the confidence asked for, the population error of *every* network of the class lies within `width` of its
    sample error (`realisable`: of those without sample error, below `width`). `vacuous` if the width is 1 or more."""

    width: Certified
    realisable: bool

    @property
    def vacuous(self) -> bool:
        """Whether the bound says nothing."""
        return self.width.value >= 1


def generalisation_bound(
    class_size: int, samples: int, error_probability: float = 0.05, realisable: bool = False
) -> GeneralisationBound:
    r"""$\sqrt{(\ln|F|+\ln\frac2\eta)/2N}$ uniformly over the class, or $(\ln|F|+\ln\frac1\eta)/N$ if `realisable`.

    **Arguments:** `class_size` |F|; `samples` N, independent sequences; `error_probability` η.
    """
    if class_size < 1 or samples < 1 or not 0 < error_probability < 1:
        raise ConfigurationError("A bound needs a class, a sample and an error probability between 0 and 1.")
    if realisable:
        width = concentration.realisable(samples, error_probability, math.log(class_size))
    else:
        width = concentration.finite_class(1.0, samples, error_probability, math.log(class_size))
    return GeneralisationBound(Certified(width, "union bound over a finite class"), realisable)
