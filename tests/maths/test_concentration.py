"""Deviation bounds: closed forms, coverage by exact binomial probabilities, and what they refuse."""

import math

import numpy as np
import pytest
import scipy.stats
from maths_oracles import log_covering_of_ball

from steerax import ConfigurationError
from steerax.maths import concentration as c


def binomial_coverage(width: float, number: int, p: float) -> float:
    """P(|mean - p| <= width) for a Bernoulli average, exactly."""
    k = np.arange(number + 1)
    inside = np.abs(k / number - p) <= width
    return float(scipy.stats.binom.pmf(k, number, p)[inside].sum())


@pytest.mark.parametrize("p", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("number", [10, 300])
def test_hoeffding_covers_every_bernoulli_average(p, number):
    for delta in (0.2, 0.05, 0.001):
        assert binomial_coverage(c.hoeffding(1.0, number, delta), number, p) >= 1 - delta


def test_half_the_range_breaks_the_coverage():
    width = c.hoeffding(0.5, 400, 0.05)  # the true range is 1
    assert binomial_coverage(width, 400, 0.5) < 0.95


def test_hoeffding_is_within_a_factor_of_the_true_quantile():
    number, p = 400, 0.5
    k = np.arange(number + 1)
    deviation = np.abs(k / number - p)
    order = np.argsort(deviation)
    mass = np.cumsum(scipy.stats.binom.pmf(k, number, p)[order])
    quantile = deviation[order][np.searchsorted(mass, 0.95)]
    assert 1 <= c.hoeffding(1.0, number, 0.05) / quantile < 1.6


def test_empirical_bernstein_covers_and_wins_for_small_variance():
    number, p, delta = 2000, 0.001, 0.05
    k = np.arange(number + 1)
    pmf = scipy.stats.binom.pmf(k, number, p)
    mean = k / number
    variance = mean * (1 - mean) * number / (number - 1)
    widths = np.array([c.empirical_bernstein(float(v), 1.0, number, delta) for v in variance])
    assert pmf[np.abs(mean - p) <= widths].sum() >= 1 - delta
    assert pmf @ widths < c.hoeffding(1.0, number, delta)


def test_finite_class_is_the_union_bound():
    # M copies of Hoeffding at δ/M
    M = 37
    assert c.finite_class(2.0, 50, 0.1, math.log(M)) == pytest.approx(c.hoeffding(2.0, 50, 0.1 / M))


def test_realisable_is_the_exact_exponent():
    # a hypothesis of error e survives N samples with probability (1-e)^N <= exp(-Ne) = δ/M at the bound
    M, N, delta = 1000, 500, 0.05
    e = c.realisable(N, delta, math.log(M))
    assert M * math.exp(-N * e) == pytest.approx(delta)


def test_metric_entropy_takes_the_best_radius():
    covering = lambda r: log_covering_of_ball(3, 1.0, r)
    radii = [10.0**k for k in range(-6, 1)]
    width, radius = c.metric_entropy(1.0, 10_000, 0.05, 2.0, covering, radii)
    each = [4 * r + c.finite_class(1.0, 10_000, 0.05, covering(r)) for r in radii]
    assert width == min(each)
    assert radii[int(np.argmin(each))] == radius


def test_covering_number_of_the_interval():
    # in one dimension R/η balls (rounded up) cover [-R, R]; the bound must not be smaller
    for eta in (0.5, 0.1, 0.003):
        assert log_covering_of_ball(1, 1.0, eta) >= math.log(math.ceil(1 / eta))


def test_affordable_bits_invert_the_counted_class():
    bits = c.affordable_bits(0.5, 3.0, 4000, 0.05)
    assert c.finite_class(3.0, 4000, 0.05, bits * math.log(2)) == pytest.approx(0.5)
    assert c.affordable_bits(0.01, 3.0, 10, 0.05) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: c.hoeffding(-1.0, 10, 0.05),
        lambda: c.hoeffding(math.inf, 10, 0.05),
        lambda: c.hoeffding(1.0, 0, 0.05),
        lambda: c.hoeffding(1.0, 10, 1.0),
        lambda: c.finite_class(1.0, 10, 0.05, -1.0),
        lambda: c.realisable(10, 0.05, -1.0),
        lambda: c.empirical_bernstein(0.1, 1.0, 1, 0.05),
        lambda: c.empirical_bernstein(-0.1, 1.0, 10, 0.05),
        lambda: c.metric_entropy(1.0, 10, 0.05, 1.0, lambda r: 0.0, []),
        lambda: c.affordable_bits(0.0, 1.0, 10, 0.05),
    ],
)
def test_rejects_what_cannot_be(call):
    with pytest.raises(ConfigurationError):
        call()
