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
    pytest.param("sunspots", "SUNACTIVITY", 1, 2, 10, marks=pytest.mark.slow),
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


def promoted(folder, name="y.csv", last=115):
    """A table of two shops whose sales follow price and holidays; from time `last` on they are empty."""
    draw = np.random.default_rng(0)
    rows, parts = [], []
    for shop in "ab":
        x, w = 0.0, np.column_stack([draw.normal(15, 4, 120), draw.random(120) < 0.3])
        z = np.full(120, np.nan)
        for t in range(last):
            x = 0.8 * x + 0.3 * draw.normal()
            z[t] = np.nan if t % 17 == 5 else 10 + x + w[t] @ [-0.5, 3.0] + 0.1 * draw.normal()
        cells = ["" if np.isnan(v) else repr(float(v)) for v in z]
        rows += [f"{shop},{v},{float(p)!r},{int(h)}" for v, (p, h) in zip(cells, w, strict=True)]
        parts.append((z, w))
    (folder / name).write_text("\n".join(["shop,sales,price,holiday", *rows]) + "\n")
    return parts


@pytest.mark.slow
def test_known_inputs_are_named_remembered_and_put_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shops = promoted(tmp_path)
    columns = "--tokens", "sales", "--inputs", "price,holiday", "--sequence", "shop", "--held-out", "0"
    answer(monkeypatch, capsys, "fit", "y.csv", "--model", "linear", *columns, "--states", 1, "--out", "m")
    z, w = (np.stack(part) for part in zip(*shops, strict=True))
    fitted = sx.fit(sx.LinearGaussian(1, inputs=w), sx.Sequences.from_arrays(list(z)), 0, progress=False)
    D = fitted.input_weights
    np.testing.assert_allclose(D, [[-0.5, 3.0]], atol=0.1)
    assert sx.load("m").channels == ("sales",)
    kept = json.loads((tmp_path / "m" / "model.json").read_text())["inputs"]
    assert list(kept) == ["price", "holiday"]
    np.testing.assert_allclose([kept["price"], kept["holiday"]], D.T, rtol=1e-9)

    left = z[:, :, None] - w @ D.T
    right = sx.forecast(fitted.model, sx.Sequences.from_arrays(list(left[:, :115])), 5)
    ahead = right.mean + w[:, 115:] @ D.T
    first = answer(monkeypatch, capsys, "predict", "m", "y.csv")["sequences"]
    np.testing.assert_allclose([each["mean"] for each in first], ahead[:, 0], rtol=1e-8)
    for number in (0, 1):
        steps = answer(monkeypatch, capsys, "forecast", "m", "y.csv", "--number", number)["steps"]
        np.testing.assert_allclose([step["mean"] for step in steps], ahead[number], rtol=1e-8)
        ends = right.interval(0.9)[number] + (w[number, 115:] @ D.T)[..., None]
        np.testing.assert_allclose([step["interval"] for step in steps], ends, rtol=1e-8)
        why = answer(monkeypatch, capsys, "explain", "m", "y.csv", "--number", number)
        np.testing.assert_allclose(why["prediction"], ahead[number, 0, 0], rtol=1e-8)
        total = why["prior"] + why["of_inputs"] + why["sum_of_all_terms"]
        np.testing.assert_allclose(total, why["prediction"], atol=1e-12)
        seen = z[number, [term["position"] for term in why["terms"]]]
        np.testing.assert_allclose(
            [np.nan if term["observation"] is None else term["observation"] for term in why["terms"]], seen
        )
    why = answer(monkeypatch, capsys, "explain", "m", "y.csv", "--method", "news", "--html", "why.html")
    np.testing.assert_allclose(why["prediction"], ahead[0, 0, 0], rtol=1e-8)
    assert "News" in (tmp_path / "why.html").read_text()
    inside = answer(monkeypatch, capsys, "explain", "m", "y.csv", "--query", 60)
    before = sx.filter(fitted.model, left[0]).next(60).mean + w[0, 60] @ D.T
    np.testing.assert_allclose(inside["prediction"], before[0], rtol=1e-8)


@pytest.mark.slow
def test_held_out_series_and_pieces_keep_their_inputs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    promoted(tmp_path, last=120)
    options = "--model", "linear", "--tokens", "sales", "--sequence", "shop", "--states", 1, "--cut", 60
    with_, without = (
        answer(monkeypatch, capsys, "fit", "y.csv", *options, "--held-out", 0.25, *more, "--out", f"m{len(more)}")
        for more in (("--inputs", "price,holiday"), ())
    )
    assert with_["observed"] == without["observed"]
    # ½ log of how much less variance is left, and more
    assert with_["held_out_log_likelihood"] > without["held_out_log_likelihood"] + 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (None, ["forecast", "m", "y.csv", "--steps", "6"], "at 6 times after the last observation, and the data have them at 5"),
        ("no future", ["predict", "m", "y.csv"], "price, holiday at 1 time after the last observation"),
        ("no future", ["explain", "m", "y.csv"], "at 1 time after the last observation"),
        ("no column", ["predict", "m", "y.csv"], "no column 'holiday'"),
        ("a gap", ["predict", "m", "y.csv"], "The input 'price' is missing in row 3 of sequence a"),
        ("an array", ["predict", "m", "y.npy"], "no names of columns"),
        ("other weights", ["predict", "m", "y.csv"], "no numbers for 1 channels"),
        (None, ["fit", "y.csv", "--tokens", "shop", "--inputs", "price", "--out", "n"], "--model linear"),
        (None, ["fit", "y.csv", "--model", "linear", "--tokens", "sales", "--inputs", "price,price", "--out", "n"], "twice"),
        (None, ["fit", "y.csv", "--model", "linear", "--tokens", "sales", "--inputs", "sales", "--out", "n"], "twice"),
        (None, ["fit", "y.csv", "--model", "linear", "--tokens", "sales", "--inputs", "wind", "--out", "n"], "'wind'"),
    ],
)  # fmt: skip
def test_inputs_that_are_missing_are_one_sentence(change, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    promoted(tmp_path)
    model = sx.LinearGaussianModel([0.0], [[1.0]], [[[0.8]]], [[1.0]], [[0.1]], [[0.1]], [10.0], channels=("sales",))
    weights = {"price": [-0.5], "holiday": ["x" if change == "other weights" else 3.0]}
    sx.save(model, "m", format={"tokens": "sales", "sequence": "shop"}, inputs=weights)
    rows = (tmp_path / "y.csv").read_text().splitlines()
    if change == "no future":
        rows = [row for row in rows if row.split(",")[1]]
    if change == "no column":
        rows = [row.rpartition(",")[0] for row in rows]
    if change == "a gap":
        rows[3] = ",".join([*rows[3].split(",")[:2], "", "1"])
    (tmp_path / "y.csv").write_text("\n".join(rows) + "\n")
    np.save("y.npy", np.ones(9))
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert sum(not line.startswith("read ") for line in err.splitlines()) == 1
    assert not (tmp_path / "n").exists()
