"""`steerax analyse`: a page, numbers as JSON, and one sentence for what it cannot read."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import steerax as sx
from steerax.cli.analyse import disjoint_windows
from steerax.cli.main import app


@pytest.mark.slow
def test_a_checkpoint_and_codes_become_a_page_and_numbers(small_gpt, tmp_path):
    gpt = small_gpt(n_layer=2, dtype="float32")
    sx.save(gpt, tmp_path / "model")
    np.save(tmp_path / "codes.npy", np.random.default_rng(0).integers(0, 7, 80))
    options = ["--data", str(tmp_path / "codes.npy"), "--out", str(tmp_path / "page.html"), "--windows", "4", "--json"]
    found = CliRunner().invoke(app, ["analyse", str(tmp_path / "model"), *options])
    assert found.exit_code == 0, found.output
    numbers = json.loads(found.stdout)
    assert np.isfinite(numbers["loss"])
    assert len(numbers["stationarity"]) == 2
    assert "<html" in (tmp_path / "page.html").read_text()


def test_windows_do_not_overlap_and_keep_every_code_once():
    rows = disjoint_windows(np.arange(23), 5, 100, seed=1)
    assert sorted(rows.ravel().tolist()) == list(range(20))
    assert (np.diff(rows, axis=1) == 1).all()
    with pytest.raises(sx.DataError, match="1 windows"):
        disjoint_windows(np.arange(9), 5, 4, seed=0)


def test_rejects_text_for_a_model_without_a_tokenizer(small_gpt, tmp_path):
    sx.save(small_gpt(n_layer=2, dtype="float32"), tmp_path / "model")
    (tmp_path / "text.txt").write_text("some text")
    found = CliRunner().invoke(app, ["analyse", str(tmp_path / "model"), "--data", str(tmp_path / "text.txt")])
    assert isinstance(found.exception, sx.DataError)
    assert "no tokenizer" in str(found.exception)
