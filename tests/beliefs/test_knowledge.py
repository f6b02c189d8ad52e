"""Everything asked of a network at once, its sentences and its page; and the command."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import steerax as sx
from steerax.beliefs.knowledge import knowledge_of
from steerax.beliefs.page import page_of, write_html
from steerax.beliefs.streams import hidden_states
from steerax.cli import main as cli

MESS3 = sx.models.mess3()
GPT = sx.GPT(sx.GPTConfig(3, 8, 1, 1, 8), key=0)


@pytest.fixture(scope="module")
def strings():
    return np.asarray(sx.sample(MESS3, 0, 8, number=128)[1])


@pytest.fixture(scope="module")
def known(strings):
    return knowledge_of(GPT, MESS3, strings, 3)


@pytest.mark.slow
def test_what_was_measured_is_what_the_parts_measure(known, strings):
    alone = sx.beliefs.probe(GPT, MESS3, strings, key=3)
    np.testing.assert_array_equal(known.probed.r2, alone.r2)
    assert known.numbers["probes"]["layers"] == alone.layers
    assert known.ceiling == alone.nulls["wiener"][0]
    assert known.swapped.place == alone.layers[int(alone.r2.argmax())]
    assert f"{alone.r2.max():.3f}" in known.sentence
    assert f"{known.attention.filter.rate:.2f}" in known.prediction


def test_the_page_has_every_part_and_leaves_out_what_was_not_measured(known, strings, tmp_path):
    titles = [f["title"] for s in page_of(known, "mess3").sections for f in s.figures]
    assert len(titles) == 5
    states = hidden_states(GPT, strings)
    captured = knowledge_of({"mine": states[1]}, MESS3, strings)
    assert [f["kind"] for s in page_of(captured, "mess3").sections for f in s.figures] == ["clouds", "table"]
    write_html(captured, tmp_path / "a.html", "mess3")
    with pytest.raises(sx.ConfigurationError, match="exists"):
        write_html(captured, tmp_path / "a.html", "mess3")
    assert "mess3" in (tmp_path / "a.html").read_text()


def test_too_few_strings_for_a_regression_leave_attention_out(strings):
    few = knowledge_of(GPT, MESS3, strings[:40])
    assert few.known
    assert few.attention is None
    assert "40 strings are too few, 96 are needed" in few.prediction
    assert any("96 are needed" in text for s in page_of(few, "mess3").sections for text in s.text)


def test_what_cannot_be_asked_is_a_sentence(strings):
    coin = knowledge_of(sx.GPT(sx.GPTConfig(2, 8, 1, 1, 8), key=0), sx.models.coin(), strings % 2)
    assert (coin.known, coin.attention) == (False, None)
    assert "one state" in coin.sentence
    assert "too few" in knowledge_of(GPT, MESS3, strings[:5]).sentence
    assert page_of(coin, "coin").sections


def run(*words):
    return CliRunner().invoke(cli.app, ["beliefs", *map(str, words)], catch_exceptions=True)


@pytest.mark.slow
def test_the_command_reads_checkpoints_and_captured_activations(strings, tmp_path):
    sx.save_gpt(GPT, tmp_path / "gpt")
    done = run(tmp_path / "gpt", "mess3", "--strings", 128, "--out", tmp_path / "b.html", "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert set(numbers["beliefs"]) == {"probes", "swap", "attention"}
    assert (tmp_path / "b.html").exists()
    np.savez(tmp_path / "x.npz", mine=hidden_states(GPT, strings)[1])
    np.save(tmp_path / "z.npy", strings)
    (tmp_path / "p.json").write_text(
        json.dumps({"operators": np.asarray(sx.models.as_generalised(MESS3).operators).tolist()})
    )
    done = run(tmp_path / "x.npz", tmp_path / "p.json", "--data", tmp_path / "z.npy", "--out", tmp_path / "c.html")
    assert done.exit_code == 0, done.output
    assert "mine" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [(["gpt", "mess3", "--out", "taken.html"], "taken.html"), (["gpt", "casino"], "tokens"), (["gpt", "nothing.json"], "nothing.json"),
     (["gpt", "mess3", "--length", "9"], "reads 8 tokens"), (["x.npz", "mess3"], "--data"), (["nowhere", "mess3"], "nowhere"),
     (["gpt", "mess3", "--data", "z.npy"], "--data")],
)  # fmt: skip
def test_rejects_bad_input_in_one_sentence(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sx.save_gpt(GPT, "gpt")
    (tmp_path / "taken.html").write_text("mine")
    (tmp_path / "x.npz").write_bytes(b"")
    done = run(*words)
    assert isinstance(done.exception, sx.SteeraxError)
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)
    assert (tmp_path / "taken.html").read_text() == "mine"
