"""Forecasts are what the filter says when the coming tokens are missing."""

import numpy as np
import oracles
import pytest

import steerax as sx

RNG = np.random.default_rng(0)
MU, A, C = oracles.sparse_hmm(RNG, 3, 4, 0.3)
HMM = sx.HiddenMarkovModel(MU, A, C)
Z = oracles.draw(RNG, MU, A, C, 7)


def test_a_forecast_is_the_filter_with_missing_tokens():
    f = sx.forecast(HMM, Z, 3)
    r = sx.filter(HMM, np.append(Z, [-1, -1]))
    np.testing.assert_allclose(f.states, r.predicted[-3:], atol=1e-15)
    np.testing.assert_allclose(f.probabilities, r.predicted[-3:] @ C, atol=1e-15)


def test_each_sequence_is_forecast_from_its_own_end():
    f = sx.forecast(HMM, sx.Sequences.from_arrays([Z, Z[:4]]), 2)
    for i, part in enumerate((Z, Z[:4])):
        np.testing.assert_allclose(f.probabilities[i], sx.forecast(HMM, part, 2).probabilities, atol=1e-15)


def test_intervals_are_the_smallest_sets_that_cover():
    f = sx.forecast(HMM, Z, 3)
    p, inside = np.asarray(f.probabilities), np.asarray(f.interval(0.6))
    for row, chosen in zip(p, inside, strict=True):
        assert row[chosen].sum() >= 0.6 - 1e-12
        assert row[chosen].sum() - row[chosen].min() < 0.6
        assert not (~chosen).any() or row[chosen].min() >= row[~chosen].max()
    assert np.asarray(f.interval(1.0))[p > 0].all()


def test_forecast_rejects_what_it_cannot_do():
    with pytest.raises(sx.ConfigurationError, match="steps is 0"):
        sx.forecast(HMM, Z, 0)
    with pytest.raises(sx.ConfigurationError, match="forecast takes a HiddenMarkovModel"):
        sx.forecast("model", Z, 1)
    with pytest.raises(sx.ConfigurationError, match="coverage"):
        sx.forecast(HMM, Z, 1).interval(0.0)
