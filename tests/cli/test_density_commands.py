"""`fit`, `predict`, `explain` and `forecast` of hidden Markov models of numbers: the commands say what the library says."""

import csv
from pathlib import Path

import numpy as np
import pytest
from test_linear_commands import answer
from test_main import call

import steerax as sx


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Counts and a real channel of two regimes, with gaps, in two sequences."""
    E = sx.emissions
    emission = E.Product([E.Poisson([[1.0], [9.0]]), E.Gaussian([[0.0], [2.0]], [[[1.0]], [[0.2]]])])
    model = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], emission)
    monkeypatch.chdir(tmp_path)
    rows = []
    for name, seed in (("a", 0), ("b", 1)):
        z = np.array(sx.sample(model, seed, 80)[1])
        rows += [[name, "" if t % 17 == 3 else f"{int(n)}", repr(float(x))] for t, (n, x) in enumerate(z)]
    lines = ["unit,calls,load", *(",".join(row) for row in rows)]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return "table.csv", "--sequence", "unit"


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "emission"), [("calls", "poisson"), ("calls,load", "gaussian")])
def test_commands_agree_with_the_library(table, columns, emission, monkeypatch, capsys):
    where = *table, "--tokens", columns
    fit = answer(monkeypatch, capsys, "fit", *where, "--emission", emission, "--states", 2, "--held-out", 0.5)
    assert fit["emission"] == emission
    model, names = sx.load(fit["model"]), columns.split(",")
    assert model.channels == tuple(names)
    table = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    number = lambda text: float(text) if text else np.nan
    parts = [[[number(row[name]) for name in names] for row in table if row["unit"] == u] for u in ("a", "b")]
    parts = [np.array(part) for part in parts]
    data = sx.Sequences.from_arrays(parts, names=("a", "b"), columns=names)
    ahead = sx.forecast(model, data, 3)
    said = answer(monkeypatch, capsys, "predict", fit["model"], *where)["sequences"]
    np.testing.assert_allclose([row["mean"] for row in said], ahead.mean[:, 0], rtol=1e-9)
    steps = answer(monkeypatch, capsys, "forecast", fit["model"], *where, "--steps", 3, "--number", 1)["steps"]
    np.testing.assert_allclose([s["interval"] for s in steps], ahead.interval(0.9)[1], rtol=1e-9)
    why = answer(monkeypatch, capsys, "explain", fit["model"], *where, "--number", 1, "--html", "why.html")
    np.testing.assert_allclose(why["prior"] + why["sum_of_all_terms"], ahead.mean[1, 0, 0], rtol=1e-8)
    assert "calls" in Path("why.html").read_text()


@pytest.mark.slow
def test_what_has_no_mean_of_the_next_observation_is_explained_by_its_state(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    z = np.random.default_rng(0).normal(size=12).cumsum()
    Path("x.csv").write_text("\n".join(["a", *map(repr, z.tolist())]) + "\n")
    E, chain = sx.emissions, ([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])
    switching = E.Autoregressive([[0.0], [1.0]], [[[[0.9]]], [[[-0.5]]]], [[[0.2]], [[1.0]]])
    heavy = E.StudentT([[0.0], [1.0]], [[[1.0]], [[1.0]]], [1.0, 0.5])
    for number, emission in enumerate((switching, heavy)):
        model = sx.HiddenMarkovModel(*chain, emission)
        sx.save(model, f"model{number}")
        where = f"model{number}", "x.csv", "--tokens", "a"
        code, _, err = call(monkeypatch, capsys, "explain", *where)
        assert code == 2
        assert "--target state" in err
        said = answer(monkeypatch, capsys, "explain", *where, "--target", "state", "--html", f"{number}.html")
        belief = np.asarray(sx.filter(model, z).predicted)[-1]
        assert said["state"] == belief.argmax()
        np.testing.assert_allclose(said["prior"] + said["sum_of_all_terms"], belief.max(), rtol=1e-9)
        assert f"state {said['state']}" in Path(f"{number}.html").read_text()
    code, _, err = call(monkeypatch, capsys, "explain", *where, "--target", "mean")
    assert code == 2
    assert "choose next or state" in err


def test_regressions_on_known_inputs_read_those_of_the_future_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    own = sx.emissions.Regression([[1.0], [-1.0]], [[[2.0, -1.0]], [[-2.0, 1.0]]], [[[0.1]], [[0.1]]])
    true = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.05, 0.95]], own)
    z, ahead = np.asarray(sx.sample(true, 0, 60, inputs=rng.normal(size=(60, 2)))[1]), rng.normal(size=(2, 2))
    rows = [*(",".join(map(repr, row)) for row in z.tolist()), *(f",{a!r},{b!r}" for a, b in ahead.tolist())]
    Path("x.csv").write_text("\n".join(["y,price,holiday", *rows]) + "\n")
    asked = "fit", "x.csv", "--tokens", "y", "--states", 2
    regression = *asked, "--inputs", "price,holiday", "--emission", "regression"
    fit = answer(monkeypatch, capsys, *regression, "--restarts", 1, "--iterations", 5)
    model = sx.load(fit["model"])
    assert model.channels == ("y", "price", "holiday")
    assert fit["observed"] == 60
    exact = sx.forecast(model, z, 2, inputs=ahead)
    said = answer(monkeypatch, capsys, "predict", fit["model"], "x.csv")["sequences"]
    np.testing.assert_allclose(said[0]["mean"], exact.mean[0], rtol=1e-9)
    steps = answer(monkeypatch, capsys, "forecast", fit["model"], "x.csv", "--steps", 2)["steps"]
    np.testing.assert_allclose([s["interval"] for s in steps], exact.interval(0.9), rtol=1e-9)
    why = answer(monkeypatch, capsys, "explain", fit["model"], "x.csv", "--target", "state")
    belief = np.asarray(sx.filter(model, z).predicted)[-1]
    np.testing.assert_allclose(why["prior"] + why["sum_of_all_terms"], belief.max(), rtol=1e-9)
    for command, words in (
        (("forecast", fit["model"], "x.csv", "--steps", 3), "price, holiday at 3 times"),
        (("explain", fit["model"], "x.csv"), "depends on the inputs"),
        ((*asked, "--emission", "regression"), "name their columns"),
        ((*asked, "--inputs", "price", "--emission", "gaussian"), "of regressions"),
    ):
        code, _, err = call(monkeypatch, capsys, *command)
        assert code == 2
        assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--emission", "normal"), "--emission normal is unknown"),
        (("--emission", "poisson", "--model", "linear"), "a linear model has none"),
        (("--emission", "poisson"), "not among whole numbers"),
        (("--emission", "gaussian", "--shrinkage", "-1"), "shrinkage"),
    ],
)
def test_rejects_what_cannot_be_fitted(table, arguments, words, monkeypatch, capsys):
    code, _, err = call(monkeypatch, capsys, "fit", *table, "--tokens", "load", *arguments)
    assert code == 2
    assert words in err
