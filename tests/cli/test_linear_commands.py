"""`fit`, `predict`, `explain` and `forecast` on real series with gaps: the commands say what the library says."""

import json

import numpy as np
import pytest
from test_main import call

import steerax as sx


def answer(monkeypatch, capsys, *arguments):
    code, out, err = call(monkeypatch, capsys, *arguments, "--json")
    assert code == 0, err
    assert all(line.startswith("read ") for line in err.splitlines()), err
    return json.loads(out)


SERIES = [
    ("sunspots", "SUNACTIVITY", 1, 2, 10),
    pytest.param("sunspots", "SUNACTIVITY", 1, 9, 200, marks=pytest.mark.slow),
    pytest.param("co2", "co2", 1, 3, 200, marks=pytest.mark.slow),
    pytest.param("macrodata", "infl,unemp,tbilrate", 3, 2, 200, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "columns", "states", "order", "iterations"), SERIES)
def test_commands_agree_with_the_library(name, columns, states, order, iterations, tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("statsmodels.api", reason="statsmodels (extra `bench`) is absent").datasets
    monkeypatch.chdir(tmp_path)
    z = np.asarray(getattr(datasets, name).load_pandas().data[columns.split(",")], float)
    where = f"statsmodels:{name}", "--tokens", columns
    sizes = "--states", states, "--order", order, "--iterations", iterations
    fit = answer(monkeypatch, capsys, "fit", *where, "--model", "linear", *sizes)
    assert fit["observed"] == np.isfinite(z).sum()
    model = sx.load(fit["model"])
    assert (model.order, model.n_states) == (order, states)
    np.testing.assert_allclose(sx.filter(model, z).log_likelihood, fit["log_likelihood"], rtol=1e-8)

    ahead = sx.forecast(model, z, 3)
    next_one = answer(monkeypatch, capsys, "predict", fit["model"], *where)["sequences"][0]
    np.testing.assert_allclose(next_one["mean"], ahead.mean[0], rtol=1e-9)
    steps = answer(monkeypatch, capsys, "forecast", fit["model"], *where, "--steps", 3)["steps"]
    np.testing.assert_allclose([s["interval"] for s in steps], ahead.interval(0.9), rtol=1e-9)
    why = answer(monkeypatch, capsys, "explain", fit["model"], *where)
    np.testing.assert_allclose(why["prior"] + why["sum_of_all_terms"], ahead.mean[0, 0], rtol=1e-8)


def test_a_table_written_to_a_file_gives_the_same_answer(tmp_path, monkeypatch, capsys):
    statsmodels = pytest.importorskip("statsmodels.api", reason="statsmodels (extra `bench`) is absent")
    monkeypatch.chdir(tmp_path)
    statsmodels.datasets.co2.load_pandas().data.iloc[:80].to_csv("co2.csv", index=False)  # 11 gaps
    model = sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.1]], [[0.1]], [317.0])
    sx.save(model, "model")
    z = np.genfromtxt("co2.csv", skip_header=1)
    assert np.isnan(z).any()
    found = answer(monkeypatch, capsys, "predict", "model", "co2.csv", "--tokens", "co2")["sequences"][0]
    np.testing.assert_allclose(found["mean"], sx.forecast(model, z, 1).mean[0], rtol=1e-12)


@pytest.mark.parametrize(("name", "column", "words"), [("lynxes", "a", "lynxes"), ("co2", "token", "--tokens")])
def test_unknown_packaged_series_and_columns_end_in_one_sentence(name, column, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip("statsmodels.api", reason="statsmodels (extra `bench`) is absent")
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, "fit", f"statsmodels:{name}", "--model", "linear", "--tokens", column)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err
    assert not list(tmp_path.iterdir())
