"""Affine read-outs against `numpy.linalg.lstsq`, halves against sets of strings, errors against the bootstrap."""

import numpy as np
import pytest

from steerax.beliefs.readout import fit_map, folds_of, held_out, score_of

RNG = np.random.default_rng(0)


def test_a_map_is_weighted_least_squares():
    X, Y, w = RNG.normal(size=(50, 4)) + 3, RNG.normal(size=(50, 2)), RNG.random(50)
    root = np.sqrt(w)[:, None]
    with_one = np.concatenate([X, np.ones((50, 1))], 1)
    best = np.linalg.lstsq(root * with_one, root * Y, rcond=None)[0]
    found = fit_map(X, Y, w)
    np.testing.assert_allclose(found(X), with_one @ best, atol=1e-10)
    np.testing.assert_allclose(found.weight, best[:-1], atol=1e-10)


def test_directions_below_the_cutoff_are_not_used():
    U = np.linalg.qr(RNG.normal(size=(60, 3)) - 0)[0]
    U -= U.mean(0)
    U = np.linalg.qr(U)[0]
    X = U * [1.0, 0.1, 0.001]
    Y = U.sum(1)[:, None]
    for cutoff, kept in ((0.5, 1), (0.01, 2), (1e-4, 3)):
        weight = fit_map(X, Y, np.ones(60), cutoff).weight[:, 0]
        np.testing.assert_allclose(weight, np.where(np.arange(3) < kept, [1, 10, 1000], 0), atol=1e-6)


def test_halves_keep_equal_strings_together():
    strings = RNG.integers(0, 2, (200, 4))
    half = folds_of(strings, 3)
    of = [{tuple(z) for z in strings[fold]} for fold in (half, ~half)]
    assert not of[0] & of[1]
    assert min(len(part) for part in of) == 8
    assert (folds_of(strings, 3) == half).all()
    assert (folds_of(strings, 4) != half).any()


def test_every_string_is_predicted_by_the_others():
    X, Y, w = RNG.normal(size=(20, 3, 2)), RNG.normal(size=(20, 3, 1)), np.ones((20, 3))
    half = np.arange(20) % 2 == 0
    found = held_out(X, Y, w, half)
    changed = Y.copy()
    changed[half] = 100  # what a half is predicted by does not see its own targets
    again = held_out(X, changed, w, half)
    np.testing.assert_array_equal(again[half], found[half])
    assert (again[~half] != found[~half]).all()
    with_one = np.concatenate([X, np.ones((20, 3, 1))], 2)
    best = np.linalg.lstsq(with_one[~half].reshape(-1, 3), Y[~half].reshape(-1, 1), rcond=None)[0]
    np.testing.assert_allclose(found[half], with_one[half] @ best, atol=1e-10)


def test_scores_by_hand():
    Y = np.array([[[0.0], [2.0]], [[4.0], [2.0]]])
    found = Y + np.array([[[1.0], [0.0]], [[0.0], [-1.0]]])
    score = score_of(found, Y, np.ones((2, 2)))
    assert score.r2 == pytest.approx(1 - 2 / 8)
    assert score.rmse == pytest.approx(np.sqrt(2 / 4))
    assert score.by_position[0] == pytest.approx(1 - 1 / 8)
    assert np.isnan(score.by_position[1])
    halved = score_of(found, Y, np.array([[1.0, 1], [1, 0]]))
    mean = 2.0
    assert halved.r2 == pytest.approx(1 - 1 / (((Y.ravel()[:3] - mean) ** 2).sum()))
    nothing = score_of(found, np.full_like(Y, 2.0), np.ones((2, 2)))
    assert np.isnan(nothing.r2)
    assert np.isnan(nothing.error)


def test_the_standard_error_is_that_of_the_bootstrap():
    n = 300
    Y = RNG.normal(size=(n, 4, 2)) * (1 + RNG.random((n, 1, 1)))
    found = Y + 0.5 * RNG.normal(size=Y.shape) * (1 + 2 * RNG.random((n, 1, 1)))
    score = score_of(found, Y, np.ones((n, 4)))
    drawn = []
    for _ in range(600):
        rows = RNG.integers(0, n, n)
        drawn.append(score_of(found[rows], Y[rows], np.ones((n, 4))).r2)
    assert score.error == pytest.approx(np.std(drawn), rel=0.15)
