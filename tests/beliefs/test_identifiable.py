"""The interval of rates that nobody could tell apart."""

import numpy as np
import pytest

import steerax as sx
from steerax.beliefs import identifiable, second_moments, wiener


def losses(model, rates):
    """The same loss for a few rates, for a symmetric chain of two states by one principal number, from another sample."""
    filter = wiener(model, 12)
    p0, operators, w = (np.asarray(a, np.float64) for a in filter.model.arrays)
    strings = np.asarray(sx.sample_sequences(filter.model, 7, 40_000, 12).values)
    belief = np.broadcast_to(p0, (len(strings), 2))
    for t in range(12):
        belief = np.einsum("ni,nij->nj", belief, operators[strings[:, t]])
        belief = belief / belief.sum(1, keepdims=True)
    exact = belief @ (operators @ w).T
    out = []
    for r in rates:
        score = sum(r ** (k - 1) * (strings[:, -1 - k] - 0.5) for k in range(1, 12))
        order = np.argsort(score + 1e3 * strings[:, -1])
        cells = np.array_split(order, 200)  # by the last token first, then along the score
        mean = np.concatenate([np.broadcast_to(exact[c].mean(0), (len(c), 2)) for c in cells])
        out.append((exact[order] * np.log(exact[order] / mean)).sum(1).mean())
    return np.array(out)


@pytest.mark.slow
def test_rates_inside_lose_less_than_rates_outside(monkeypatch):
    monkeypatch.setattr(identifiable, "_LENGTH", 12)
    monkeypatch.setattr(second_moments, "_share_of_exact", lambda *_: (1.0, 0.0))
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.05, 0.95]], [[0.85, 0.15], [0.15, 0.85]])
    filter = wiener(model, 12)
    low, high = identifiable.identifiable_rates(filter.model, filter.lags[1], 1.0, 1e-3, 20_000)
    assert low <= filter.rate <= high
    assert high < 0.9
    inside, outside = losses(model, [filter.rate])[0], losses(model, [high + 0.15, low - 0.2])
    assert (outside > inside + 3e-4).all()


@pytest.mark.slow
def test_mess3_where_the_rate_can_be_told_and_where_not():
    flat = wiener(sx.models.mess3(0.15, 0.6), 16)
    assert flat.interval is not None
    assert flat.interval[1] - flat.interval[0] > 0.2
    assert not flat.is_identifiable
    sharp = wiener(sx.models.mess3(0.05, 0.6), 16)
    assert sharp.interval is not None
    low, high = sharp.interval
    assert low - 0.025 <= sharp.rate <= high + 0.025  # the grid is .025 wide
    assert high < sharp.eigenvalues[0].real
    assert high - low <= 0.2
    assert sharp.is_identifiable


def test_no_interval_is_given_where_no_single_rate_is_meant(monkeypatch):
    monkeypatch.setattr(second_moments, "_share_of_exact", lambda *_: (1.0, 0.0))
    filter = wiener(sx.models.random_quantum(3), 4)
    assert filter.interval is None
    assert not filter.is_identifiable
    assert wiener(sx.models.mess3(), 1).interval is None
