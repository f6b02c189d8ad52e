"""fit, predict, explain and forecast on the command line."""

import contextlib
import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import steerax as sx
from steerax.cli.main import app
from steerax.runs import loop


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A text of two symbols, and a model learned from it."""
    folder = tmp_path_factory.mktemp("hmm")
    tokens = sx.sample_sequences(sx.models.two_cycle(5, 2), jax.random.key(0), 1, 400)[0]
    (folder / "text.txt").write_text("".join("ab"[z] for z in tokens))
    record = json.loads(
        call("fit", folder / "text.txt", "--states", 3, "--restarts", 1, "--iterations", 20, "--cut", 40,
             "--out", folder / "model", "--json")
    )  # fmt: skip
    assert record["training_cross_entropy"] < 0.69
    assert record["held_out_cross_entropy"] > 0
    return folder


def test_predict_gives_the_law_of_the_next_token(place):
    record = json.loads(call("predict", place / "model", place / "text.txt", "--out", place / "p.csv", "--json"))
    model, text = sx.load(place / "model"), (place / "text.txt").read_text()
    law = sx.filter(model, model.vocabulary.encode(list(text))).next(-1)
    assert record["sequences"][0]["next"]["a"] == pytest.approx(float(law[0]))
    assert (place / "p.csv").read_text().splitlines()[0] == "sequence,token,probability"
    assert "cross-entropy so far" in call("predict", place / "model", place / "text.txt")


def test_explain_adds_up(place):
    record = json.loads(call("explain", place / "model", place / "text.txt", "--token", "b", "--json"))
    assert record["prior"] + record["sum_of_all_terms"] == pytest.approx(record["probability"])
    assert len(record["terms"]) == 10
    assert "P(next = 'b')" in call("explain", place / "model", place / "text.txt", "--token", "b", "--query", 7)


@pytest.mark.slow
def test_explain_by_another_method_of_a_contrast_by_word_and_as_a_page(place):
    where = place / "model", place / "text.txt", "--query", 20
    model, text = sx.load(place / "model"), (place / "text.txt").read_text()[:20]
    z = model.vocabulary.encode(list(text))
    for method, more in (("deletion", ()), ("shapley", ("--orders", 6, "--seed", 3))):
        out = place / f"{method}.csv"
        record = json.loads(
            call(
                "explain",
                *where,
                "--method",
                method,
                *more,
                "--contrast",
                "b",
                "a",
                "--out",
                out,
                "--json",
                "--html",
                place / f"{method}.html",
            )
        )
        options = {"orders": 6, "key": 3} if more else {}
        e = sx.explain(model, z, method=method, contrast=("b", "a"), **options)
        rows = np.genfromtxt(out, delimiter=",", names=True, dtype=None, encoding="utf-8")[:20]
        np.testing.assert_allclose(rows["term"], e.weights[0, :, 0], atol=1e-12)
        np.testing.assert_allclose(record["difference"], e.prediction[0, 0], atol=1e-12)
        np.testing.assert_allclose(record["remainder"], e.remainder[0, 0], atol=1e-12)
        assert ("error" in rows.dtype.names) == bool(more)
        assert "b \\u2212 a" in (place / f"{method}.html").read_text()
    assert record["page"].endswith("shapley.html")
    told = call("explain", *where, "--by-word", "--token", "b")  # letters only: one word
    assert "from 1 pieces" in told
    assert "that none has alone" in call("explain", *where, "--method", "deletion")


def test_forecast_covers(place):
    record = json.loads(call("forecast", place / "model", place / "text.txt", "--steps", 3, "--json"))
    assert len(record["steps"]) == 3
    assert all(sum(step.values()) >= 0.9 for step in record["steps"])


def test_commands_reject_bad_input_in_one_sentence(place):
    with pytest.raises(sx.SteeraxError, match="no model called"):
        call("fit", place / "text.txt", "--model", "arma")
    with pytest.raises(sx.SteeraxError):
        call("predict", place / "nowhere", place / "text.txt")
    with pytest.raises(sx.DataError, match="no sequence 4"):
        call("explain", place / "model", place / "text.txt", "--number", 4)
    with pytest.raises(sx.DataError, match="not in the vocabulary"):
        call("explain", place / "model", place / "text.txt", "--token", "c")
    with pytest.raises(sx.ConfigurationError, match="choose one of 'integrated'"):
        call("explain", place / "model", place / "text.txt", "--method", "lime")
    with pytest.raises(sx.ConfigurationError, match="give one of them"):
        call("explain", place / "model", place / "text.txt", "--token", "a", "--contrast", "a", "b")
    np.save(place / "codes.npy", np.array([0, 1, 5]))
    with pytest.raises(sx.SteeraxError):
        call("forecast", place / "model", place / "codes.npy")


def test_an_interrupted_fit_goes_on_where_it_stopped(place, monkeypatch):
    arguments = ("fit", place / "text.txt", "--states", 3, "--iterations", 12, "--cut", 40, "--tolerance", 0, "--json")
    whole = json.loads(call(*arguments, "--out", place / "whole"))
    assert not (place / "whole.unfinished").exists()

    @contextlib.contextmanager
    def early():
        asked = iter([False] * 9)  # among three starts: none of them gets to the end
        yield lambda: next(asked, True)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "interruptible", early)
        part = json.loads(call(*arguments, "--out", place / "part"))
    assert part["iterations"] < 12
    assert part["outcome"] == sx.RESULTS[sx.RESULTS.interrupted]
    with pytest.raises(sx.ConfigurationError, match="go on with --resume"):
        call(*arguments, "--out", place / "part")
    resumed = json.loads(call(*arguments, "--out", place / "part", "--resume"))
    assert resumed | {"model": ""} == whole | {"model": ""}
    assert not (place / "part.unfinished").exists()
    with pytest.raises(sx.ConfigurationError, match="leave out --resume"):
        call("fit", place / "text.txt", "--model", "linear", "--resume")
