"""`steerax train` and `steerax sample`: from a text file to new text."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from steerax._errors import ConfigurationError, DataError
from steerax.cli.sample import sample
from steerax.cli.train import train


def call(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


TINY = ["--layers", 1, "--heads", 1, "--width", 8, "--block", 8, "--steps", 20, "--every", 10, "--batch", 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "a.txt").write_text("abracadabra " * 40)
    done = call(train, folder / "a.txt", "--out", folder / "out", *TINY, "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert numbers["steps"] == 20
    assert numbers["result"] == "finished"
    assert 0 < numbers["bigram_loss"] < numbers["held_out_loss"] < np.log(7)
    return folder


@pytest.mark.slow
def test_a_trained_model_writes_its_own_alphabet(folder):
    done = call(sample, folder / "out" / "model", "--prompt", "abra", "--tokens", 12, "--samples", 2, "--json")
    found = json.loads(done.stdout)
    assert [len(text) for text in found["texts"]] == [16, 16]
    assert set("".join(found["texts"])) <= set("abrcd ")
    again = call(sample, folder / "out" / "model", "--prompt", "abra", "--tokens", 12, "--samples", 2, "--json")
    assert again.stdout == done.stdout
    assert call(sample, folder / "out" / "model", "--prompt", "a", "--out", folder / "b.txt").stdout == ""
    assert len((folder / "b.txt").read_text()) == 202


def test_a_finished_run_resumes_to_the_same_numbers(folder):
    done = call(train, folder / "a.txt", "--out", folder / "out", *TINY, "--resume")
    assert done.exit_code == 0, done.output
    assert "finished after 20 steps" in done.output


@pytest.mark.parametrize(
    ("command", "arguments", "error", "message"),
    [
        (train, ["absent.txt"], DataError, "cannot be read"),
        (train, ["absent.npy"], ConfigurationError, "--vocabulary"),
        (train, ["pydoc", "--tokenizer", "word"], ConfigurationError, "char or bpe"),
        (train, ["pydoc", "--held-out", "1.5"], ConfigurationError, "between 0 and 1"),
    ],
)
def test_rejects_what_cannot_be_read(tmp_path, command, arguments, error, message):
    done = call(command, *arguments, "--out", tmp_path / "out")
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_rejects_a_prompt_outside_the_alphabet(folder):
    assert isinstance(call(sample, folder / "out" / "model", "--prompt", "xyz").exception, DataError)
