"""Verdicts follow from numbers, results are kept, and each experiment runs at its quick size."""

import json

import numpy as np
import pytest

from steerax._errors import ConfigurationError
from steerax.experiments.reproduce import EXPERIMENTS, patterns, runner
from steerax.experiments.reproduce.outcome import FAILS, HOLDS, OPEN, at_least, at_most, if_trained


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, HOLDS), (1.0, HOLDS), (1.05, OPEN), (1.2, FAILS), (np.inf, FAILS), (np.nan, FAILS)]
)
def test_a_verdict_is_a_comparison_with_its_threshold(value, verdict):
    assert at_most("t", "s", value, 1.0, "e", margin=0.1).verdict == verdict
    assert at_least("t", "s", -value, -1.0, "e", margin=0.1).verdict == verdict


def test_a_failure_of_an_untrained_network_is_inconclusive():
    failed, held = at_most("t", "s", 2.0, 1.0, "e"), at_most("t", "s", 0.5, 1.0, "e")
    assert if_trained(failed, above=0.3).verdict == OPEN
    assert if_trained(failed, above=0.01).verdict == FAILS
    assert if_trained(held, above=0.3) == held


def test_columns_are_vertical_and_bands_are_diagonal():
    columns, bands = np.zeros((41, 40)), np.zeros((41, 40))
    columns[:, ::7] = 1.0
    for q in range(41):
        for lag in (1, 4):
            if q >= lag:
                bands[q, q - lag] = 1.0
    for matrix, vertical in ((np.tril(columns, -1), True), (bands, False)):
        v, d = patterns.verticality(matrix, 10), patterns.diagonality(matrix, 10)
        assert (v > 0.99, d > 0.99) == (vertical, not vertical)
        assert min(v, d) < 0.3
    assert patterns.within(bands, 1, 10) == pytest.approx(0.5)
    assert patterns.on_columns(np.tril(columns, -1), np.arange(40) % 7 == 0) == 1.0


def test_the_period_of_a_comb_is_the_distance_of_its_teeth():
    assert patterns.period(np.arange(60) % 9 == 0, 20)[0] in (9, 18)


def test_results_are_kept_until_the_configuration_changes(tmp_path):
    seen = []
    tell = lambda record, kept: seen.append((record["name"], kept))
    for again in (False, False, True):
        runner.reproduce(["duality"], tmp_path, quick=True, again=again, tell=tell)
    runner.reproduce(["duality"], tmp_path, quick=True, seed=1, tell=tell)
    assert [kept for _, kept in seen] == [False, True, False, False]
    record = json.loads((tmp_path / "duality.json").read_text())
    assert {c["verdict"] for c in record["claims"]} == {HOLDS}
    page = (tmp_path / "index.html").read_text()
    assert all(claim["evidence"].replace("'", "&#39;") in page for claim in record["claims"])
    assert (tmp_path / "duality.html").exists()


def test_rejects_an_unknown_experiment():
    with pytest.raises(ConfigurationError, match="two-cycle"):
        runner.configuration("two-cycles", quick=True)


def test_every_experiment_has_a_full_and_a_quick_configuration():
    for name in EXPERIMENTS:
        assert runner.configuration(name, quick=True) != runner.configuration(name, quick=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if n != "duality"])
def test_the_quick_version_runs_and_all_its_numbers_are_json(name):
    record = runner.perform(runner.Job(name, quick=True, seed=1))
    assert record["claims"]
    json.dumps(record, allow_nan=False)
