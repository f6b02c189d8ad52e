"""The comparison from end to end, at a size that takes seconds."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from browser import needs_browser, opened, overflow

import steerax as sx
from steerax._errors import CheckpointError, ConfigurationError
from steerax._results import RESULTS
from steerax.experiments.compare.config import Config
from steerax.experiments.compare.pipeline import Interrupted, report_unfinished, run

TINY = {"source": "two-cycle", "length": 16, "steps": 40, "samples": 8, "batch": 8}


pytestmark = pytest.mark.slow  # one comparison, whole


@pytest.fixture(scope="module")
def two_cycle(tmp_path_factory):
    config = Config(**TINY, out=str(tmp_path_factory.mktemp("compare") / "out"))
    return run(config)


def test_the_dual_filter_is_the_exact_filter(two_cycle):
    layers = two_cycle.dual_filter
    assert layers.difference_to_filter <= 1e-10
    assert layers.cross_entropy_by_layers[-1] == pytest.approx(layers.cross_entropy_of_the_filter, abs=1e-12)
    assert two_cycle.loss("dual filter, 17 layers")[0] == pytest.approx(two_cycle.loss("HMM filter")[0], abs=1e-12)
    assert 1 <= layers.layers_needed <= 16


def test_a_prior_plus_the_weights_is_the_prediction(two_cycle):
    window = two_cycle.window
    prior = sx.explain(two_cycle.hmm, window.tokens, queries="all", method="control").prior
    at_target = np.asarray(prior)[np.arange(window.length + 1), window.targets]
    np.testing.assert_allclose(at_target + window.weights.sum(1), window.probability["HMM"], atol=1e-12)


def test_control_is_zero_where_the_filter_is_certain(two_cycle):
    window = two_cycle.window
    assert 0 < window.certain.sum() < window.length
    assert np.abs(window.control[:, window.certain]).max() <= 1e-12
    assert (window.control[-1, ~window.certain] > 1e-3).any()


def test_the_exact_filter_is_at_the_entropy_floor_and_no_predictor_is_significantly_below(two_cycle):
    exact, error = two_cycle.loss("HMM filter")
    assert abs(exact - two_cycle.floor) < 4 * error
    for name in two_cycle.scores.scores:
        above, error = two_cycle.excess(name)
        assert above > -4 * error - 1e-12, name


def test_everything_is_written_and_every_number_is_in_the_json(two_cycle):
    folder = two_cycle.config.folder
    assert sorted(p.name for p in folder.iterdir()) == ["compare.html", "compare.json", "gpt", "hmm"]
    found = json.loads((folder / "compare.json").read_text())
    assert found["cross_entropy"]["GPT"]["nats_per_token"] == pytest.approx(two_cycle.loss("GPT")[0])
    figures = {f["title"]: f for f in found["figures"]}
    assert len(figures["Control of the dual filter"]["choices"]["size over all states"]) == 17
    np.testing.assert_array_equal(sx.load(folder / "hmm").emission, sx.models.two_cycle().emission)
    assert sx.load(folder / "gpt").config.block_size == 16


@pytest.mark.browser
@needs_browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light")])
def test_the_report_works_in_a_browser(two_cycle, width, scheme):
    with opened(two_cycle.config.folder / "compare.html", width, scheme) as (tab, faults):
        bars = "document.querySelectorAll('rect > title').length"
        before = tab.evaluate(bars)
        tab.locator("input[type=range]").fill("3")
        assert "P(next token = 1)" in tab.locator(".note").last.text_content()
        assert 0 < tab.evaluate(bars) < before
        assert overflow(tab) <= 1
        assert not faults


def test_a_table_with_ragged_sequences_and_gaps_goes_through(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["id,token"]
    for i in range(40):
        tokens = rng.choice(["up", "down", ""], size=rng.integers(2, 20), p=[0.5, 0.4, 0.1]).tolist()
        tokens[0] = "up"
        rows += [f"s{i},{t}" for t in tokens]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    options = {
        **TINY,
        "source": str(tmp_path / "table.csv"),
        "states": 2,
        "restarts": 1,
        "iterations": 5,
        "heads": 1,
        "layers": 1,
        "width": 8,
    }
    compared = run(Config(sequence="id", out=str(tmp_path / "out"), **options))
    assert all(np.isfinite(compared.loss(name)).all() for name in compared.scores.scores)
    assert compared.floor is None
    assert "missing" in compared.source.description
    json.loads((tmp_path / "out" / "compare.json").read_text())


def test_a_network_that_is_there_is_compared_without_training(tmp_path):
    sx.save_gpt(sx.GPT(sx.GPTConfig(2, 16, 1, 1, 8), key=0), tmp_path / "net")
    options = {"network": str(tmp_path / "net"), "length": 16, "samples": 8}
    compared = run(Config("even", out=str(tmp_path / "out"), **options))
    assert (compared.gpt.steps, compared.result) == (0, RESULTS.successful)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert f"It was read from {tmp_path / 'net'}" in page
    assert "AdamW" not in page
    assert "Training loss" not in page
    with pytest.raises(ConfigurationError, match="--length 16"):
        run(Config("even", out=str(tmp_path / "b"), **{**options, "length": 17}))
    with pytest.raises(ConfigurationError, match="2 tokens, the data 3"):
        run(Config("mess3", out=str(tmp_path / "b"), **options))
    assert not (tmp_path / "b").exists()
    with pytest.raises(ConfigurationError, match="overwrite"):
        run(Config("even", out=str(tmp_path / "out"), **options), resume=True)  # nothing is unfinished


def interrupt_after_first_checkpoint(folder):
    """Press Ctrl-C from another thread once there is a checkpoint."""

    def press():
        while not any((folder / "unfinished" / "gpt" / "checkpoints").glob("[0-9]*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


def test_an_interrupted_comparison_can_be_reported_and_resumed_to_the_same_numbers(tmp_path):
    options = {"length": 16, "samples": 8, "steps": 3000, "batch": 8}
    whole = run(Config(**options, out=str(tmp_path / "whole")))
    config = Config(**options, out=str(tmp_path / "cut"))
    interrupt_after_first_checkpoint(config.folder)
    with pytest.raises(Interrupted, match="--resume"):
        run(config)
    with pytest.raises(ConfigurationError, match="unfinished"):
        run(config)
    partial = report_unfinished(config)
    assert partial.result == RESULTS.interrupted
    assert 0 < partial.gpt.steps < 3000
    assert "interrupted" in (config.folder / "compare.html").read_text()
    with pytest.raises(CheckpointError, match="differs in data, options"):
        run(Config(**{**options, "seed": 1}, out=str(tmp_path / "cut")), resume=True)
    resumed = run(config, resume=True)
    np.testing.assert_array_equal(resumed.gpt.losses, whole.gpt.losses)
    assert {name: resumed.loss(name) for name in whole.scores.scores} == {n: whole.loss(n) for n in whole.scores.scores}
    assert not (config.folder / "unfinished").exists()
