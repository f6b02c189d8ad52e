r"""How far an average of $N$ independent bounded terms can be from its mean, with probability at least $1-\delta$.

Every function returns the two-sided width $w$ in $P(|\frac1N\sum_i\ell_i-\mathbb E\ell|\ge w)\le\delta$, in the units
of the loss, for losses in an interval of length $B$ ("range"). $N$ counts *independent* terms: documents, not
overlapping windows. Numbers in, number out; nothing here knows where the losses come from.
"""

import math
from collections.abc import Callable, Sequence

from .._errors import ConfigurationError


def _check(width: float, number: int, delta: float, log_size: float = 0.0) -> None:
    r"""**Raises:** `ConfigurationError` for a negative range, an empty sample or class, or $\delta$ outside $(0,1)$."""
    if not (width >= 0 and math.isfinite(width)):
        raise ConfigurationError(f"The range of the loss is {width}; it must be finite and not negative.")
    if number < 1:
        raise ConfigurationError(f"The sample has {number} independent terms; at least one is needed.")
    if not 0 < delta < 1:
        raise ConfigurationError(f"delta is {delta}; the probability of failure lies strictly between 0 and 1.")
    if log_size < 0:
        raise ConfigurationError(f"The class has log size {log_size}; it holds at least one control, so this is >= 0.")


def hoeffding(width: float, number: int, delta: float) -> float:
    r"""Deviation for one fixed control: $w=B\sqrt{\log(2/\delta)/2N}$ (Hoeffding 1963)."""
    return finite_class(width, number, delta, 0.0)


def finite_class(width: float, number: int, delta: float, log_size: float) -> float:
    r"""Deviation uniform over $M$ controls, union bound: $w=B\sqrt{(\log M+\log(2/\delta))/2N}$.

    `log_size` is $\log M$ in nats; the class is fixed before the sample is seen.
    """
    _check(width, number, delta, log_size)
    return width * math.sqrt((log_size + math.log(2 / delta)) / (2 * number))


def empirical_bernstein(variance: float, width: float, number: int, delta: float) -> float:
    r"""Deviation for one fixed control from the sample variance $\hat\sigma^2$ (divisor $N-1$).

    $w=\sqrt{2\hat\sigma^2\log(4/\delta)/N}+7B\log(4/\delta)/3(N-1)$: Maurer and Pontil 2009, Theorem 4, on both sides.
    Needs two terms.
    """
    _check(width, number, delta)
    if number < 2:
        raise ConfigurationError("The empirical Bernstein bound needs at least two independent terms.")
    if variance < 0:
        raise ConfigurationError(f"The sample variance is {variance}; it cannot be negative.")
    nats = math.log(4 / delta)
    return math.sqrt(2 * variance * nats / number) + 7 * width * nats / (3 * (number - 1))


def metric_entropy(
    width: float,
    number: int,
    delta: float,
    lipschitz: float,
    log_covering: Callable[[float], float],
    radii: Sequence[float],
) -> tuple[float, float]:
    r"""Deviation uniform over a compact set of controls, and the radius that gives it.

    $w=\min_\eta\ 2L_\theta\eta+B\sqrt{(\log\mathcal N(\eta)+\log(2/\delta))/2N}$, where the loss is $L_\theta$-Lipschitz
    in the control and $\mathcal N(\eta)$ balls of radius $\eta$ cover the set. `radii` is a grid fixed in advance; every
    one of them gives a valid bound.
    """
    if not radii or min(radii) <= 0:
        raise ConfigurationError("metric_entropy needs a grid of positive covering radii.")
    found = [(2 * lipschitz * r + finite_class(width, number, delta, log_covering(r)), r) for r in radii]
    return min(found)


def realisable(number: int, delta: float, log_size: float) -> float:
    r"""Error of any member of a class of $M$ that makes no mistake on the sample: $(\log M+\log(1/\delta))/N$."""
    _check(1.0, number, delta, log_size)
    return (log_size + math.log(1 / delta)) / number


def affordable_bits(gap: float, width: float, number: int, delta: float) -> float:
    r"""Bits a description of the control may have so that the counted-class deviation stays below `gap`.

    $\big(2N(\mathrm{gap}/B)^2-\log(2/\delta)\big)/\log2$, or 0 if even a single control is too many.
    """
    _check(width, number, delta)
    if gap <= 0 or width == 0:
        raise ConfigurationError("affordable_bits needs a positive gap and a loss with positive range.")
    return max(0.0, 2 * number * (gap / width) ** 2 - math.log(2 / delta)) / math.log(2)
