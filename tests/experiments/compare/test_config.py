"""Options of `compare`."""

import pytest

from steerax._errors import ConfigurationError
from steerax.experiments.compare.config import Config


@pytest.mark.parametrize("option", ["states", "restarts", "length", "samples", "steps", "width"])
def test_rejects_options_that_cannot_work(option):
    with pytest.raises(ConfigurationError, match=option):
        Config(**{option: 0})


def test_a_given_size_replaces_the_preset_and_quick_divides_the_steps_by_five():
    assert Config("two-cycle").shape == (1, 1, 8, 4000, 64)
    assert Config("two-cycle", quick=True).shape.steps == 800
    assert Config("corpus.txt", width=128, steps=7, quick=True).shape == (2, 4, 128, 7, 64)
