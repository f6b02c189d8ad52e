"""Measures of agreement on cases known by hand."""

import numpy as np
import pytest

from steerax.experiments.compare.agreement import agree, correlation


def test_agreement_is_one_for_the_same_ranking_and_chance_for_unrelated_ones():
    rng = np.random.default_rng(0)
    a, b = (np.tril(rng.random((201, 200)), -1) for _ in range(2))
    same = agree("a", a, "a squared", a**2)
    assert (same.same_strongest, same.overlap, round(same.rank_correlation, 12)) == (1.0, 1.0, 1.0)
    other = agree("a", a, "b", b)
    assert abs(other.overlap - other.overlap_by_chance) < 0.03
    assert abs(other.rank_correlation) < 0.05
    assert agree("a", a, "-a", -a).correlation == pytest.approx(-1)


def test_agreement_ranks_sizes_and_correlation_keeps_signs_and_a_constant_has_none():
    a = np.tril(np.random.default_rng(1).normal(size=(41, 40)), -1)
    turned = agree("a", a, "-a", -a)
    assert (turned.same_strongest, turned.overlap, round(turned.rank_correlation, 12)) == (1.0, 1.0, 1.0)
    assert turned.correlation == pytest.approx(-1)
    assert np.isnan(correlation(a[1:3, 0], np.ones(2)))
