"""How many non-negative lag profiles: known factorisations, and a search of every profile on a grid."""

import itertools

import numpy as np
import pytest

from steerax.beliefs.heads import missed_by_heads

M = np.array([[1.0, -2.0, 0.5], [0.3, 0.4, -0.7]])
P = np.array([0.5, 0.3, 0.2])


def weights(profile, matrices=(M,)):
    """Lags `[T d V]` with these profiles from lag 1 on; the lag 0 is something else."""
    profile = np.reshape(profile, (len(matrices), -1))
    return np.concatenate([np.full((1, 2, 3), 7.0), np.einsum("hk,hij->kij", profile, np.array(matrices))])


@pytest.mark.parametrize("profile", [[1.0], [1, 0.5, 0.25, 0.1], [0, 0, 2, 0.0], [3, 0, 1, 0, 2.0]])
def test_one_profile_of_one_sign_needs_one_head(profile):
    assert missed_by_heads(weights(profile), P, 1) < 1e-12
    assert missed_by_heads(-weights(profile), P, 1) < 1e-12


def test_an_alternating_profile_needs_two():
    a = (-0.8) ** np.arange(8)
    missed = missed_by_heads(weights(a), P, 1)
    assert missed == pytest.approx((a[1::2] ** 2).sum() / (a**2).sum(), abs=1e-9)  # the weaker sign is given up
    assert missed_by_heads(weights(a), P, 2) < 1e-12


def test_two_matrices_need_two_heads():
    N = np.array([[0.0, 1.0, 1.0], [2.0, 0.0, -1.0]])
    lags = weights([[1, 0.5, 0.25, 0.125], [0.1, 0.7, 0.1, 0.9]], (M, N))
    assert missed_by_heads(lags, P, 1) > 0.05
    assert missed_by_heads(lags, P, 2) < 1e-6


def test_a_search_of_every_profile_finds_nothing_better():
    rng = np.random.default_rng(0)
    for _ in range(5):
        lags = rng.normal(size=(4, 2, 3))
        Y = (lags[1:] * np.sqrt(P)).reshape(3, -1)
        angle = np.linspace(0, np.pi / 2, 201)
        a = np.stack([np.cos(angle)[:, None] * np.cos(angle), np.cos(angle)[:, None] * np.sin(angle),
                      np.sin(angle)[:, None] + 0 * angle]).reshape(3, -1)  # fmt: skip
        best = 1 - ((a.T @ Y) ** 2).sum(1).max() / (Y**2).sum()
        found = missed_by_heads(lags, P, 1, tries=30)
        assert best - 1e-3 < found < best + 1e-6


def test_more_heads_miss_less_and_tokens_weigh_by_their_frequency():
    lags = np.random.default_rng(1).normal(size=(6, 2, 3))
    missed = [missed_by_heads(lags, P, n) for n in range(1, 6)]
    assert all(more <= fewer + 1e-9 for fewer, more in itertools.pairwise(missed))
    assert missed[4] < 1e-9  # as many as lags
    scaled = missed_by_heads(lags * np.sqrt(P), np.ones(3), 2)
    assert scaled == pytest.approx(missed[1], abs=1e-12)


@pytest.mark.parametrize("lags", [np.zeros((5, 2, 3)), np.ones((1, 2, 3))])
def test_nothing_is_missed_where_nothing_is_read(lags):
    assert missed_by_heads(lags, P, 1) == 0
