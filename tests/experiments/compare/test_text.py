"""Sentences of a comparison that are computed."""

import pytest

from steerax.experiments.compare.text import _share_beyond_bigram


@pytest.mark.parametrize(
    ("bigram", "gpt", "floor", "share"),
    [
        ((0.2, 0.01), 0.05, 1.0, 0.75),
        ((0.2, 0.01), 0.3, 1.0, 0.0),  # worse than the bigram
        ((0.2, 0.01), -0.001, 1.0, 1.0),  # luck of the held-out sequences
        ((0.03, 0.01), 0.0, 1.0, None),  # within noise
        ((5e-5, 1e-9), 0.0, 1.0, None),  # nothing to gain
        ((0.2, 0.01), 0.05, None, None),  # no floor is known
    ],
)
def test_the_share_of_what_bayes_gains_over_the_bigram(bigram, gpt, floor, share):
    assert _share_beyond_bigram(bigram, gpt, floor) == (None if share is None else pytest.approx(share))
