"""Options of `compare`."""

import pytest

from steerax._errors import ConfigurationError
from steerax.experiments.compare.config import Config


@pytest.mark.parametrize("option", ["states", "restarts", "length", "samples", "steps", "width"])
def test_rejects_options_that_cannot_work(option):
    with pytest.raises(ConfigurationError, match=option):
        Config(**{option: 0})


def test_a_process_is_named_once():
    assert (Config().source, Config().name, str(Config("mess3(0.1, 0.7)").folder)) == (
        "mess3",
        "mess3",
        "compare/mess3-0.1-0.7",
    )
    own = Config(process="models/mine.json")
    assert (own.is_process, own.name) == (True, "mine")
    assert not Config("data.csv", process="models/mine.json").is_process
    with pytest.raises(ConfigurationError, match="rrxor is a process and --process names another"):
        Config("rrxor", process="models/mine.json")
    with pytest.raises(ConfigurationError, match="--width"):
        Config("rrxor", network="models/net", width=8)


def test_a_given_size_replaces_the_preset_and_quick_divides_the_steps_by_five():
    assert Config("two-cycle").shape == (1, 1, 8, 4000, 64)
    assert Config("two-cycle", quick=True).shape.steps == 800
    assert Config("corpus.txt", width=128, steps=7, quick=True).shape == (2, 4, 128, 7, 64)
